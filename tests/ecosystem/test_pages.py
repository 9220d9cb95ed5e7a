"""Runs the examples of the pages about other libraries, and compares what they print."""

from pathlib import Path

import pytest

from docs.test_examples import check_examples

PAGES = sorted((Path(__file__).parents[2] / "docs/ecosystem").glob("[!i]*.md"))


@pytest.mark.timeout(240)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_examples_of_a_page_print_what_it_shows(page: Path, tmp_path: Path) -> None:
    check_examples(page, tmp_path)
