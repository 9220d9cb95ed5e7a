"""What daemons print is passed on to what ``print`` writes to, whole and in order."""

import contextlib
import io
import os
import sys
from collections.abc import Iterator

import pytest

from mirai_executor._host import _host_thread
from mirai_executor._local import OutputRelay, RelayedStream


class Daemon:
    """The daemon's side of a pipe, whose other side a relay has."""

    def __init__(self, relay: OutputRelay, pid: int) -> None:
        read_end, self._end = os.pipe()
        self.relay = relay
        self.stream: RelayedStream = relay.add(read_end, pid)

    def write(self, data: bytes) -> None:
        os.write(self._end, data)

    def end(self) -> None:
        os.close(self._end)
        self.relay.finish(self.stream)


@pytest.fixture(params=[False, True], ids=["plain", "tagged"])
def relay(request: pytest.FixtureRequest) -> Iterator[OutputRelay]:
    relay = OutputRelay(tagged=request.param)
    yield relay
    relay.close()


@pytest.fixture
def plain() -> Iterator[OutputRelay]:
    relay = OutputRelay(tagged=False)
    yield relay
    relay.close()


def test_whole_lines_are_printed_once_drained_and_the_rest_at_the_end(relay: OutputRelay) -> None:
    tag = "(pid=7) " if relay.write_stderr.__class__.__name__ == "Tags" else ""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        daemon = Daemon(relay, 7)
        daemon.write(b"one\ntwo\n")
        daemon.relay.drain(daemon.stream)
        assert printed.getvalue() == f"{tag}one\n{tag}two\n"
        daemon.write(b"thr")
        daemon.relay.drain(daemon.stream)
        daemon.write(b"ee")
        daemon.end()
        relay.close()
    assert printed.getvalue() == f"{tag}one\n{tag}two\n{tag}three" + ("\n" if tag else "")


def test_a_character_may_come_in_two_pieces(plain: OutputRelay) -> None:
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        daemon = Daemon(plain, 7)
        for piece in ("ü".encode()[:1], "ü".encode()[1:], b"\xff\n"):
            daemon.write(piece)
            plain.drain(daemon.stream)
        daemon.end()
        plain.close()
    assert printed.getvalue() == "ü\N{REPLACEMENT CHARACTER}\n"


def test_where_print_writes_to_descriptor_1_bytes_arrive_as_they_are(
    plain: OutputRelay, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    daemon = Daemon(plain, 7)
    daemon.write(b"\xff\x00\n")
    plain.drain(daemon.stream)
    assert capfdbinary.readouterr().out == b"\xff\x00\n"
    daemon.end()


class Failing(io.StringIO):
    def write(self, _: str) -> int:
        raise RuntimeError("this stream is the user's")


def test_a_stream_that_fails_loses_what_it_was_given_and_no_more(plain: OutputRelay) -> None:
    daemon = Daemon(plain, 7)
    with contextlib.redirect_stdout(Failing()):
        daemon.write(b"lost\n")
        plain.drain(daemon.stream)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        daemon.write(b"kept\n")
        plain.drain(daemon.stream)
    assert printed.getvalue() == "kept\n"
    daemon.end()


class Watching(io.StringIO):
    """As ipykernel's, which reads from descriptor 1 by itself."""

    watch_fd_thread = object()


@pytest.mark.parametrize(
    ("stream", "arrives"),
    [(None, True), (Watching(), True), (io.StringIO(), False)],
    ids=["none", "notebook", "text"],
)
def test_output_is_inherited_where_print_writes_to_descriptor_1(
    stream: io.StringIO | None, arrives: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", stream)
    assert _host_thread._prints_to_descriptor() is arrives
    with open(1, "w", closefd=False) as usual:
        monkeypatch.setattr(sys, "stdout", usual)
        assert _host_thread._prints_to_descriptor()
