"""Memory between two peers, in any order of steps."""

import itertools
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    precondition,
    rule,
)

from mirai_executor import _arena
from mirai_executor._arena import (
    Channel,
    Place,
    Pool,
    Receiver,
    Sender,
)
from unit.test_arena import (  # type: ignore[import-not-found,unused-ignore]  # tests/ is on the path
    MB,
    open_fds,
)

pytestmark = pytest.mark.skipif(not _arena.available(), reason="no memfd here")


@dataclass
class Lent:
    objects: list[Any]
    expected: list[bytes]
    peer: int


class Traffic(RuleBasedStateMachine):
    """Two peers of one pool, any order of steps, against what bytes ought to be where."""

    LIMIT = MB
    COUNT = 6

    payloads: Bundle[Lent] = Bundle("payloads")
    holds: Bundle[tuple[tuple[Place, ...], list[bytes]]] = Bundle("holds")
    constants: Bundle[tuple[_arena.Shared, bytes]] = Bundle("constants")

    def __init__(self) -> None:
        super().__init__()
        self.fds = open_fds()
        self.pool = Pool(limit=self.LIMIT, count=self.COUNT)
        self.channels: list[Channel] = []
        self.senders: list[Sender] = []
        self.receivers: list[Receiver] = []
        for _ in range(2):
            here, fd = Channel.create()
            there = Channel(fd)
            self.channels += [here, there]
            self.senders.append(Sender(self.pool, here))
            self.receivers.append(Receiver(there))
        self.live: list[Lent] = []
        self.held: list[tuple[tuple[Place, ...], list[bytes]]] = []
        self.letters = itertools.count()

    def _data(self, sizes: list[int]) -> list[bytes]:
        return [bytes([next(self.letters) % 251]) * size for size in sizes]

    @rule(
        target=holds,
        sizes=st.lists(st.sampled_from([0, 1, 63, 64, 4096, 70_000, 200_000]), max_size=3),
    )
    def place(self, sizes: list[int]) -> Any:
        data = self._data(sizes)
        places = self.pool.place(data)
        if places is None:
            assert sum(sizes) > 0
            return multiple()
        self.held.append((places, data))
        return self.held[-1]

    @rule(target=holds, sizes=st.lists(st.sampled_from([1, 5000, 70_000]), min_size=1, max_size=6))
    def place_pieces(self, sizes: list[int]) -> Any:
        pieces = self._data(sizes)
        places = self.pool.place([pieces])
        if places is None:
            return multiple()
        self.held.append((places, [b"".join(pieces)]))
        return self.held[-1]

    @rule(
        target=payloads,
        hold=holds,
        peer=st.integers(0, 1),
        shape=st.sampled_from(["views", "arrays", "slices"]),
    )
    def lend(self, hold: tuple[tuple[Place, ...], list[bytes]], peer: int, shape: str) -> Any:
        places, data = hold
        if not self.senders[peer].lend(places):
            return multiple()
        objects: list[Any] = list(self.receivers[peer].views(places))
        if shape == "arrays":
            objects = [np.frombuffer(view, "B") for view in objects if len(view)]
            data = [piece for piece in data if piece]
        elif shape == "slices":
            objects = [view[5:] for view in objects]
            data = [piece[5:] for piece in data]
        self.live.append(Lent(objects, data, peer))
        return self.live[-1]

    @rule(hold=consumes(holds))
    def let_go(self, hold: tuple[tuple[Place, ...], list[bytes]]) -> None:
        self.pool.release({place.arena for place in hold[0]})
        self.held = [other for other in self.held if other is not hold]

    @rule(lent=consumes(payloads))
    def drop(self, lent: Lent) -> None:
        self.live = [other for other in self.live if other is not lent]
        lent.objects.clear()  # hypothesis keeps the rest

    @rule(peer=st.integers(0, 1))
    def answer(self, peer: int) -> None:
        self.senders[peer].release(self.receivers[peer].take_released())

    @rule(target=constants, size=st.sampled_from([1, 5000]))
    def share(self, size: int) -> Any:
        (data,) = self._data([size])
        return self.pool.share([data]), data

    @rule(target=payloads, constant=constants, peer=st.integers(0, 1))
    def lend_constant(self, constant: tuple[_arena.Shared, bytes], peer: int) -> Any:
        shared, data = constant
        if not self.senders[peer].lend(shared.places):
            return multiple()
        self.live.append(Lent(list(self.receivers[peer].views(shared.places)), [data], peer))
        return self.live[-1]

    @rule()
    def trim(self) -> None:
        self.pool.trim()

    @rule(peer=st.integers(0, 1))
    def refresh(self, peer: int) -> None:
        self.senders[peer].flush()
        self.receivers[peer].refresh()

    @precondition(lambda self: self.live)
    @rule(peer=st.integers(0, 1))
    def replace_a_peer(self, peer: int) -> None:
        """It goes, its views live on, and another takes its seat."""
        self.senders[peer].close()
        self.receivers[peer].close()
        for channel in self.channels[2 * peer : 2 * peer + 2]:
            channel.close()
        here, fd = Channel.create()
        self.channels[2 * peer : 2 * peer + 2] = here, there = [here, Channel(fd)]
        self.senders[peer] = Sender(self.pool, here)
        self.receivers[peer] = Receiver(there)

    @invariant()
    def every_byte_is_as_it_was_sent(self) -> None:
        for lent in self.live:
            for have, want in zip(lent.objects, lent.expected, strict=True):
                assert memoryview(have) == want

    @invariant()
    def what_is_held_can_still_be_lent(self) -> None:
        for places, data in self.held:
            for place, piece in zip(places, data, strict=True):
                if piece:
                    fd = self.pool.find(place.arena).fd
                    assert os.pread(fd, place.length, place.offset) == piece

    @invariant()
    def the_limits_are_kept(self) -> None:
        assert self.pool.size <= self.LIMIT
        assert len(self.pool._arenas) <= self.COUNT

    def teardown(self) -> None:
        for lent in self.live:
            lent.objects.clear()
        for hold in self.held:
            self.let_go(hold)
        for peer in range(2):
            self.answer(peer)
        assert not self.pool.held
        self.pool.trim()
        assert self.pool.size == 0
        for peer in range(2):
            self.refresh(peer)
            assert not self.receivers[peer]._idle
            assert not self.receivers[peer]._lent
            self.senders[peer].close()
            self.receivers[peer].close()
        self.pool.close()
        for channel in self.channels:
            channel.close()


TestTraffic = pytest.mark.once(Traffic.TestCase)
TestTraffic.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
