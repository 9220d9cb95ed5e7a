"""Reads the page of parity: each row has its tests, which exist, or its reason."""

import re
from pathlib import Path

import mirai_executor

ROOT = Path(__file__).parents[2]
# What it exports.
NAMES = (
    ".flat .progress .stop call_mirai cluster_config collect_mirai daemon daemons daemons_set "
    "everywhere host_url http_config info is_error_value is_mirai is_mirai_error "
    "is_mirai_interrupt is_mirai_map launch_local launch_remote local_daemons local_url "
    "make_cluster mirai mirai_map nextcode nextget nextstream on_daemon race_mirai "
    "register_serial remote_config require_daemons serial_config ssh_config status "
    "stop_cluster stop_mirai try_mirai unresolved with_daemons"
)
TEST = r"`(tests/\S+\.py)::(test_\w+)`"


def rows() -> dict[str, str]:
    """Return the last cell of each row."""
    text = (ROOT / "docs/parity.md").read_text()
    return dict(re.findall(r"^\| ([A-S]\d+) \|.*\| (.+?) \|$", text, re.MULTILINE))


def test_the_page_has_each_row_of_the_survey() -> None:
    sizes = {"A": 16, "B": 10, "C": 17, "D": 18, "E": 19, "F": 19, "G": 11, "H": 14, "I": 5}
    sizes |= {"J": 13, "K": 5, "L": 6, "M": 7, "N": 8, "O": 5, "P": 5, "Q": 5, "R": 7, "S": 13}
    wanted = [f"{letter}{n + 1}" for letter, size in sizes.items() for n in range(size)]
    assert list(rows()) == wanted
    assert len(wanted) == 203


def test_each_row_has_tests_or_a_reason() -> None:
    for row, cell in rows().items():
        assert re.match(TEST, cell) or re.match(r"— \w.{15,}\.$", cell), (row, cell)


def test_each_test_that_a_row_names_exists() -> None:
    named = {found for cell in rows().values() for found in re.findall(TEST, cell)}
    assert len(named) > 100
    for path, name in named:
        assert re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.MULTILINE), name


def test_each_name_that_mirai_exports_is_in_the_page_for_its_users() -> None:
    names = NAMES.split()
    text = (ROOT / "docs/mirai.md").read_text().replace("[.", " .")
    for name in names:
        assert re.search(rf"`[^`\n]*(?<![\w.]){re.escape(name)}\b[^`\n]*`", text), name
    same = len(set(names) & set(mirai_executor.__all__))
    said = f"| [{same} of them by the same name, {len(names) - same} by others](mirai.md#names) |"
    assert (len(names), said in (ROOT / "docs/parity.md").read_text()) == (41, True)
