"""``restart()`` puts other daemons in the place of those of now; changed files are noticed."""

import importlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from live.mischief import SOON, running
from mirai_executor import MiraiExecutor
from mirai_executor._payload.host import CallEncoder, functions

pytestmark = pytest.mark.local_link("is about daemons that are forked here")

NAME = "module_that_is_edited"


@pytest.fixture
def edit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Write a module whose function returns a number: each time one that is longer."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(number: int) -> None:
        (tmp_path / f"{NAME}.py").write_text(f"def number():\n    return {number}\n")
        importlib.invalidate_caches()

    yield write
    sys.modules.pop(NAME, None)


def module() -> Any:
    found: ModuleType = importlib.import_module(NAME)
    return found


def test_new_daemons_import_what_has_changed_and_begin_as_the_first_ones_did(
    edit: Callable[[int], None], tmp_path: Path
) -> None:
    edit(1)
    with running(initializer=os.chdir, initargs=(tmp_path,)) as executor:
        executor.everywhere("ready = 7")
        before = executor.status().rows
        assert executor.submit(module().number).result(SOON) == 1
        edit(22)
        executor.restart()
        assert executor.submit(module().number).result(SOON) == 22
        assert executor.submit(os.getcwd).result(SOON) == str(tmp_path)
        assert executor.submit_source("ready").result(SOON) == 7
        pid = executor.submit(os.getpid).result(SOON)
        assert pid not in {row.pid for row in before}
        parent = executor.submit(os.getppid).result(
            SOON
        )  # the new fork server, where there is one
        executor.restart()
        assert executor.submit(os.getppid).result(SOON) != parent or parent == os.getpid()


def test_a_restart_before_the_first_task_and_two_in_a_row_change_nothing() -> None:
    with MiraiExecutor(1) as executor:
        executor.restart()
        assert executor.submit(abs, -1).result(SOON) == 1
        executor.restart()
        executor.restart()
        assert executor.submit(abs, -2).result(SOON) == 2


def test_after_a_shutdown_and_with_a_url_there_is_nothing_to_restart() -> None:
    executor = MiraiExecutor(1)
    executor.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.restart()
    with (
        MiraiExecutor(url="tcp://127.0.0.1:0") as elsewhere,
        pytest.raises(RuntimeError, match="not a url"),
    ):
        elsewhere.restart()


def test_a_changed_file_is_named_once_until_it_changes_again(
    edit: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(functions, "monotonic", lambda: now)
    encoder = CallEncoder()

    def encode() -> list[str]:
        nonlocal now
        now += 2.0  # longer than between two looks
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            encoder.encode(module().number, (), {})
        return [str(warning.message) for warning in caught]

    edit(1)
    assert encode() == encode() == []
    edit(22)
    (message,) = encode()
    assert f"{NAME}.py has changed" in message
    assert encode() == []
    edit(333)
    importlib.reload(module())
    assert len(encode()) == 1, "daemons still have the old one"
    edit(4444)
    encoder.forget_files()
    assert encode() == [], "new daemons have it"
