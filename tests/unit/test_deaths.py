"""How the end of a child process is noticed, with and without pidfds."""

import errno
import os
import select
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from mirai_executor._local import _ends

PATIENCE = 20.0


@pytest.fixture
def child() -> "Iterator[subprocess.Popen[bytes]]":
    """Return a process that ends with what is written to it."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        yield process
        process.kill()


@pytest.fixture(params=["pidfds", "none", "refused"])
def with_pidfds(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[bool]:
    if request.param == "none":
        monkeypatch.delattr(os, "pidfd_open")
    if request.param == "refused":
        monkeypatch.setattr(os, "pidfd_open", lambda _: fail(errno.EPERM))
    _ends.has_pidfds.cache_clear()
    yield request.param == "pidfds"
    _ends.has_pidfds.cache_clear()


def fail(number: int) -> NoReturn:
    raise OSError(number, os.strerror(number))


def is_readable(fd: int, seconds: float) -> bool:
    return bool(select.select([fd], [], [], seconds)[0])


def descriptors() -> list[str]:
    return [path.name for path in Path("/proc/self/fd").iterdir()]


def watchers() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name.startswith("mirai-end-")]


def test_a_descriptor_tells_the_end_of_a_process_that_nobody_has_collected(
    child: "subprocess.Popen[bytes]", with_pidfds: bool
) -> None:
    assert _ends.has_pidfds() == with_pidfds
    fd = _ends.watch(child)
    assert not is_readable(fd, 0)
    assert not _ends.has_ended(child)
    assert len(watchers()) == (0 if with_pidfds else 1)
    child.kill()
    assert is_readable(fd, PATIENCE)
    assert _ends.has_ended(child)
    assert child.returncode is None
    os.kill(child.pid, 0)  # the number is still its own
    assert child.wait() == -signal.SIGKILL
    os.close(fd)


@pytest.mark.usefixtures("with_pidfds")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_descriptor_tells_the_end_though_a_fork_has_copies_of_all(
    child: "subprocess.Popen[bytes]",
) -> None:
    fd = _ends.watch(child)
    if (fork := os.fork()) == 0:
        signal.pause()
    try:
        child.kill()
        assert is_readable(fd, PATIENCE)
    finally:
        os.kill(fork, signal.SIGKILL)
        os.waitpid(fork, 0)
    os.close(fd)


@pytest.mark.usefixtures("with_pidfds")
def test_the_end_is_told_where_somebody_else_was_first_to_collect_it(
    child: "subprocess.Popen[bytes]",
) -> None:
    fd = _ends.watch(child)
    child.kill()
    child.wait()
    assert is_readable(fd, PATIENCE)
    assert _ends.has_ended(child)
    os.close(fd)


def test_whoever_lets_go_early_is_not_killed_by_the_news(
    child: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_ends, "has_pidfds", lambda: False)
    handler = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        os.close(_ends.watch(child))
        (watcher,) = watchers()
        child.kill()
        watcher.join(PATIENCE)
        assert not watcher.is_alive()
    finally:
        signal.signal(signal.SIGPIPE, handler)


def test_where_no_thread_starts_one_has_to_look(
    child: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_: threading.Thread) -> NoReturn:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(_ends, "has_pidfds", lambda: False)
    monkeypatch.setattr(threading.Thread, "start", start)
    before = descriptors()
    assert _ends.watch(child) == -1
    assert descriptors() == before
    assert not _ends.has_ended(child)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert _ends.has_ended(child)


def test_a_system_whose_descriptors_are_used_up_has_pidfds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "pidfd_open", lambda _: fail(errno.EMFILE))
    _ends.has_pidfds.cache_clear()
    assert _ends.has_pidfds()
    _ends.has_pidfds.cache_clear()
