"""Reads the page of parity: each row has its tests, which exist, or its reason."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Rows of what is being built; each leaves this line with its tests in the page.
PENDING = (
    "A13 D9 D10 D11 D12 E11 E13 F15 G6 G10 H1 H2 H3 H4 H5 H6 H7 H8 H10 H14 I5 L1 L2 L3 L4 L5 L6 "
    "M1 M2 M4 N1 N2 N3 N4 N5 N6 N7 N8 O1 O2 O3 P1 P4 R1 R2 R3 R4 R5 R6 R7"
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
    cells = rows()
    assert {row for row, cell in cells.items() if cell == "pending"} == set(PENDING.split())
    for row, cell in cells.items():
        if cell != "pending":
            assert re.match(TEST, cell) or re.match(r"— \w.{15,}\.$", cell), (row, cell)


def test_each_test_that_a_row_names_exists() -> None:
    named = {found for cell in rows().values() for found in re.findall(TEST, cell)}
    assert len(named) > 100
    for path, name in named:
        assert re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.MULTILINE), name
