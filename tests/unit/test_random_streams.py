"""Streams of random numbers: which one comes next, and what is seeded with it."""

import random
from typing import Any

import numpy as np
import pytest

from mirai_executor import MiraiExecutor, _random_streams, daemons, next_stream, rng
from mirai_executor._around._stream_order import RandomStreams
from mirai_executor._payload.common.entries import STREAM


def test_streams_come_in_the_order_in_which_they_are_asked_for() -> None:
    streams = RandomStreams(7)
    assert [streams.next() for _ in range(3)] == ["7:0", "7:1", "7:2"]


def test_a_stream_that_was_put_back_is_the_next_one() -> None:
    streams = RandomStreams(7)
    streams.put_back(streams.next())
    assert [streams.next(), streams.next()] == ["7:0", "7:1"]


def test_a_call_that_has_a_stream_keeps_it() -> None:
    streams = RandomStreams(7)
    assert streams.added_to({"x": 1}) == {"x": 1, STREAM: "7:0"}
    assert streams.added_to({STREAM: "7:5"}) == {STREAM: "7:5"}
    variables: dict[str, Any] = {"x": 1, STREAM: "7:5"}
    assert streams.taken_from(variables) == {STREAM: "7:5"}
    assert variables == {"x": 1}
    assert streams.taken_from(variables) == {STREAM: "7:1"}


def test_a_map_is_one_in_the_order_and_its_chunks_begin_with_their_first_elements() -> None:
    streams = RandomStreams(7)
    streams.next()
    chunks = streams.of_map(3)
    assert [next(chunks)[STREAM] for _ in range(3)] == ["7:1:0", "7:1:3", "7:1:6"]
    assert streams.next() == "7:2"


def test_a_stream_is_what_numpy_spawns() -> None:
    spawned = np.random.SeedSequence(7).spawn(4)[3]
    assert (
        _random_streams.seed_sequence("7:3").generate_state(4) == spawned.generate_state(4)
    ).all()


def test_what_ran_in_a_block_leaves_the_generators_as_they_were() -> None:
    random.seed(1)
    np.random.seed(1)
    with _random_streams.RunHere("7:0"):
        drawn = random.random(), np.random.random(), rng().random()
        with _random_streams.RunHere("7:0"):  # a task that has submitted one
            assert (random.random(), np.random.random(), rng().random()) == drawn
        following = random.random(), np.random.random(), rng().random()
    with _random_streams.RunHere("7:0"):
        assert [random.random(), random.random()] == [drawn[0], following[0]]
    assert random.random() == random.Random(1).random()
    assert np.random.random() == np.random.RandomState(1).random()
    assert rng() is not rng()


def test_a_block_that_is_entered_again_goes_on_where_it_was_left() -> None:
    random.seed(1)
    block, other = _random_streams.RunHere("7:0"), _random_streams.RunHere("7:0")
    drawn: list[list[object]] = []
    for each in (block, other, block, other):
        with each:
            drawn.append([random.random(), np.random.random(), rng().random()])
    assert drawn[0] == drawn[1] != drawn[2] == drawn[3]
    assert random.random() == random.Random(1).random()


@pytest.mark.parametrize(
    ("seed", "error"), [(-1, ValueError), (1.5, TypeError), ("7", TypeError), (True, TypeError)]
)
def test_a_seed_is_a_whole_number(seed: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="seed must be"):
        MiraiExecutor(1, seed=seed)


def test_a_profile_has_streams_if_it_has_a_seed() -> None:
    with daemons(1, mode="inline"):
        assert next_stream() is None
    with daemons(1, mode="inline", seed=np.int64(7)):  # type: ignore[arg-type]  # of NumPy
        sequence = next_stream()
        assert sequence is not None
        assert (sequence.entropy, sequence.spawn_key) == (7, (0,))
