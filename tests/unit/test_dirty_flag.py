"""The functions that a flag watches, by each name under which programs call them."""

import contextlib
import ctypes
import os
import pickle
import signal
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mirai_executor.daemon._cleanup import Snapshot
from mirai_executor.daemon._dirty_flag import DirtyFlag

NONE: frozenset[str] = frozenset()


@pytest.fixture
def flag() -> Iterator[DirtyFlag]:
    """One that is shut. What the tests here change is put back: pytest has a timer of its own."""
    here, handler = Path.cwd(), signal.getsignal(signal.SIGUSR1)
    timer = signal.setitimer(signal.ITIMER_REAL, 0)
    os.environ["LATCHED"] = "0"
    flag = DirtyFlag()
    flag.is_set = False
    yield flag
    flag.close()
    os.chdir(here)
    os.environ.pop("LATCHED", None)
    signal.signal(signal.SIGUSR1, handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
    signal.setitimer(signal.ITIMER_REAL, *timer)


def change_directory_by_descriptor() -> None:
    descriptor = os.open("/", os.O_RDONLY)
    try:
        os.fchdir(descriptor)
    finally:
        os.close(descriptor)


def change_directory_for_a_while() -> None:
    with contextlib.chdir("/"):
        pass


def call_libc_chdir() -> None:
    assert ctypes.CDLL(None).chdir(b"/") == 0


WATCHED: dict[str, Callable[[], object]] = {
    "signal.signal": lambda: signal.signal(signal.SIGUSR1, lambda *_: None),
    "signal.pthread_sigmask": lambda: signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1}),
    "signal.setitimer": lambda: signal.setitimer(signal.ITIMER_REAL, 1000),
    "signal.alarm": lambda: signal.alarm(1000),
    "signal.set_wakeup_fd": lambda: signal.set_wakeup_fd(-1),
    "os.chdir": lambda: os.chdir("/"),
    "os.fchdir": change_directory_by_descriptor,
    "os.putenv": lambda: os.putenv("LATCHED", "1"),
    "os.unsetenv": lambda: os.unsetenv("LATCHED"),
    "os.environ[]": lambda: os.environ.__setitem__("LATCHED", "1"),
    "os.environ.update": lambda: os.environ.update(LATCHED="1"),
    "os.environ.pop": lambda: os.environ.pop("LATCHED"),
    "os.environb.update": lambda: os.environb.update({b"LATCHED": b"1"}),
    "contextlib.chdir": change_directory_for_a_while,
}


@pytest.mark.parametrize("name", WATCHED)
def test_a_watched_function_sets_the_flag(flag: DirtyFlag, name: str) -> None:
    flag.is_set = False  # pytest itself sets a variable of the environment for each test
    WATCHED[name]()
    assert flag.is_set


def test_other_functions_leave_it_shut(flag: DirtyFlag) -> None:
    flag.is_set = False
    signal.getsignal(signal.SIGUSR1)
    signal.getitimer(signal.ITIMER_REAL)
    Path.cwd().stat()
    assert not flag.is_set


def test_a_watched_function_does_what_it_did(flag: DirtyFlag, tmp_path: Path) -> None:
    os.chdir(tmp_path)
    assert Path.cwd() == tmp_path
    with pytest.raises(FileNotFoundError):
        os.chdir(tmp_path / "missing")
    assert os.chdir.__name__ == "chdir"
    assert os.chdir in os.supports_fd
    assert pickle.loads(pickle.dumps(os.chdir)) is os.chdir
    assert pickle.loads(pickle.dumps(signal.alarm)) is signal.alarm


def test_a_flag_that_is_closed_leaves_nothing() -> None:
    before = (os.chdir, signal.alarm, signal.signal, frozenset(os.supports_fd))
    flag = DirtyFlag()
    assert os.chdir is not before[0]
    flag.close()
    assert (os.chdir, signal.alarm, signal.signal, frozenset(os.supports_fd)) == before


def test_a_snapshot_that_goes_by_its_flag_restores_what_a_watched_function_has_changed(
    flag: DirtyFlag, tmp_path: Path
) -> None:
    snapshot = Snapshot(types.ModuleType("main"), flag)
    here = Path.cwd()
    for _ in range(2):
        os.chdir(tmp_path)
        snapshot.restore(NONE, by_flag=True)
        assert Path.cwd() == here
    snapshot.restore(NONE, by_flag=True)  # what restoring itself has called
    assert not flag.is_set


def test_a_snapshot_that_goes_by_its_flag_asks_for_nothing_else(flag: DirtyFlag) -> None:
    snapshot = Snapshot(types.ModuleType("main"), flag)
    here = Path.cwd()
    snapshot.restore(NONE)
    call_libc_chdir()
    snapshot.restore(NONE, by_flag=True)
    assert Path.cwd() == Path("/")
    snapshot.restore(NONE)
    assert Path.cwd() == here


def test_a_snapshot_that_goes_by_its_flag_looks_at_all_the_rest(flag: DirtyFlag) -> None:
    main = types.ModuleType("main")
    snapshot = Snapshot(main, flag)
    snapshot.restore(NONE)
    vars(main)["left"] = 1
    os.environ["LEFT_BY_A_TASK"] = "1"
    snapshot.restore(NONE, by_flag=True)
    assert "left" not in vars(main)
    assert "LEFT_BY_A_TASK" not in os.environ
