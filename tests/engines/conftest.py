"""Marks what needs an engine; their clients warn of much, and leave threads for good."""

from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker("engines")
            item.add_marker(pytest.mark.filterwarnings("default"))
