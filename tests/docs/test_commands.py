"""Checks the commands that README and the pages show for a shell: whatever they name exists.

None of them is run here, as all of them install or test something; one of a kind that this file
does not know fails, so that somebody looks.
"""

import configparser
import importlib.util
import re
import shlex
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tqdm import tqdm  # type: ignore[import-untyped,unused-ignore]

from mirai_executor.cli import _parser

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WIDTH = 88  # columns of a terminal, as the docs show one
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKED = (ROOT / "requirements.lock").read_text()
TOX = configparser.ConfigParser(interpolation=None)
TOX.read(ROOT / "tox.ini")


def blocks() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for found in BLOCK.finditer(page.read_text()):
            yield page.name, found[1]


def commands_of(block: str) -> Iterator[list[str]]:
    """Yield the words of each command of a block."""
    for line in block.splitlines():
        words = shlex.split(line, comments=True)
        while "&&" in words:
            at = words.index("&&")
            yield words[:at]
            words = words[at + 1 :]
        if words:
            yield words


class Shell:
    """Looks at commands in the order in which a reader types them."""

    def __init__(self) -> None:
        self._environments: set[str] = set()

    def check(self, words: Sequence[str]) -> None:
        """Fail if a command names what is not there, or is of a kind that nobody checks."""
        folder, _, program = words[0].rpartition("/bin/")
        assert not folder or folder in self._environments, f"nobody has made {folder}"
        match [program, *words[1:]]:
            case ["python3", "-m", "venv", made]:
                self._environments.add(made)
            case ["python" | "python3", "-m", "mirai_executor", *rest]:
                assert importlib.util.find_spec("mirai_executor.__main__") is not None
                _parser().parse_args(rest)
            case ["mirai-executor", *rest]:
                assert PROJECT["scripts"]["mirai-executor"] == "mirai_executor.cli:main"
                _parser().parse_args(rest)
            case ["pip", "install", *rest]:
                check_installed(rest)
            case ["pytest", "-q"]:
                pass  # tests/ecosystem/test_pages.py runs it
            case ["tox", *rest]:
                check_tox(rest)
            case _:
                raise AssertionError(f"a command that nobody checks: {shlex.join(words)}")


def check_installed(words: Sequence[str]) -> None:
    match words:
        case ["-c", constraints, *rest]:
            assert (ROOT / constraints).is_file()
            check_installed(rest)
        case [what]:
            check_requirement(what)
        case _:
            raise AssertionError(f"pip install {shlex.join(words)}")


def check_requirement(what: str) -> None:
    """Fail if a requirement is neither this project, with its extras, nor locked."""
    found = re.fullmatch(r"([\w.-]+?)(?:\[([\w,]+)\])?", what)
    assert found is not None, what
    name, extras = found.groups()
    if name in (".", PROJECT["name"]):
        assert set(extras.split(",") if extras else ()) <= set(PROJECT["optional-dependencies"])
    else:
        assert re.search(rf"^{re.escape(name)}==", LOCKED, re.MULTILINE), f"{name} is not locked"


def check_tox(words: Sequence[str]) -> None:
    """Fail if ``tox -e`` gets what is no environment; what comes behind ``--`` is pytest's."""
    match words:
        case [] | ["--", *_]:
            pass
        case ["-e", names, *rest]:
            assert set(names.split(",")) <= set(environments()), names
            check_tox(rest)
        case _:
            raise AssertionError(f"tox {shlex.join(words)}")


def environments() -> Iterator[str]:
    """Yield what ``tox -e`` takes: sections of tox.ini, and the Pythons of the classifiers."""
    for section in TOX.sections():
        first, _, rest = section.removeprefix("testenv:").partition("{")
        ends, _, after = rest.partition("}")
        yield from (f"{first}{end}{after}" for end in ends.split(","))
    yield "py"
    for line in PROJECT["classifiers"]:
        if found := re.fullmatch(r".* :: 3\.(\d+)", line):
            yield f"py3{found[1]}"


@pytest.mark.parametrize(("page", "block"), list(blocks()))
def test_each_command_of_a_block_names_what_exists(page: str, block: str) -> None:
    shell = Shell()
    for words in commands_of(block):
        shell.check(words)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if "`tox -e" in page.read_text()], ids=lambda page: page.stem
)
def test_each_environment_of_tox_that_a_text_names_exists(page: Path) -> None:
    for command in re.findall(r"`(tox -e [^`]*)`", page.read_text()):
        Shell().check(shlex.split(command))


def test_the_bar_that_a_page_shows_is_one_of_tqdm() -> None:
    page = (ROOT / "docs/everyday.md").read_text()
    (shown,) = re.findall(r"^```console\n(.*)\n^```$", page, re.MULTILINE)
    done, hours = 2 + 4 * 0.6, 7800.0
    words = {"prefix": "training", "postfix": "epoch 3 of seed 5"}
    assert shown == tqdm.format_meter(done, 10, hours, ncols=WIDTH, **words)


@pytest.mark.parametrize(
    "command",
    [
        "tox -e nothing",
        "tox -p",
        "pip install mirai-executor[nothing]",
        "pip install -c nothing.lock tox",
        "pip install no-such-package",
        "pip uninstall tox",
        ".venv/bin/tox -e py",
        "rm -r .venv",
    ],
)
def test_what_does_not_exist_or_nobody_knows_is_seen(command: str) -> None:
    with pytest.raises(AssertionError):
        Shell().check(shlex.split(command))


@pytest.mark.parametrize("command", ["mirai-executor dmon", "python -m mirai_executor demo --no"])
def test_a_wrong_option_of_ours_is_seen(command: str) -> None:
    with pytest.raises(SystemExit):
        Shell().check(shlex.split(command))
