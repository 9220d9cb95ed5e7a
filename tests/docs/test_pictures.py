"""Looks whether a picture still shows what its program finds."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

PICTURES = Path(__file__).parents[2] / "docs/pictures"


def program(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, PICTURES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.live
def test_the_lives_of_tasks_are_as_the_picture_shows_them() -> None:
    found = program("life").stories()
    text = (PICTURES / "life.svg").read_text()
    shown = re.findall(r'class="(event|command)"[^>]*>([^<]*)<', text)
    assert [step for steps in found.values() for step in steps] == shown
    assert all(f">{title}<" in text for title in found)


def test_a_daemon_and_a_stranger_prove_themselves_as_the_picture_shows_it() -> None:
    picture = program("security")
    found = picture.conversations()
    text = (PICTURES / "security.svg").read_text()
    assert text == picture.draw(found)
    shown = re.findall(r'class="frame">(\w+)<', text)
    assert [name for frames in found.values() for _, name in frames] == shown
    assert shown == ["Hello", "Challenge", "Proof", "Welcome", "Hello", "Refused"]
