"""Frames in chunks: whole, in order, and never waited for by what is urgent."""

import contextlib
import hmac
import resource
import select
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirai_executor._transport import FarLink, Link, LinkClosedError
from mirai_executor.credentials import Opener, Sealer

SIZES = [0, 1, 8_191, 8_192, 8_193, 200_000, 1_000_000]
SEALED, PLAIN = True, False


def far(end: socket.socket, *, sealed: bool, name: str) -> FarLink:
    here, there = ("a", "b") if name == "a" else ("b", "a")
    seals = (Sealer(here.encode()), Opener(there.encode())) if sealed else ()
    return FarLink(Link(end, blocking=False), *seals)


def pair(*, sealed: bool = SEALED, window: int = 1 << 16) -> tuple[FarLink, FarLink]:
    """Return the ends of a TCP connection, and the receiver has room for so many bytes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        one = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
    return far(one, sealed=sealed, name="a"), far(other, sealed=sealed, name="b")


@pytest.fixture(params=[SEALED, PLAIN])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[FarLink, FarLink]]:
    one, other = pair(sealed=request.param)
    yield one, other
    one.close()
    other.close()


def content(size: int) -> bytes:
    return (b"%d:" % size * (size // 2 + 1))[:size]


def move(one: FarLink, other: FarLink, count: int) -> list[bytes]:
    """Let one send and the other receive, until so many frames have come."""
    frames: list[bytes] = []
    while len(frames) < count:
        if one.has_more_to_send:
            one.flush()
        if (frame := other.receive()) is not None:
            frames.append(bytes(frame))
    return frames


@contextlib.contextmanager
def counting(link: FarLink) -> Iterator[list[int]]:
    """Note how many bytes come to a link, each time that it reads."""
    came: list[int] = []
    take_in = link._take_in

    def count() -> None:
        before = len(link._read) + link._chunk_at
        take_in()
        came.append(len(link._read) + link._chunk_at - before)

    link._take_in = count  # type: ignore[method-assign]
    yield came
    link._take_in = take_in  # type: ignore[method-assign]


def test_frames_of_all_sizes_come_in_order(ends: tuple[FarLink, FarLink]) -> None:
    one, other = ends
    for size in SIZES:
        one.send(content(size))
        one.send(content(size), bytearray(content(size)), memoryview(b"x"))
    frames = [f for size in SIZES for f in (content(size), 2 * content(size) + b"x")]
    assert move(one, other, len(frames)) == frames
    assert other.receive() is None
    assert not one.has_more_to_send


def test_what_is_urgent_overtakes_what_waits_and_cuts_in_between_chunks(
    ends: tuple[FarLink, FarLink],
) -> None:
    one, other = ends
    one.send(content(3_000_000))
    one.send(b"in order")
    one.send_first(b"stop")
    one.send_first(b"beat")
    assert move(one, other, 4) == [b"stop", b"beat", content(3_000_000), b"in order"]


def test_little_more_than_the_other_side_takes_stands_before_what_is_urgent() -> None:
    one, other = pair(window=1)
    with contextlib.closing(one), contextlib.closing(other):
        one.send(bytes(3_000_000))
        for _ in range(20):  # as far as it goes while nobody reads
            one.flush()
        one.send_first(b"stop")
        with counting(other) as came:
            assert move(one, other, 1) == [b"stop"]
        assert sum(came) < 100_000


def test_a_large_frame_can_be_written_to(ends: tuple[FarLink, FarLink]) -> None:
    one, other = ends
    one.send(bytes(200_000))
    frame = None
    while frame is None:
        one.flush()
        frame = other.receive()
    assert not memoryview(frame).readonly


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_frame_that_is_dropped_never_comes_and_those_around_it_do(
    ends: tuple[FarLink, FarLink], which: int
) -> None:
    one, other = ends
    sent = [content(3_000_000), content(3_000_001), content(3_000_002)]
    waiting = []
    for frame in sent:
        one.send(frame)
        last = one.last
        assert last is not None
        waiting.append(last)
    assert [frame.has_begun for frame in waiting] == [True, False, False]
    one.drop(waiting[which])
    one.drop(waiting[which])  # which has no effect
    del sent[which]
    assert move(one, other, 2) == sent
    assert not one.has_more_to_send


@pytest.mark.parametrize("flushes", [0, 1])
def test_a_frame_that_is_withdrawn_never_comes(
    ends: tuple[FarLink, FarLink], flushes: int
) -> None:
    one, other = ends
    for _ in range(2 - flushes):
        one.send(content(3_000_000))
    last = one.last
    assert last is not None
    assert last.has_begun is bool(flushes)
    assert one.withdraw(last)
    one.send(b"the next one")
    before = [] if flushes else [content(3_000_000)]
    assert move(one, other, len(before) + 1) == [*before, b"the next one"]
    assert one.last is None
    assert not one.withdraw(last), "it is too late"


def test_others_may_build_on_a_frame_that_is_not_the_last() -> None:
    one, other = pair()
    with contextlib.closing(one), contextlib.closing(other):
        one.send(bytes(3_000_000))
        last = one.last
        one.send(b"another")
        assert last is not None
        assert not one.withdraw(last)


def test_a_frame_is_cut_off_once_it_is_longer_than_it_may_be(
    ends: tuple[FarLink, FarLink],
) -> None:
    one, other = ends
    other.largest = 50_000
    one.send(bytes(3_000_000))
    with pytest.raises(LinkClosedError, match="over 50000 bytes"):
        move(one, other, 1)


@pytest.mark.parametrize("sealed", [SEALED, PLAIN])
@pytest.mark.parametrize("length", [2**20 + 1, 3 << 30])
def test_who_announces_gigabytes_is_cut_off_and_takes_no_memory(length: int, sealed: bool) -> None:
    here, there = socket.socketpair()
    link = far(here, sealed=sealed, name="a")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with there, contextlib.closing(link):
        there.sendall(length.to_bytes(4, "little") + bytes(4 + 32))
        with pytest.raises(LinkClosedError):
            link.receive()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10


def test_eight_bytes_put_in_on_the_way_end_the_connection_with_the_next_frame() -> None:
    here, there = socket.socketpair()
    link = far(here, sealed=SEALED, name="a")
    sealer = Sealer(b"b")
    with there, contextlib.closing(link):
        there.sendall((1 << 20).to_bytes(8, "little"))
        assert link.receive() is None
        head = b"\4\0\0\0\1"
        there.sendall(head + sealer.seal(head) + b"beat" + sealer.seal(b"beat"))
        with pytest.raises(LinkClosedError, match="not what the other side sent"):
            link.receive()


@given(st.integers(0), st.integers(0, 7))
@settings(max_examples=50, deadline=None)
def test_a_bit_that_changes_anywhere_is_noticed(place: int, bit: int) -> None:
    here, there = socket.socketpair()
    one, other = far(here, sealed=SEALED, name="a"), far(there, sealed=SEALED, name="b")
    with contextlib.closing(one), contextlib.closing(other):
        for frame in (b"first", content(20_000)):
            one.send(frame)
        data = bytearray()
        while one.has_more_to_send or select.select([other], [], [], 0)[0]:
            one.flush()
            data += other._recv(1 << 16)
        data[place % len(data)] ^= 1 << bit
        other._read += data
        came = []
        with contextlib.suppress(LinkClosedError):
            while (got := other.receive()) is not None:
                came.append(got)
        assert came in ([], [b"first"])


def test_what_has_come_with_the_last_of_the_proof_is_not_lost() -> None:
    here, there = socket.socketpair()
    link = Link(here, blocking=False)
    head = b"\5\0\0\0\1"
    sealer = Sealer(b"b")
    proof = b"proof"
    chunk = head + sealer.seal(head) + b"frame" + sealer.seal(b"frame")
    there.sendall(len(proof).to_bytes(8, "little") + proof + chunk)
    assert link.receive() == proof
    link = FarLink(link, Sealer(b"a"), Opener(b"b"))
    with there, contextlib.closing(link):
        assert link.receive() == b"frame"


def test_the_head_of_a_chunk_has_a_tag_of_its_own_as_the_protocol_says() -> None:
    here, there = socket.socketpair()
    link = far(here, sealed=SEALED, name="a")
    with there, contextlib.closing(link):
        link.send(b"frame")
        head = b"\5\0\0\0\1"
        tags = [
            hmac.digest(b"a", number.to_bytes(8, "little") + data, "sha256")
            for number, data in enumerate((head, b"frame"))
        ]
        assert there.recv(1000) == head + tags[0] + b"frame" + tags[1]


@pytest.mark.parametrize("sealed", [SEALED, PLAIN])
def test_the_end_of_the_other_side_is_noticed(sealed: bool) -> None:
    one, other = pair(sealed=sealed)
    one.send(b"last words")
    one.close()
    assert move(one, other, 1) == [b"last words"]
    with pytest.raises(LinkClosedError):
        move(one, other, 1)
    other.close()
    with pytest.raises(LinkClosedError):
        other.send(b"")
