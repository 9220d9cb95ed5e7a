"""What multiprocessing shares by inheritance reaches daemons, as it reaches its own children."""

import contextlib
import logging
import logging.handlers
import multiprocessing
import os
import sys
import threading
from typing import Any

import pytest

from mirai_executor import MiraiExecutor, PayloadError
from mirai_executor._payload.common import inherited

SECONDS = 30
SPAWN = multiprocessing.get_context("spawn")

pytestmark = [
    pytest.mark.local_link("descriptors do not travel to daemons elsewhere"),
    pytest.mark.usefixtures("nothing_is_left_lent"),
]


def add(counter: Any, times: int) -> None:
    for _ in range(times):
        with counter.get_lock():
            counter.value += 1


def test_daemons_count_together_in_a_value() -> None:
    counter = SPAWN.Value("i", 0)
    with MiraiExecutor(2) as executor:
        list(executor.map(add, [counter] * 20, [50] * 20))
    assert counter.value == 1000


def fill(array: Any, place: int) -> None:
    array[place] = place


def test_daemons_write_into_one_array() -> None:
    arrays: list[Any] = [SPAWN.Array("i", 8), SPAWN.RawArray("i", 8)]
    for array in arrays:
        with MiraiExecutor(2) as executor:
            list(executor.map(fill, [array] * 8, range(8)))
        assert list(array) == list(range(8))


def try_lock(lock: Any) -> bool:
    acquired: bool = lock.acquire(block=False)
    if acquired:
        lock.release()
    return acquired


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore", "BoundedSemaphore"])
def test_a_lock_excludes_other_processes(kind: str) -> None:
    lock = getattr(SPAWN, kind)()
    with MiraiExecutor(1) as executor:
        assert executor.submit(try_lock, lock).result(SECONDS)
        with lock:
            assert not executor.submit(try_lock, lock).result(SECONDS)


def take_and_give(one: Any, other: Any) -> None:
    other.put(one.get() + 1)


@pytest.mark.parametrize("kind", ["Queue", "SimpleQueue", "JoinableQueue"])
def test_queues_carry_both_ways(kind: str) -> None:
    there, back = getattr(SPAWN, kind)(), getattr(SPAWN, kind)()
    with MiraiExecutor(1) as executor:
        future = executor.submit(take_and_give, there, back)
        there.put(1)
        assert back.get() == 2
        future.result(SECONDS)
    for queue in (there, back):
        queue.close()
        if kind != "SimpleQueue":
            queue.join_thread()


def wait_for(event: Any) -> bool:
    happened: bool = event.wait(SECONDS)
    return happened


def meet(barrier: Any) -> int:
    barrier.wait(SECONDS)
    return os.getpid()


def wait_on(condition: Any, value: Any) -> int:
    with condition:
        condition.wait_for(lambda: value.value, SECONDS)
        return int(value.value)


def test_processes_meet_at_an_event_a_condition_and_a_barrier() -> None:
    event, condition, barrier = SPAWN.Event(), SPAWN.Condition(), SPAWN.Barrier(2)
    value = SPAWN.Value("i", 0, lock=False)
    with MiraiExecutor(2) as executor:
        waiting = executor.submit(wait_for, event)
        event.set()
        assert waiting.result(SECONDS)
        woken = executor.submit(wait_on, condition, value)
        with condition:
            value.value = 7
            condition.notify_all()
        assert woken.result(SECONDS) == 7
        first, second = executor.map(meet, [barrier] * 2)
        assert first != second


progress: Any = None


def keep(queue: Any) -> None:
    global progress
    progress = queue


def report(number: int) -> None:
    progress.put((os.getpid(), number))


def report_last(number: int) -> None:
    """Report, and leave no thread that may hold the lock of the queue when the process exits."""
    report(number)
    progress.close()
    progress.join_thread()


# The default one is fork before Python 3.14: then daemons are forked, which 3.12 and 3.13 warn of.
with_contexts = pytest.mark.parametrize(
    "context", [SPAWN, multiprocessing], ids=["spawn", "default"]
)
forks = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")


def test_initargs_reach_replacements_and_what_is_put_last_is_not_lost() -> None:
    queue = SPAWN.Queue()
    with MiraiExecutor(1, None, keep, (queue,)) as executor:
        executor.submit(report_last, 1).result(SECONDS)
        first, one = queue.get(timeout=SECONDS)
        with contextlib.suppress(Exception):
            executor.submit(os._exit, 1).result(SECONDS)
        executor.submit(report, 2)
    second, two = queue.get(timeout=SECONDS)
    assert (one, two) == (1, 2)
    assert first != second
    queue.close()
    queue.join_thread()


def log_to(queue: Any) -> None:
    handler = logging.handlers.QueueHandler(queue)
    logging.getLogger("tasks").addHandler(handler)
    logging.getLogger("tasks").setLevel(logging.INFO)


def speak(number: int) -> None:
    logging.getLogger("tasks").info("task %d", number)


@forks
@with_contexts
def test_the_recipe_of_logging_for_several_processes_works(context: Any) -> None:
    queue = context.Queue()
    heard: list[str] = []
    enough = threading.Event()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())
            if len(heard) == 10:
                enough.set()

    listener = logging.handlers.QueueListener(queue, Listener())
    listener.start()
    with MiraiExecutor(2, None, log_to, (queue,)) as executor:
        list(executor.map(speak, range(10)))
        assert enough.wait(SECONDS)
    listener.stop()
    assert sorted(heard) == [f"task {n}" for n in range(10)]
    queue.close()
    queue.join_thread()


def count(times: int) -> None:
    add(progress, times)


@forks
@with_contexts
def test_daemons_count_their_progress_in_a_value_of_their_initializer(context: Any) -> None:
    counter = context.Value("i", 0)
    with MiraiExecutor(2, None, keep, (counter,)) as executor:
        list(executor.map(count, [50] * 20))
    assert counter.value == 1000


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_what_only_a_fork_inherits_is_refused_with_what_to_do() -> None:
    lock = multiprocessing.get_context("fork").Lock()
    with MiraiExecutor(1) as executor, pytest.raises((PayloadError, RuntimeError)) as caught:
        executor.submit(try_lock, lock).result(SECONDS)
    assert "spawn" in str(caught.value)


def test_a_semaphore_of_another_machine_is_named() -> None:
    lock = SPAWN.Lock()
    state = (0, 1, 1, "/mirai-there-is-no-such-semaphore")
    with pytest.raises(PayloadError, match=r"a Lock .* only on the machine where it was made"):
        inherited.set_semaphore(lock, state)
