"""Storms of faults, with the history of each. The plain tests run small ones, chaos big ones.

A storm draws all its chances from a seed, which every failed assertion shows.
"""

import contextlib
import functools
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from live import mischief
from live.mischief import SOON, Tally
from mirai_executor import (
    DaemonLostError,
    MiraiExecutor,
    MiraiInterrupt,
    PayloadError,
    TaskTimeoutError,
)


def spin_for(seconds: float) -> None:
    """Let time pass, more exactly than a sleep would."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


# Cancels


def cancel_at_random(
    executor: MiraiExecutor, tally: Tally, rounds: Iterable[int], seed: int
) -> None:
    """Submit, cancel at a random moment, submit the next, whose value must come."""
    chance = random.Random(seed)
    # Who is interrupted in an import is replaced, rightly: that is another test.
    wait(executor.everywhere("import live.mischief"), SOON)
    pids = {row.pid for row in executor.status().rows}
    works: list[Callable[[], Any]] = [
        mischief.answer,
        functools.partial(time.sleep, 0.005),
        functools.partial(mischief.spin_and_return, 0.002, 42),
        mischief.by_value(),
        functools.partial(mischief.give, bytes(200_000)),
    ]
    done = []
    for n in rounds:
        victim = executor.submit(chance.choice(works))
        spin_for(chance.choice([0.0, 0.0003, 0.001, 0.005]) * chance.random())
        victim.cancel()
        value = executor.submit(mischief.count_and_return, tally.path, str(n), n).result(SOON)
        assert value == n, seed
        done.append(n)
    assert tally.counts() == {str(n): 1 for n in done}, seed
    assert {row.pid for row in executor.status().rows} == pids, seed


# Kills


def kill_at_random(executor: MiraiExecutor, tally: Tally, kills: Iterable[int], seed: int) -> None:
    """Kill daemons at random moments while tasks flow; check what that has cost."""
    chance = random.Random(seed)
    killed: set[int] = set()
    tasks: list[Future[Any]] = []
    for _ in kills:
        victims: list[int] = []
        while not victims:
            for _ in range(5):
                tasks.append(submit_any(executor, tally, f"t{len(tasks)}", chance))
            # Twenty are kept open, so that there is load.
            wait(tasks[-25:-20], SOON)
            rows = [row for row in executor.status().rows if row.state in ("ready", "busy")]
            spin_for(chance.random() * 0.003)
            victims = [row.pid for row in rows if row.pid not in killed]
        victim = chance.choice(victims)
        killed.add(victim)
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
    check_kills(tasks, tally.counts, len(killed), seed)
    assert executor.submit(mischief.answer).result(SOON) == 42


def submit_any(
    executor: MiraiExecutor, tally: Tally, name: str, chance: random.Random
) -> "Future[Any]":
    size = chance.choice([0, 0, 0, 10, 100_000])
    seconds = chance.choice([0.0, 0.0, 0.0005, 0.002])
    work = functools.partial(mischief.count_spin_and_return, tally.path)
    return executor.submit(work, name, seconds, size)


def check_kills(
    tasks: list["Future[Any]"], count: Callable[[], Counter[str]], kills: int, seed: int
) -> None:
    """Check that each task has its own value or was lost, and none ran twice."""
    ends = {f"t{n}": future.exception(SOON) for n, future in enumerate(tasks)}
    counts = count()
    lost = [error for error in ends.values() if error is not None]
    assert all(isinstance(error, DaemonLostError) for error in lost), (seed, lost)
    assert len(lost) <= kills, seed
    assert max(counts.values()) == 1, seed
    for name, future in zip(ends, tasks, strict=True):
        if ends[name] is None:
            assert counts[name] == 1, (seed, name)
            value = future.result()
            assert value == mischief.content_of(name, len(value[1])), (seed, name)


# Everything at once


MOST_OPEN = 60  # tasks


@dataclass
class Soak:
    """A Poisson process of submissions and faults, and the history that it has made."""

    executor: MiraiExecutor
    tally: Tally
    seed: int
    tasks: dict[str, "Soaked"] = field(default_factory=dict)
    ended: Counter[str] = field(default_factory=Counter)  # how often each future's callback ran
    broadcasts: list[Future[Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)

    def run(self, steps: Iterable[int], rate: float) -> None:
        """Make so many random steps, ``rate`` of them a second, and wait for what is open."""
        actions = {
            self.submit: 100,
            self.cancel: 25,
            self.kill: 2,
            self.interrupt: 2,
            self.pause: 2,
            self.broadcast: 1,
        }
        for _ in steps:
            threading.Event().wait(self.chance.expovariate(rate))
            self.chance.choices(list(actions), list(actions.values()))[0]()
        self.proceed()
        wait([task.future for task in self.tasks.values()], SOON * 2)
        pending = {name: task for name, task in self.tasks.items() if not task.future.done()}
        assert not pending, (self.seed, pending, self.executor.status())
        assert not wait(self.broadcasts, SOON).not_done, self.seed

    def submit(self) -> None:
        if len(self.tasks) - len(self.ended) > MOST_OPEN:
            return  # however slow this machine is, what is open ends soon
        chance, name = self.chance, f"s{len(self.tasks)}"
        kind = chance.choices(list(KINDS), [kind.weight for kind in KINDS.values()])[0]
        options: dict[str, Any] = {}
        if chance.random() < 0.2 or KINDS[kind].endless:
            options["run_timeout"] = chance.choice([0.002, 0.02, 0.2])
        if chance.random() < 0.1:
            options["timeout"] = chance.choice([0.005, 0.05, 0.5])
        if chance.random() < 0.2:
            options["retries"] = chance.randrange(1, 3)
        view = self.executor.with_options(**options)
        future = view.submit(KINDS[kind].call, self.tally.path, name)
        future.add_done_callback(lambda _: self.ended.update([name]))
        self.tasks[name] = Soaked(kind, options, future)

    def cancel(self) -> None:
        names = list(self.tasks)[-30:]
        if names:
            task = self.tasks[self.chance.choice(names)]
            task.cancelled = task.future.cancel() or task.cancelled

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def interrupt(self) -> None:
        self._signal(signal.SIGINT)

    def pause(self) -> None:
        self.proceed()
        self._signal(signal.SIGSTOP)

    def proceed(self) -> None:
        for row in self.executor.status().rows:
            with contextlib.suppress(ProcessLookupError):
                os.kill(row.pid, signal.SIGCONT)

    def broadcast(self) -> None:
        self.broadcasts += self.executor.everywhere("broadcasts = globals().get('broadcasts', 0)")

    def _signal(self, number: int) -> None:
        # One that starts is left alone: five that end before their first task break an executor.
        rows = [row for row in self.executor.status().rows if row.state in ("ready", "busy")]
        if rows:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.chance.choice(rows).pid, number)

    def check(self) -> None:
        """Check the history: one end for each future, and of a kind that it may have."""
        counts = self.tally.counts()
        for name, task in self.tasks.items():
            story = (self.seed, name, task)
            assert self.ended[name] == 1, story
            assert counts[name] <= 1 + task.options.get("retries", 0), story
            if task.cancelled:
                assert task.future.cancelled(), story
                continue
            try:
                error = task.future.exception(0)
            except CancelledError:
                raise AssertionError(story) from None
            if error is None:
                assert counts[name] >= 1, story
                assert task.future.result() == KINDS[task.kind].value, story
                continue
            allowed = (DaemonLostError, MiraiInterrupt, *KINDS[task.kind].errors)
            limits = task.options.keys() & {"timeout", "run_timeout"}
            allowed = (*allowed, *([TaskTimeoutError] if limits else []))
            assert isinstance(error, allowed), (story, error, error.__cause__)
        status = self.executor.status()
        assert (status.awaiting, status.executing) == (0, 0), self.seed
        assert status.completed == len(self.tasks), self.seed
        assert self.executor.submit(mischief.answer).result(SOON) == 42, self.seed


@dataclass
class Soaked:
    """One task of a soak."""

    kind: str
    options: dict[str, Any]
    future: "Future[Any]"
    cancelled: bool = False


@dataclass(frozen=True)
class Kind:
    """One kind of task, and how it may end if nobody touches it."""

    call: Callable[[Path, str], Any]
    weight: int
    value: Any = None
    errors: tuple[type[BaseException], ...] = ()
    endless: bool = False


def quick(tally: Path, name: str) -> int:
    mischief.ring(tally, name)
    return 42


def spin(tally: Path, name: str) -> int:
    mischief.ring(tally, name)
    return int(mischief.spin_and_return(0.003, 42))


def large(tally: Path, name: str) -> bytes:
    mischief.ring(tally, name)
    return bytes(300_000)


def fail(tally: Path, name: str) -> None:
    mischief.ring(tally, name)
    raise ArithmeticError("on purpose")


def die(tally: Path, name: str) -> None:
    mischief.ring(tally, name)
    os._exit(7)


def fork(tally: Path, name: str) -> int:
    mischief.ring(tally, name)
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
    return 42


def sleep(tally: Path, name: str) -> None:
    mischief.ring(tally, name)
    mischief.sleep_long()


def stubborn(tally: Path, name: str) -> None:
    mischief.ring(tally, name)
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(600)


def unpicklable(tally: Path, name: str) -> Any:
    mischief.ring(tally, name)
    return threading.Lock()


KINDS = {
    "quick": Kind(quick, 60, 42),
    "spin": Kind(spin, 20, 42),
    "large": Kind(large, 3, bytes(300_000)),
    "fail": Kind(fail, 5, errors=(ArithmeticError,)),
    "die": Kind(die, 1),
    "fork": Kind(fork, 2, 42),
    "sleep": Kind(sleep, 4, endless=True),
    "stubborn": Kind(stubborn, 1, endless=True),
    "unpicklable": Kind(unpicklable, 3, errors=(PayloadError,)),
}
