"""Calls that keep the GIL do what those of the standard library do."""

import contextlib
import os
import selectors
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import NoReturn

import pytest

from mirai_executor import _nowait

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture(params=[True, False], ids=["keeping the GIL", "as a fallback"])
def pair(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    if not request.param:
        monkeypatch.setattr(_nowait, "_can_keep_gil", False)
    here, there = socket.socketpair()
    here.setblocking(False)
    there.setblocking(False)
    with here, there:
        yield here, there


def repeat(call: Callable[[], object]) -> NoReturn:
    while True:
        call()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    for fd in ends:
        os.set_blocking(fd, False)
    yield ends
    for fd in ends:
        with contextlib.suppress(OSError):
            os.close(fd)


@pytest.fixture(autouse=True)
def loaded() -> None:
    _nowait.load()


def test_until_it_is_loaded_all_works_without_ctypes() -> None:
    code = """
import os, socket, sys
from mirai_executor import _nowait
here, there = socket.socketpair()
there.setblocking(False)
assert _nowait.send(here, memoryview(b"one")) == 3
print(_nowait.receive(there, 10), "ctypes" in sys.modules)
_nowait.load()
assert _nowait.send(here, memoryview(b"two")) == 3
print(_nowait.receive(there, 10), "ctypes" in sys.modules)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.splitlines() == ["b'one' False", "b'two' True"]


def test_calls_can_keep_the_gil_here() -> None:
    assert _nowait._can_keep_gil


def test_without_a_gil_nothing_relies_on_it() -> None:
    code = """
import sys
sys._is_gil_enabled = lambda: False
from mirai_executor import MiraiExecutor, _arena, _nowait
_nowait.load()
print(_nowait._can_keep_gil, _arena.available())
with MiraiExecutor(1) as executor:
    print(executor.submit(abs, -1).result())
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["False", "False", "1"]


@pytest.mark.parametrize("data", [b"x", b"\0\xff" * 1000, bytes(range(256)) * 700])
def test_what_is_sent_is_received(pair: Pair, data: bytes) -> None:
    here, there = pair
    rest, received = memoryview(data), b""
    while rest or len(received) < len(data):
        with contextlib.suppress(BlockingIOError):
            rest = rest[_nowait.send(here, rest) :] if rest else rest
        received += _nowait.receive(there, 1 << 16)
    assert received == data


def test_no_more_is_received_than_asked_for(pair: Pair) -> None:
    here, there = pair
    _nowait.send(here, memoryview(b"abcdef"))
    assert _nowait.receive(there, 2) == b"ab"
    assert _nowait.receive(there, 1 << 20) == b"cdef"


def test_what_would_wait_says_so(pair: Pair) -> None:
    here, there = pair
    with pytest.raises(BlockingIOError):
        _nowait.receive(there, 100)
    with pytest.raises(BlockingIOError):
        repeat(lambda: _nowait.send(here, memoryview(bytes(1000))))


def test_a_call_never_waits_though_its_socket_would() -> None:
    here, there = socket.socketpair()
    with here, there, pytest.raises(BlockingIOError):
        _nowait.receive(here, 100)
    here, there = socket.socketpair()
    with here, there, pytest.raises(BlockingIOError):
        repeat(lambda: _nowait.send(here, memoryview(bytes(1000))))


def test_the_end_of_a_connection_is_told_as_sockets_do(pair: Pair) -> None:
    here, there = pair
    there.close()
    assert _nowait.receive(here, 100) == b""
    with pytest.raises(BrokenPipeError):
        _nowait.send(here, memoryview(b"to nobody"), socket.MSG_NOSIGNAL)
    here.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        _nowait.receive(here, 100)


def test_what_is_written_is_read(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    assert _nowait.write(writer, b"a\0b") == 3
    assert _nowait.read(reader, 100) == b"a\0b"
    with pytest.raises(BlockingIOError):
        _nowait.read(reader, 100)
    with pytest.raises(BlockingIOError):
        repeat(lambda: _nowait.write(writer, bytes(1000)))
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        _nowait.write(writer, b"to nobody")
    os.close(writer)
    with pytest.raises(OSError, match="Bad file descriptor"):
        _nowait.write(writer, b"to nobody")


def test_threads_that_receive_at_once_get_what_is_theirs() -> None:
    def converse(byte: bytes) -> None:
        here, there = socket.socketpair()
        with here, there:
            for size in range(1, 2000):
                _nowait.send(here, memoryview(byte * size))
                if _nowait.receive(there, 1 << 16) != byte * size:
                    wrong.append(byte)

    wrong: list[bytes] = []
    threads = [threading.Thread(target=converse, args=(bytes([n]),)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


needs_epoll = pytest.mark.skipif(
    not hasattr(selectors, "EpollSelector"), reason="only epoll can be asked with the GIL in hand"
)


def names_of_ready(selector: selectors.BaseSelector) -> set[object]:
    keys = _nowait.ready(selector)
    assert keys is not None
    return {key.data for key in keys}


@needs_epoll
def test_what_is_ready_is_found(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_nowait, "_can_keep_gil", True)
    here, there = pair
    with selectors.DefaultSelector() as selector:
        selector.register(here, selectors.EVENT_READ, "here")
        assert names_of_ready(selector) == set()
        there.send(b"x")
        assert names_of_ready(selector) == {"here"}
        selector.register(there, selectors.EVENT_WRITE, "there")
        assert names_of_ready(selector) == {"here", "there"}
        here.recv(1)
        selector.unregister(there)
        assert names_of_ready(selector) == set()


@needs_epoll
def test_none_is_overlooked_however_many_are_ready() -> None:
    with contextlib.ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        ends = [stack.enter_context(end) for _ in range(100) for end in socket.socketpair()]
        for i, end in enumerate(ends):
            selector.register(end, selectors.EVENT_WRITE, i)
        assert names_of_ready(selector) == set(range(200))


def test_who_cannot_tell_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with selectors.PollSelector() as other, selectors.DefaultSelector() as selector:
        assert _nowait.ready(other) is None
        monkeypatch.setattr(_nowait, "_can_keep_gil", False)
        assert _nowait.ready(selector) is None
    monkeypatch.undo()
    with pytest.raises(ValueError, match="closed"):
        _nowait.ready(selector)


@needs_epoll
def test_a_look_keeps_the_gil() -> None:
    def run() -> None:
        go.wait()
        has_run.append(None)

    go, has_run = threading.Event(), list[None]()
    thread = threading.Thread(target=run)
    interval = sys.getswitchinterval()
    # From now on, a thread runs only if another one hands the GIL over.
    sys.setswitchinterval(60)
    try:
        thread.start()
        with selectors.DefaultSelector() as selector:
            go.set()
            for _ in range(10_000):
                _nowait.ready(selector)
            assert not has_run
    finally:
        sys.setswitchinterval(interval)
        thread.join()
    assert has_run
