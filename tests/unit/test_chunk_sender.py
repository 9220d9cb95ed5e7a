"""What a chunk of elements knows of those that it runs."""

from typing import Any

from mirai_executor._chunks import Chunk


class FakeFutures:
    ids = (11, 12, 13, 14, 15)


def test_what_has_begun_stands_up_to_the_last_element_that_a_daemon_began() -> None:
    futures: Any = FakeFutures()
    task: Any = None
    chunk = Chunk(futures, [4, 1, 2], task)  # it was sent again
    assert [chunk.begun_at(element) for element in (15, 12, 13)] == [1, 2, 3]


def test_nothing_has_begun_where_a_daemon_began_an_element_of_another_chunk_last() -> None:
    futures: Any = FakeFutures()
    task: Any = None
    assert Chunk(futures, range(2), task).begun_at(15) == 0
    assert Chunk(futures, range(2), task).begun_at(None) == 2  # nobody knows
