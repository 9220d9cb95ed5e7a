"""What a chunk of elements knows of those that it runs."""

from typing import Any

from mirai_executor._maps._chunks import Chunk


class FakeFutures:
    ids = (11, 12, 13, 14, 15)


class FakeTask:
    id = 20


def test_what_has_begun_stands_up_to_the_last_element_that_a_daemon_began() -> None:
    futures: Any = FakeFutures()
    task: Any = FakeTask()
    chunk = Chunk(futures, [4, 1, 2], task)  # it was sent again
    assert [chunk.begun_at(20, element) for element in (15, 12, 13)] == [1, 2, 3]


def test_nothing_has_begun_of_a_chunk_whose_daemon_ended_before_its_first_element() -> None:
    futures: Any = FakeFutures()
    task: Any = FakeTask()
    assert Chunk(futures, range(2), task).begun_at(20, 15) == 0


def test_all_have_begun_of_a_chunk_whose_daemon_had_begun_another_one_or_nobody_knows() -> None:
    futures: Any = FakeFutures()
    task: Any = FakeTask()
    chunk = Chunk(futures, range(2, 5), task)
    assert [chunk.begun_at(21, 11), chunk.begun_at(None, 11), chunk.begun_at(20, None)] == [3] * 3
