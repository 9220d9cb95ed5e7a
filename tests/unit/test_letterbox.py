"""Channels that daemons make, and leave with the host until they are needed."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirai_executor._arena import (
    Channel,
    Exchange,
    LateExchange,
    Pool,
    leave_channel,
    out_of_arenas,
)
from mirai_executor._host._store import Letterbox

LIMIT = 1 << 24


@pytest.fixture(autouse=True)
def no_descriptor_is_left() -> Iterator[None]:
    before = descriptors()
    yield
    assert descriptors() == before


@pytest.fixture
def box() -> Iterator[Letterbox]:
    box = Letterbox()
    yield box
    box.close()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_what_was_left_under_a_key_is_found_under_it(box: Letterbox) -> None:
    theirs = {key: leave_channel(box.slot(), key) for key in (5, 1 << 40, 7)}
    for key, there in theirs.items():
        with Channelled(box.take(key)) as here, Channelled(there) as other:
            other.send_gone(key)
            (message,) = here.receive()
            assert message.arena == key


def test_an_end_takes_no_descriptor_until_it_is_needed(box: Letterbox) -> None:
    before = descriptors()
    theirs = [leave_channel(box.slot(), key) for key in range(50)]
    assert descriptors() - before == len(theirs), "those of the daemons, which are here, too"
    for end in theirs:
        os.close(end)


def test_there_is_none_before_it_was_left_and_none_a_second_time(box: Letterbox) -> None:
    with pytest.raises(OSError, match="left no channel"):
        box.take(1)
    there = leave_channel(box.slot(), 1)
    os.close(box.take(1))
    with pytest.raises(OSError, match="left no channel"):
        box.take(1)
    os.close(there)


def test_what_nobody_will_ask_for_is_let_go_of(box: Letterbox) -> None:
    for key in range(1000):
        os.close(leave_channel(box.slot(), key))
        box.drop(key)
    there = leave_channel(box.slot(), 1000)
    assert there >= 0, "the dead have filled the letterbox"
    os.close(box.take(1000))
    os.close(there)


def test_an_end_that_was_taken_out_beside_another_is_let_go_of(box: Letterbox) -> None:
    theirs = [leave_channel(box.slot(), key) for key in (1, 2)]
    os.close(box.take(1))
    box.drop(2)
    for end in theirs:
        os.close(end)


def test_a_full_letterbox_takes_no_more_and_loses_nothing(box: Letterbox) -> None:
    theirs: list[int] = []
    while (end := leave_channel(box.slot(), len(theirs))) >= 0:
        theirs.append(end)
    assert len(theirs) > 128
    for key, end in enumerate(theirs):
        os.close(box.take(key))
        os.close(end)
    with pytest.raises(OSError, match="left no channel"):
        box.take(len(theirs))


def test_without_a_free_descriptor_an_end_stays_where_it_is(box: Letterbox) -> None:
    there, slot = leave_channel(box.slot(), 1), box.slot()
    box._letters = Channel(box._ours.detach())  # has imported what it takes
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            box.take(1)
        assert leave_channel(slot, 2) == -1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    os.close(box.take(1))
    os.close(there)


def test_buffers_travel_in_frames_to_a_peer_that_has_left_no_channel(box: Letterbox) -> None:
    pool = Pool(limit=LIMIT)
    data = bytes(range(256)) * 4096
    try:
        places = pool.place([memoryview(data)])
        assert places is not None
        exchange = LateExchange(
            lambda: Exchange(pool, Channel(box.take(1))),
            lambda buffers: out_of_arenas(pool, buffers),
            lambda: box.drop(1),
        )
        assert exchange.lend([places[0], [b"ab", b"c"]]) == (data, b"abc")
        there = Exchange(Pool(limit=LIMIT), Channel(leave_channel(box.slot(), 1)))
        (lent,) = exchange.lend([places[0]])  # it has by now
        assert isinstance(lent, tuple)
        assert bytes(there.views([lent])[0]) == data
        pool.release({places[0].arena})
        there.close()
        exchange.close()
    finally:
        pool.close()


class Channelled(Channel):
    """A channel in a with statement."""

    def __enter__(self) -> "Channelled":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
