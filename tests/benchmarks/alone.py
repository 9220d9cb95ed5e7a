"""What is measured without a peer: how our own cost grows with what is there."""

import os
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import work
from benchmarks.checks import check
from benchmarks.once import WORKERS
from mirai_executor import MiraiExecutor
from mirai_executor._core import (
    Command,
    DaemonReady,
    Dispatcher,
    LaunchDaemon,
    Policy,
    ResolveTasks,
    ResultsArrived,
    SendTasks,
    TaskId,
    TaskSubmitted,
)

Run = Callable[[MiraiExecutor], float]  # returns how many seconds it took


@dataclass(frozen=True)
class Alone:
    """A ratio of two of our own figures.

    Args:
        name: What the table calls it.
        measure: Returns the ratio once.
        must: What is to be reached.
        at_most: Whether smaller is better.
    """

    name: str
    measure: Callable[[], float]
    must: float
    at_most: bool = False


class _Gate(AbstractContextManager["_Gate"]):
    """Keeps all daemons busy until it is opened."""

    def __init__(self, executor: MiraiExecutor) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.paths = [Path(self.folder.name) / str(n) for n in range(WORKERS)]
        for path in self.paths:
            os.mkfifo(path)
            executor.submit(work.wait_at, path)

    def open(self) -> None:
        for path in self.paths:
            path.write_bytes(b"go")

    def __exit__(self, *_: object) -> None:
        self.folder.cleanup()


def _rate_with_queued(count: int, done: int = 20_000) -> float:
    """Return tasks per second while at least ``count - done`` wait."""
    with MiraiExecutor(WORKERS) as executor:
        for _ in range(3):
            check(executor.submit(work.nothing, 1).result() == 1)
        with _Gate(executor) as gate:
            futures = [executor.submit(work.nothing, i) for i in range(count)]
            gate.open()
            start = time.perf_counter()
            last = min(done, count) - 1
            check(futures[last].result() == last)
            seconds = time.perf_counter() - start
        executor.shutdown(cancel_futures=True)
        return (last + 1) / seconds


def a_million_queued() -> float:
    """Rate with 1,000,000 queued over the rate with 1,000."""
    return _rate_with_queued(1_000_000) / _rate_with_queued(1_000)


def _alternately(ours: MiraiExecutor, other: MiraiExecutor, run: Run, times: int = 7) -> float:
    """Return the rate of one executor over that of another.

    They take turns: a machine may be twice as fast a second later.
    """
    for executor in (ours, other):  # to warm up
        run(executor)
    seconds = [(run(ours), run(other)) for _ in range(times)]
    return sum(other for _, other in seconds) / sum(ours for ours, _ in seconds)


def _pairs(executor: MiraiExecutor) -> float:
    """Return the seconds of 400 tasks, two at a time: what other daemons there are, is idle."""
    start = time.perf_counter()
    for _ in range(200):
        futures = [executor.submit(work.nothing, i) for i in range(WORKERS)]
        check([future.result() for future in futures] == list(range(WORKERS)))
    return time.perf_counter() - start


def idle_daemons() -> float:
    """Rate with 64 idle daemons beside two that work over the rate without them."""
    with MiraiExecutor(WORKERS + 64) as many, MiraiExecutor(WORKERS) as few:
        many.wait_ready()
        few.wait_ready()
        return _alternately(many, few, _pairs)


def _cost_of_a_task(daemons: int, tasks: int = 20_000) -> float:
    """Return the seconds of processor time that a task costs the core."""
    dispatcher = Dispatcher(Policy(max_daemons=daemons))
    held: dict[TaskId, SendTasks] = {}

    def carry_out(commands: list[Command]) -> list[Command]:
        held.update((task, c) for c in commands if isinstance(c, SendTasks) for task in c.tasks)
        return commands

    for n in range(daemons):
        for command in carry_out(dispatcher.handle(TaskSubmitted(TaskId(n)), 0.0)):
            if isinstance(command, LaunchDaemon):
                carry_out(dispatcher.handle(DaemonReady(command.daemon), 0.0))
    check(len(held) == daemons)
    start = time.process_time()
    for n in range(daemons, daemons + tasks):
        task, sent = held.popitem()
        ended = carry_out(dispatcher.handle(ResultsArrived(sent.daemon, {task: None}), 1.0))
        check(ended == [ResolveTasks((task,))])
        carry_out(dispatcher.handle(TaskSubmitted(TaskId(n)), 1.0))
    return (time.process_time() - start) / tasks


def simulated_daemons() -> float:
    """Cost of a task with 10,000 simulated daemons over that with 10."""
    return _cost_of_a_task(10_000) / _cost_of_a_task(10)


def _burst(executor: MiraiExecutor) -> float:
    """Return the seconds of 5,000 submissions, and of waiting for their results."""
    start = time.perf_counter()
    futures = [executor.submit(work.nothing, i) for i in range(5000)]
    check([future.result() for future in futures] == list(range(5000)))
    return time.perf_counter() - start


def _over(url: str) -> float:
    with MiraiExecutor(url=url) as elsewhere, MiraiExecutor(WORKERS) as local:
        elsewhere.launch_local(WORKERS)
        elsewhere.wait_ready(60, count=WORKERS)
        local.wait_ready()
        return _alternately(elsewhere, local, _burst)


def over_tcp() -> float:
    """Rate of 5,000 submits to daemons that have connected by TCP, over that of local ones."""
    return _over("tcp://127.0.0.1:0")


def over_tls() -> float:
    """The same by TLS."""
    return _over("tls+tcp://127.0.0.1:0")


ALONE = (
    Alone("1,000,000 queued, rate over 1,000", a_million_queued, 0.9),
    Alone("64 idle daemons, rate over none", idle_daemons, 0.8),
    Alone("10,000 simulated daemons, cost over 10", simulated_daemons, 1.5, at_most=True),
    Alone("5,000 submits over tcp, rate over local", over_tcp, 0.7),
    Alone("5,000 submits over tls, rate over local", over_tls, 0.5),
)
