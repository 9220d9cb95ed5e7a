"""Chunks of slow lines are compressed where both sides agree, and where that pays."""

import contextlib
import random
import struct
import zlib
from collections.abc import Iterator

import pytest

from mirai_executor import MiraiExecutor
from mirai_executor._transport import FarLink, LinkClosedError, _compression, _far
from unit.test_far_links import counting, move, pair

TEXT = b"a line that says the same as all others\n" * 50_000
NOISE = random.Random(1).randbytes(1_000_000)
LONGEST = 1 << 20


@pytest.fixture(autouse=True)
def lines_are_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_far, "_QUICK", -1.0)
    monkeypatch.setattr(_far, "_SLOW", -0.5)
    monkeypatch.setattr(FarLink, "_has_run_empty", lambda _: False)


@pytest.fixture(params=[True, False], ids=["sealed", "plain"])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[FarLink, FarLink]]:
    one, other = pair(sealed=request.param)
    with contextlib.closing(one), contextlib.closing(other):
        yield one, other


def agree(one: FarLink, other: FarLink) -> None:
    """Have one offer, and both hear of it; the line turns out to be slow."""
    other.may_compress = True
    one.offer_compression()
    for end in (other, one):
        assert end.receive() is None
    assert one._packer is not None
    assert other._packer is not None
    one._is_slow = other._is_slow = True


def bytes_for(one: FarLink, other: FarLink, *frames: bytes) -> int:
    """Send frames; return how many bytes came for them."""
    with counting(other) as came:
        for frame in frames:
            one.send(frame)
        assert move(one, other, len(frames)) == list(frames)
    return sum(came)


def test_what_becomes_shorter_travels_compressed_in_both_directions(
    ends: tuple[FarLink, FarLink],
) -> None:
    agree(*ends)
    for one, other in (ends, reversed(ends)):
        assert bytes_for(one, other, TEXT, b"short", TEXT) < len(TEXT) / 20


def test_what_does_not_become_shorter_is_tried_once_and_left_alone(
    ends: tuple[FarLink, FarLink], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = ends
    agree(one, other)
    tried = 0
    pack = _compression.Packer.pack

    def count(packer: _compression.Packer, data: bytes) -> bytes:
        nonlocal tried
        tried += 1
        return pack(packer, data)

    monkeypatch.setattr(_compression.Packer, "pack", count)
    assert bytes_for(one, other, NOISE) >= len(NOISE)
    assert tried == 1


def test_a_frame_that_turns_into_noise_arrives_in_chunks_that_are_not_longer(
    ends: tuple[FarLink, FarLink],
) -> None:
    one, other = ends
    agree(one, other)
    longest = 0
    add = other._add

    def look(chunk: memoryview, flags: int) -> object:
        nonlocal longest
        longest = max(longest, 0 if flags & _far._PACKED else len(chunk))
        return add(chunk, flags)

    other._add = look  # type: ignore[method-assign, assignment]
    bytes_for(one, other, TEXT[:500_000] + NOISE)
    assert longest <= one._chunk_size


@pytest.mark.parametrize("who", ["nobody", "one", "fast"])
def test_nothing_is_compressed_unless_both_want_it_and_the_line_is_slow(
    ends: tuple[FarLink, FarLink], who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = ends
    if who == "one":
        one.offer_compression()
    if who == "fast":
        agree(one, other)
        one._is_slow = False
        monkeypatch.setattr(_far, "_SLOW", 1e9)
    assert bytes_for(one, other, TEXT) >= len(TEXT)


def test_what_is_urgent_cuts_in_between_compressed_chunks(ends: tuple[FarLink, FarLink]) -> None:
    one, other = ends
    agree(one, other)
    one.send(TEXT)
    one.send(NOISE + TEXT)
    one.send_first(b"stop")
    frames = move(one, other, 3)
    assert sorted(frames, key=len) == [b"stop", TEXT, NOISE + TEXT]
    assert frames[-1] == NOISE + TEXT


def packed(data: bytes, size: int, code: int = 1) -> bytes:
    return struct.pack("<BI", code, size) + zlib.compress(data)


@pytest.mark.parametrize(
    ("chunk", "said"),
    [
        (packed(b"abc", 2), "another length"),
        (packed(b"abc", 4), "another length"),
        (packed(b"abc", 3) + b"more", "another length"),
        (packed(b"abc", 3)[:-1], "another length"),
        (packed(bytes(50_000_000), 1000), "another length"),  # and is not made
        (packed(b"abc", LONGEST + 1), "of 1048577 bytes"),
        (packed(b"abc", 3, code=7), "by method 7"),
        (packed(b"abc", 3)[:5] + b"xyz", "damaged"),
        (b"ab", "without a head"),
    ],
)
def test_a_chunk_that_is_not_what_it_says_ends_the_link(chunk: bytes, said: str) -> None:
    with pytest.raises(LinkClosedError, match=said):
        _compression.unpack(chunk, _compression.known(), LONGEST)


def test_a_side_that_was_offered_nothing_takes_nothing_compressed() -> None:
    one, other = pair()
    with contextlib.closing(one), contextlib.closing(other):
        one._packer, one._is_slow = _compression.Packer(_compression.known()), True
        one.send(TEXT)
        with pytest.raises(LinkClosedError, match="by method"):
            move(one, other, 1)


def test_two_sides_without_a_method_in_common_compress_nothing() -> None:
    with pytest.raises(ValueError, match="in common"):
        _compression.Packer(b"\x09")


def test_the_better_method_is_used_where_both_know_it() -> None:
    zstd = _compression._module(2)
    if zstd is None:
        pytest.skip("neither Python 3.14 nor backports.zstd")
    chunk = _compression.Packer(b"\x01\x02").pack(TEXT[:100_000])
    assert chunk[0] == 2
    assert _compression.unpack(chunk, _compression.known(), LONGEST) == TEXT[:100_000]
    bomb = struct.pack("<BI", 2, 1000) + zstd.compress(bytes(50_000_000))
    with pytest.raises(LinkClosedError, match="another length"):
        _compression.unpack(bomb, _compression.known(), LONGEST)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"compression": "zip", "url": "tcp://127.0.0.1:0"}, 'must be "auto" or None'),
        ({"compression": "auto"}, "needs a url or remote"),
    ],
)
def test_a_wrong_wish_is_refused_at_once(how: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        MiraiExecutor(**how)  # type: ignore[arg-type]
