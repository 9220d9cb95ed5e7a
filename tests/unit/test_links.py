"""Frames over a stream socket: whole, in order, and to the last one."""

import contextlib
import os
import select
import selectors
import socket
import ssl
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirai_executor._transport import (
    Link,
    LinkClosedError,
    Pipes,
    TlsSocket,
    server_context,
)
from mirai_executor._transport._tls import client_context
from mirai_executor.credentials import TlsVersion, make_certificate

SIZES = [0, 1, 7, 8, 9, 65_527, 65_528, 65_535, 65_536, 65_537, 200_000, 3_000_000]
Ends = tuple[Link, Link]


def connect_by_socket() -> Ends:
    here, there = socket.socketpair()
    return Link(here.detach(), blocking=False), Link(there.detach(), blocking=True)


def connect_by_pipes() -> Ends:
    there_in, here_out = os.pipe()
    here_in, there_out = os.pipe()
    here, there = Pipes(here_in, here_out), Pipes(there_in, there_out)
    return Link(here, blocking=False), Link(there, blocking=True)


@pytest.fixture(params=[connect_by_socket, connect_by_pipes])
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    host, daemon = request.param()
    yield host, daemon
    host.close()
    daemon.close()


def receive_all(host: Link, count: int) -> list[bytes]:
    frames: list[bytes] = []
    while len(frames) < count:
        select.select([host], [], [], 10)
        while (frame := host.receive()) is not None:
            frames.append(bytes(frame))
    return frames


def receive_to_the_end(link: Link) -> None:
    while link.receive() is None:
        pass


def flush_all(host: Link) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(host.fileno(), selectors.EVENT_READ, "the link")
        host.follow(selector)
        while host.has_more_to_send:
            ((key, events),) = selector.select(10)
            assert (key.data, events) == ("the link", selectors.EVENT_WRITE)
            host.flush()
            host.follow(selector)
        assert selector.select(0) == []
        host.leave(selector)
        assert not selector.get_map()


def send_all(link: Link, frames: list[bytes]) -> None:
    for frame in frames:
        link.send(frame)


def content(size: int) -> bytes:
    return (b"%d:" % size + os.urandom(64) * (size // 64 + 1))[:size]


def test_a_host_receives_frames_of_all_sizes_in_order(ends: Ends) -> None:
    host, daemon = ends
    frames = [content(size) for size in SIZES]
    thread = threading.Thread(target=send_all, args=(daemon, frames))
    thread.start()
    assert receive_all(host, len(frames)) == frames
    thread.join()


@pytest.mark.parametrize("size", [0, 10, 100_000])
def test_a_frame_that_is_sent_in_pieces_comes_as_one(ends: Ends, size: int) -> None:
    host, daemon = ends
    frame = content(3 * size)
    pieces = (frame[:size], memoryview(frame)[size : 2 * size], bytearray(frame[2 * size :]))
    thread = threading.Thread(target=daemon.send, args=pieces)
    thread.start()
    assert receive_all(host, 1) == [frame]
    thread.join()
    host.send(*pieces)
    thread = threading.Thread(target=flush_all, args=(host,))
    thread.start()
    assert daemon.receive() == frame
    thread.join()


def test_a_frame_of_thousands_of_pieces_comes_as_one(ends: Ends) -> None:
    host, daemon = ends
    pieces = [content(n % 40 + 1) for n in range(5000)]
    thread = threading.Thread(target=daemon.send, args=pieces)
    thread.start()
    assert receive_all(host, 1) == [b"".join(pieces)]
    thread.join()
    host.send(*pieces)
    thread = threading.Thread(target=flush_all, args=(host,))
    thread.start()
    assert daemon.receive() == b"".join(pieces)
    thread.join()


def test_what_a_host_sends_waits_in_the_link_until_the_other_side_reads(ends: Ends) -> None:
    host, daemon = ends
    frames = [content(size) for size in SIZES]
    for frame in frames:
        host.send(frame)  # nobody reads: this must not wait
    assert host.has_more_to_send
    received: list[bytes] = []
    thread = threading.Thread(
        target=lambda: received.extend(bytes(daemon.receive() or b"") for _ in frames)
    )
    thread.start()
    flush_all(host)
    thread.join()
    assert received == frames


@given(st.lists(st.binary(max_size=300), max_size=30), st.data())
@settings(max_examples=50, deadline=None)
def test_frames_do_not_depend_on_the_pieces_in_which_they_come(
    frames: list[bytes], data: st.DataObject
) -> None:
    here, there = socket.socketpair()
    with there, contextlib.closing(Link(here.detach(), blocking=False)) as link:
        stream = b"".join(len(frame).to_bytes(8, "little") + frame for frame in frames)
        received = []
        while stream:
            count = data.draw(st.integers(1, len(stream)))
            there.sendall(stream[:count])
            stream = stream[count:]
            while (frame := link.receive()) is not None:
                received.append(bytes(frame))
        assert received == frames


def test_a_long_frame_can_follow_short_ones_at_once(ends: Ends) -> None:
    host, daemon = ends
    frames = [b"short", content(500_000), b"", b"short again"]
    thread = threading.Thread(target=send_all, args=(daemon, frames))
    thread.start()
    assert receive_all(host, len(frames)) == frames
    thread.join()


def test_nothing_has_come_is_no_error(ends: Ends) -> None:
    host, _ = ends
    assert host.receive() is None


def test_all_that_was_sent_is_received_before_the_end(ends: Ends) -> None:
    host, daemon = ends
    host.send(b"never read: then the kernel resets the connection")
    daemon.send(b"last words")
    daemon.close()
    select.select([host], [], [], 10)
    assert host.receive() == b"last words"
    with pytest.raises(LinkClosedError):
        receive_to_the_end(host)
    with pytest.raises(LinkClosedError):
        host.send(b"to nobody")


SPARED = """
import os, signal, sys
from mirai_executor._nameless import create_pipe
from mirai_executor._transport import Link, Pipes
{lacking}

signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # as programs do that write to "head"
theirs, writes, spare = create_pipe()
reads, out = os.pipe()
link = Link(Pipes(reads, writes, spare), blocking=False)
os.close(theirs)
os.close(out)
link.send(b"to nobody")
link.send(bytes(1_000_000))
assert link.has_more_to_send
link.close()
print(len(os.listdir("/dev/fd")))
"""


WITHOUT_PROC = """
def refuse(*_):
    raise FileNotFoundError
os.open = refuse
"""


@pytest.mark.parametrize("lacking", ["", WITHOUT_PROC])
def test_what_nobody_reads_ends_no_program_that_left_sigpipe_its_default(lacking: str) -> None:
    program = SPARED.format(lacking=lacking)
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert int(run.stdout) == 4, "nothing is open but the standard streams, and this listing"


def test_a_frame_that_was_cut_off_is_never_received(ends: Ends) -> None:
    here, there = socket.socketpair()
    link = Link(here.detach(), blocking=False)
    there.sendall((100_000).to_bytes(8, "little") + b"only a part")
    there.close()
    with pytest.raises(LinkClosedError):
        receive_to_the_end(link)
    link.close()


def test_waiting_for_a_frame_ends_with_it_or_in_time(ends: Ends) -> None:
    host, daemon = ends
    assert not daemon.wait(0.01)
    host.send(b"one")
    host.send(b"two")
    assert daemon.wait(10)
    assert daemon.receive() == b"one"
    assert daemon.wait(0), "it has been read from the socket already"
    assert daemon.receive() == b"two"
    assert not daemon.wait(0)


def receive_soon(link: Link) -> bytes | bytearray | memoryview | None:
    """Return what has come: a link that has read all there was says once that there is no more."""
    first = link.receive()
    return link.receive() if first is None else first


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("cut", [1, 7, 8])
def test_who_looks_for_a_frame_gets_it_once_it_is_whole(size: int, cut: int) -> None:
    here, there = socket.socketpair()
    link = Link(there.detach(), blocking=False)
    body = content(size)
    frame = size.to_bytes(8, "little") + body
    begin, last = frame[: min(cut, len(frame) - 1)], frame[-1:]
    with ThreadPoolExecutor(1) as other:
        for piece in (begin, frame[len(begin) : -1]):
            sent = other.submit(here.sendall, piece)
            while not sent.done():
                assert link.receive() is None
            assert link.receive() is None
    here.sendall(last)
    here.close()
    assert receive_soon(link) == body
    with pytest.raises(LinkClosedError):
        receive_soon(link)
    link.close()


@pytest.mark.parametrize("length", [8, 30])
def test_a_part_of_a_frame_that_looks_like_a_frame_is_a_part(length: int) -> None:
    here, there = socket.socketpair()
    link = Link(there.detach(), blocking=False)
    inner = length.to_bytes(8, "little") + bytes(length)
    here.sendall((5 + len(inner)).to_bytes(8, "little") + b"outer")
    assert link.receive() is None
    here.sendall(inner)
    assert link.receive() == b"outer" + inner
    here.close()
    link.close()


def test_a_closed_link_can_be_closed_again_but_not_used(ends: Ends) -> None:
    host, _ = ends
    host.close()
    host.close()
    with pytest.raises(LinkClosedError):
        host.send(b"")
    with pytest.raises(LinkClosedError):
        host.receive()


def test_a_forked_child_holds_no_link_open(ends: Ends) -> None:
    host, daemon = ends
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(write_end)
        os.read(read_end, 1)  # until the parent says so
        os._exit(0)
    host.close()
    with pytest.raises(LinkClosedError):
        daemon.receive()
    os.close(write_end)
    os.waitpid(pid, 0)
    os.close(read_end)


# TLS

CERTIFICATE = make_certificate()
OLDER = replace(CERTIFICATE, tls_minimum=TlsVersion.TLS_1_2)


def shake_hands(at_host: ssl.SSLContext, at_daemon: ssl.SSLContext) -> str | None:
    """Connect a host and a daemon; return what the daemon takes the version for.

    Raises:
        ssl.SSLError: The host will not have it.
    """
    here, there = socket.socketpair()
    with contextlib.ExitStack() as stack:
        host = stack.enter_context(contextlib.closing(TlsSocket(here, at_host)))
        name = CERTIFICATE.server_name
        daemon = at_daemon.wrap_socket(there, server_hostname=name, do_handshake_on_connect=False)
        stack.enter_context(daemon)
        host.settimeout(10)
        daemon.settimeout(10)
        pool = stack.enter_context(ThreadPoolExecutor(1))
        answer = pool.submit(daemon.do_handshake)
        host.shake_hands()
        answer.result()
        return daemon.version()


def at_most_tls_1_2(context: ssl.SSLContext) -> ssl.SSLContext:
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


def test_a_daemon_that_speaks_tls_1_2_alone_gets_in_only_if_it_was_asked_for() -> None:
    daemon = at_most_tls_1_2(client_context(CERTIFICATE.authority, TlsVersion.TLS_1_2))
    with pytest.raises(ssl.SSLError, match="unsupported protocol"):
        shake_hands(server_context(CERTIFICATE), daemon)
    assert shake_hands(server_context(OLDER), daemon) == "TLSv1.2"


def test_a_daemon_accepts_a_host_that_speaks_tls_1_2_alone_only_if_it_was_asked_for() -> None:
    host = at_most_tls_1_2(server_context(OLDER))
    with pytest.raises(ssl.SSLError, match="unsupported protocol"):
        shake_hands(host, client_context(CERTIFICATE.authority))
    daemon = client_context(CERTIFICATE.authority, TlsVersion.TLS_1_2)
    assert shake_hands(host, daemon) == "TLSv1.2"


def test_host_and_daemon_speak_the_newest_version_that_both_can() -> None:
    daemon = client_context(CERTIFICATE.authority, TlsVersion.TLS_1_2)
    assert shake_hands(server_context(OLDER), daemon) == "TLSv1.3"


@pytest.mark.parametrize("sends", [b"", b"hello"])
def test_a_connection_that_is_reset_before_its_tls_begins_is_closed_like_any_other(
    sends: bytes,
) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as peer,
    ):
        here, _ = listener.accept()
        peer.sendall(sends)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    select.select([here], [], [], 10)
    here.setblocking(False)
    tls = TlsSocket(here, server_context(CERTIFICATE))
    with pytest.raises((ConnectionError, ssl.SSLError)):
        tls.shake_hands()
    fd = tls.fileno()
    tls.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
