"""Sockets, pipes, and what is registered at multiprocessing travel as with its own pools."""

import functools
import multiprocessing
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import pytest

from live.hosts import script
from mirai_executor import MiraiExecutor, PayloadError

SECONDS = 30

pytestmark = [
    pytest.mark.local_link("descriptors do not travel to daemons elsewhere"),
    pytest.mark.usefixtures("nothing_is_left_lent"),
]


@pytest.fixture(scope="module")
def executor() -> Iterator[MiraiExecutor]:
    with MiraiExecutor(2) as executor:
        executor.wait_ready()
        yield executor


def send(connection: Any, what: str) -> None:
    connection.send(what)


def say(end: socket.socket, text: bytes) -> None:
    end.sendall(text)


def pipe_with(what: str) -> Connection:
    ours, theirs = multiprocessing.Pipe()
    theirs.send(what)
    theirs.close()
    return ours


def socket_with(text: bytes) -> socket.socket:
    ours, theirs = socket.socketpair()
    theirs.sendall(text)
    theirs.close()
    return ours


def received(connection: Any) -> Any:
    assert wait([connection], SECONDS)
    return connection.recv()


def test_a_pipe_end_works_at_the_other_side(executor: MiraiExecutor) -> None:
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        executor.submit(send, theirs, "hello").result(SECONDS)
        assert received(ours) == "hello"
        theirs.close()  # and nobody else has it any more
        with pytest.raises(EOFError):
            received(ours)


def test_a_pipe_end_of_a_task_works_here(executor: MiraiExecutor) -> None:
    with executor.submit(pipe_with, "hello").result(SECONDS) as connection:
        assert received(connection) == "hello"
        with pytest.raises(EOFError):
            received(connection)


def test_sockets_travel_both_ways(executor: MiraiExecutor) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        executor.submit(say, theirs, b"hello").result(SECONDS)
        theirs.close()
        assert ours.recv(100) == b"hello"
        assert ours.recv(100) == b""
    with executor.submit(socket_with, b"back").result(SECONDS) as found:
        assert (found.family, found.type) == (socket.AF_UNIX, socket.SOCK_STREAM)
        assert found.recv(100) == b"back"


def test_a_function_with_a_pipe_end_can_be_mapped(executor: MiraiExecutor) -> None:
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        for fn in (functools.partial(send, theirs), lambda what: theirs.send(what)):
            assert list(executor.map(fn, "abcd", timeout=SECONDS)) == [None] * 4
            assert sorted(received(ours) for _ in range(4)) == list("abcd")


def test_each_daemon_gets_what_an_initializer_is_given() -> None:
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        with MiraiExecutor(2, initializer=send, initargs=(theirs, "ready")) as executor:
            executor.wait_ready()
            assert [received(ours), received(ours)] == ["ready"] * 2
            done = executor.everywhere(send, theirs, "again")
            assert [future.result(SECONDS) for future in done] == [None] * 2
            assert [received(ours), received(ours)] == ["again"] * 2
        theirs.close()
        del executor, done
        with pytest.raises(EOFError):
            received(ours)


def test_a_call_that_cannot_be_pickled_lends_nothing(executor: MiraiExecutor) -> None:
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        error = executor.submit(send, [theirs, threading.Lock()], "x").exception(SECONDS)
        assert isinstance(error, PayloadError)
        assert "args[0][1] (a _thread.lock object)" in str(error)


class Unpicklable:
    """Goes wrong while it is pickled, behind what has been pickled already."""

    def __reduce__(self) -> Any:
        raise ValueError("not this one")


def descriptors() -> int:
    """Return how many this process has."""
    return len(list(Path("/dev/fd").iterdir()))


def test_a_call_that_never_gets_to_a_daemon_keeps_no_copy_of_a_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "gate"
    os.mkfifo(path)
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs, MiraiExecutor(1, memory=2000) as executor:
        executor.submit(send, theirs, "ready").result(SECONDS)  # a sharer listens from now on
        blocker = executor.submit(path.read_text)
        brief, again = executor.with_options(timeout=0.001), executor.with_options(retries=1)
        before, load = descriptors(), "x" * 3000
        queued = executor.submit(send, theirs, load)
        for _ in range(20):
            assert again.try_submit(send, theirs, load) is None
            assert executor.try_submit(send, theirs, load) is None
            assert isinstance(brief.submit(send, theirs, load).exception(SECONDS), TimeoutError)
            failed = executor.submit(send, [theirs, Unpicklable()], load)
            assert "not this one" in str(failed.exception(SECONDS))
            del failed
        assert queued.cancel()
        executor.status()  # the host thread has forgotten it by now
        assert descriptors() == before
        some = [view.submit(send, theirs, "short") for view in (executor, again) for _ in "12"]
        assert all(future.cancel() for future in some)
        executor.status()
        assert descriptors() == before
        path.write_text("go")
        assert blocker.result(SECONDS) == "go"
        assert again.submit(send, theirs, "well").result(SECONDS) is None
        assert [received(ours), received(ours)] == ["ready", "well"]


class SocketError(Exception):
    def __init__(self) -> None:
        super().__init__("lost")
        self.pipe, _ = multiprocessing.Pipe()


def lose() -> None:
    raise SocketError


def test_an_error_travels_without_its_pipe(executor: MiraiExecutor) -> None:
    error = executor.submit(lose).exception(SECONDS)
    assert isinstance(error, SocketError)
    assert error.__notes__ == ["Attributes left out because they cannot be pickled: pipe"]


class Handle:
    """Something that only its registered reducer takes apart."""

    def __init__(self, value: int) -> None:
        self.value = value
        self.lock = threading.Lock()


def reduce_handle(handle: Handle) -> Any:
    return Handle, (handle.value + 1,)


def test_a_type_may_be_registered_at_any_time(
    executor: MiraiExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(executor.submit(id, Handle(1)).exception(SECONDS), PayloadError)
    monkeypatch.setitem(ForkingPickler._extra_reducers, Handle, reduce_handle)  # type: ignore[attr-defined]
    assert executor.submit(identity, Handle(1)).result(SECONDS).value == 3  # there and back
    assert executor.submit(identity, [Handle(1), 7]).result(SECONDS)[0].value == 3
    assert type(executor.submit(Handle, 1).result(SECONDS)) is Handle


def identity(value: Any) -> Any:
    return value


def test_what_a_script_registers_counts_at_daemons() -> None:
    text = """
        import threading
        from multiprocessing.reduction import ForkingPickler
        from mirai_executor import MiraiExecutor

        class Handle:
            def __init__(self, value):
                self.value, self.lock = value, threading.Lock()

        ForkingPickler.register(Handle, lambda handle: (Handle, (handle.value + 1,)))

        def make(value):
            return Handle(value)

        if __name__ == "__main__":
            with MiraiExecutor(1) as executor:
                print(executor.submit(make, 1).result().value)
                print(executor.submit(lambda x: x, Handle(1)).result().value)
    """
    with script(text) as host:
        assert (host.line(), host.line()) == ("2", "3")


def test_a_pipe_end_in_a_global_name_is_asked_for_as_an_argument() -> None:
    text = """
        import multiprocessing
        from mirai_executor import MiraiExecutor

        ours, theirs = multiprocessing.Pipe()

        def task():
            theirs.send("x")

        if __name__ == "__main__":
            with MiraiExecutor(1) as executor:
                error = executor.submit(task).exception()
                print(type(error).__name__, *error.__notes__)
    """
    with script(text) as host:
        line = host.line()
    assert line.startswith("NameError 'theirs' is in the host's __main__, but cannot be pickled")
    assert line.endswith("pass it as an argument")


def test_what_a_class_can_copy_is_copied_in_a_global_name() -> None:
    text = """
        from multiprocessing import reduction
        from mirai_executor import MiraiExecutor

        class Tensor:
            def __init__(self, values):
                self.values = values

            def __reduce__(self):
                return Tensor, (self.values,)

        def share(tensor):
            reduction.DupFd(0)
            return Tensor, (["shared"],)

        reduction.ForkingPickler.register(Tensor, share)
        model = {"weights": Tensor([1, 2])}

        def weights():
            return model["weights"].values

        def values(tensor):
            return tensor.values

        with MiraiExecutor(1) as executor:
            print(executor.submit(weights).result())
            model["weights"].values.append(3)
            print(executor.submit(weights).result())
            print(executor.submit(values, model["weights"]).result())
    """
    with script(text) as host:
        assert [host.line() for _ in range(3)] == ["[1, 2]", "[1, 2, 3]", "['shared']"]


CLOSED = """
import os, sys
from mirai_executor import MiraiExecutor

def shout(n):
    for fd in (1, 2):
        os.write(fd, b"not for the link" * 1000)
    print("nor this", file=sys.stderr)
    return bytes(n)

with MiraiExecutor(**({"url": sys.argv[1]} if sys.argv[1] else {"max_workers": 1})) as executor:
    if executor.url:
        executor.launch_local(1)
    sizes = [len(blob) for blob in executor.map(shout, [1, 10, 1_000_000])]
    os.closerange(0, 3)  # the program does so itself
    executor.launch_local(1)
    executor.wait_ready()
    sizes += [len(blob) for blob in executor.map(shout, [1, 10, 1_000_000] * 3)]
    with open(sys.argv[2], "w") as file:
        print(sizes, file=file)
"""


@pytest.mark.parametrize("url", ["", "tcp://127.0.0.1:0"])
def test_what_is_printed_without_standard_streams_enters_no_link(url: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(CLOSED)
    closed = 'exec "$@" <&- >&- 2>&-'
    program = [sys.executable, str(tmp_path / "program.py"), url, str(tmp_path / "sizes")]
    subprocess.run(["/bin/sh", "-c", closed, "sh", *program], check=True, timeout=2 * SECONDS)
    assert (tmp_path / "sizes").read_text() == f"{[1, 10, 1_000_000] * 4}\n"
