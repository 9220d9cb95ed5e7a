"""Reads the pages as text: whether they are linked, complete, and fit into a window."""

import re
from pathlib import Path

import pytest

import mirai_executor
from comparison.run import LABELS, TABLES, stated
from mirai_executor._daemon_options import OPTIONS, Option

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
DECISIONS = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))
ECOSYSTEM = sorted((ROOT / "docs/ecosystem").glob("*.md"))
ALL_PAGES = [*PAGES, ROOT / "docs/decisions/index.md", *DECISIONS, *ECOSYSTEM]
# Pages that include a file of the root, which README links itself; and the start page.
SHELLS = {"index.md", "contributing.md", "security.md"}
COLUMNS = 79
PARTS = ["Context", "Decision", "What was measured", "What it costs", "Where in the code"]


def links_of(text: str) -> set[str]:
    return {target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)}


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT).with_suffix(""))


def public_methods(kind: type) -> set[str]:
    names = {name for base in kind.__mro__ for name in vars(base) if is_ours(base)}
    return {name for name in names if not name.startswith("_")}


def is_ours(kind: type) -> bool:
    return kind.__module__.startswith("mirai_executor")


def documented(directive: str) -> set[str]:
    text = (ROOT / "docs/reference.md").read_text()
    return set(re.findall(rf"\.\. auto{directive}:: (?:mirai_executor\.)?(\w+)", text))


def test_readme_links_every_page_of_the_docs() -> None:
    pages = {f"docs/{page.name}" for page in PAGES[1:] if page.name not in SHELLS}
    assert pages <= links_of(README)
    others = {"CONTRIBUTING.md", "SECURITY.md", "docs/decisions/index.md"}
    assert others <= links_of(README)


@pytest.mark.parametrize("page", ["SECURITY.md", "docs/guarantees.md"])
def test_each_promise_names_tests_that_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    rows = re.findall(r"^\| .* \| .* \| (.*) \|$", text, re.MULTILINE)
    promises = [tests for tests in rows[1:] if tests != "test"]  # the head of another table
    assert len(promises) > 10
    for tests in promises:
        assert re.fullmatch(r"`tests/\S+::test_\w+`(, `tests/\S+::test_\w+`)*", tests), tests
    for path, name in set(re.findall(r"`(tests/\S+)::(test_\w+)`", text)):
        assert re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.MULTILINE), name


@pytest.mark.parametrize("page", DECISIONS, ids=name_of)
def test_a_decision_says_why_what_it_gained_what_it_costs_and_where_it_is(page: Path) -> None:
    title, *rest = page.read_text().split("\n")
    assert title.startswith("# ")
    assert [line[3:] for line in rest if line.startswith("## ")] == PARTS


def test_the_list_of_decisions_has_each_of_them_with_its_title() -> None:
    text = (ROOT / "docs/decisions/index.md").read_text()
    titles = {page: page.read_text().partition("\n")[0][2:] for page in DECISIONS}
    entries = {f"- [{int(page.name[:2])}. {titles[page]}]({page.name})" for page in DECISIONS}
    assert entries == {line for line in text.split("\n") if line.startswith("- [")}
    tree = text.partition("```{toctree}")[2]
    assert [page.stem for page in DECISIONS] == re.findall(r"^\d\d-\S+$", tree, re.MULTILINE)


@pytest.mark.parametrize("page", ALL_PAGES, ids=name_of)
def test_a_page_links_only_to_files_that_exist(page: Path) -> None:
    local = {link for link in links_of(page.read_text()) if link and "://" not in link}
    assert [link for link in sorted(local) if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", ALL_PAGES, ids=name_of)
def test_the_code_of_a_page_fits_into_79_columns(page: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    assert [line for block in blocks for line in block.split("\n") if len(line) > COLUMNS] == []


def test_the_reference_documents_every_public_name() -> None:
    names = documented("function") | documented("class") | documented("exception")
    assert set(mirai_executor.__all__) - {"__version__"} <= names


def test_the_reference_documents_every_method_of_the_executor() -> None:
    described = documented("method") | documented("property")
    assert public_methods(mirai_executor.MiraiExecutor) <= described


@pytest.mark.parametrize("page", TABLES)
def test_the_table_of_a_page_has_every_feature_that_is_tried(page: str) -> None:
    cells = stated(ROOT / page)
    tried = {(label, feature) for label in LABELS.values() for feature in TABLES[page]}
    assert tried <= cells.keys()
    assert {cells[key] for key in tried} == {"yes", "no"}


def test_llms_txt_names_every_page_of_the_site() -> None:
    folder = ROOT / "docs"
    text = (folder / "llms.txt").read_text()
    pages = {*folder.glob("*.md"), folder / "ecosystem/index.md", folder / "decisions/index.md"}
    names = {str(page.relative_to(folder).with_suffix(".html")) for page in pages}
    assert links_of(text) == names - {"index.html"}


def test_words_defines_each_word_once() -> None:
    rows = re.findall(
        r"^\| (?!word|--)(.+?) \|", (ROOT / "docs/words.md").read_text(), re.MULTILINE
    )
    words = [word for row in rows for word in row.split(", ")]
    assert len(words) > 60
    assert len(words) == len(set(words))


def test_each_line_of_the_page_of_compatibility_names_its_test() -> None:
    text = (ROOT / "docs/compatibility.md").read_text()
    rows = re.findall(r"^\| (?!\||why|test)(.+) \| (.+?) \|$", text, re.MULTILINE)
    named = [re.findall(r"`(test_\w+)`", tests) for _, tests in rows]
    assert len(rows) > 40
    assert all(named)
    files = (ROOT / "tests").rglob("test_*.py")
    there = {name for file in files for name in re.findall(r"def (test_\w+)", file.read_text())}
    assert [name for names in named for name in names if name not in there] == []


def test_the_page_of_daemons_elsewhere_has_their_options_from_the_code() -> None:
    page = (ROOT / "docs/remote.md").read_text()
    assert "\n{{ daemon_options }}\n" in page  # conf.py says what that is, or the build fails
    written = re.findall(r"^\| `--(?:no-)?([\w-]+)", page, re.MULTILINE)
    assert written == []


@pytest.mark.parametrize("option", OPTIONS.values(), ids=OPTIONS)
def test_what_is_said_of_an_option_can_stand_in_a_help_text_and_in_a_table(option: Option) -> None:
    assert option.description[0].islower()
    assert not set(option.description) & set("|`*<>%")
