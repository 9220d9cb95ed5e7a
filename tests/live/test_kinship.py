"""To multiprocessing, a daemon is a child of its host's process."""

import os
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import pytest

from live.hosts import PATIENCE, run
from mirai_executor import MiraiExecutor

pytestmark = pytest.mark.local_link("is about daemons on the machine of their host")


def tracker() -> int:
    """Return what the tracker's pipe is to the system, whoever asks."""
    fd: Any = resource_tracker.getfd()
    return os.fstat(fd).st_ino


@pytest.fixture
def memory() -> Iterator[Callable[[str], Any]]:
    opened = []

    def open_(name: str) -> Any:
        opened.append(SharedMemory(name))
        return opened[-1]

    yield open_
    for one in opened:
        one.close()
        one.unlink()


def make_memory(content: int) -> str:
    made: Any = SharedMemory(create=True, size=1)
    made.buf[0] = content
    made.close()
    name: str = made.name
    return name


def read_memory(name: str) -> int:
    shared: Any = SharedMemory(name)
    first: int = shared.buf[0]
    shared.close()
    return first


def test_shared_memory_that_a_task_has_made_outlives_its_daemon(
    memory: Callable[[str], Any],
) -> None:
    with MiraiExecutor(1) as executor:
        assert executor.submit(tracker).result(PATIENCE) == tracker()
        name = executor.submit(make_memory, 7).result(PATIENCE)
    assert memory(name).buf[0] == 7  # and this process may remove it


def test_shared_memory_outlives_daemons_that_have_looked_at_it(
    memory: Callable[[str], Any],
) -> None:
    name = make_memory(7)
    with MiraiExecutor(1, max_tasks_per_child=1) as executor:  # the others are forked
        assert list(executor.map(read_memory, [name] * 3)) == [7, 7, 7]
        assert list(executor.map(lambda _: tracker(), range(3))) == [tracker()] * 3
    assert memory(name).buf[0] == 7


def test_who_has_no_shared_memory_has_no_tracker_and_a_later_daemon_has_that_of_its_host() -> None:
    ended = run(
        """
        def tracker():
            from multiprocessing import resource_tracker
            return os.fstat(resource_tracker.getfd()).st_ino

        with MiraiExecutor(1, max_tasks_per_child=2) as executor:
            executor.submit(abs, -1).result()
            own = executor.submit(tracker).result()
            say("multiprocessing.resource_tracker" in sys.modules)
            import multiprocessing.shared_memory
            later = executor.submit(tracker).result()
            say(own != tracker(), later == tracker())
        """
    )
    assert (ended.out, ended.err) == ("False\nTrue True\n", "")
