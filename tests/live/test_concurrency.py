"""``with_options(concurrency=)``: coroutines that run at once on one daemon."""

import asyncio
import contextvars
import logging
import os
import random
import signal
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from live import loops
from live.mischief import SOON
from mirai_executor import (
    DaemonLostError,
    MiraiExecutor,
    MiraiFuture,
    MiraiInterrupt,
    Progress,
    TaskTimeoutError,
    on_daemon,
    progress,
    rng,
)

PLACES = ["here", "elsewhere"]
MANY = 20
LOG = logging.getLogger("live.concurrency")
gates: dict[str, asyncio.Event] = {}  # of a daemon
arrived: dict[str, int] = {}
variable = contextvars.ContextVar("variable", default=0)


@pytest.fixture
def daemon(executor: MiraiExecutor) -> MiraiExecutor:
    """The same, if its daemon is here: what is about the daemon needs no other."""
    if executor._launching is not None:
        pytest.skip("is the same elsewhere")
    return executor


def gate(name: str) -> asyncio.Event:
    return gates.setdefault(name, asyncio.Event())


async def meet(n: Any, name: str = "meet", of: int = MANY) -> Any:
    """Wait until so many have come: which they can only all at once."""
    arrived[name] = arrived.get(name, 0) + 1
    if arrived[name] == of:
        gate(name).set()
    await gate(name).wait()
    return n


async def wait_at(name: str) -> str:
    await gate(name).wait()
    return name


async def open_gate(name: str) -> None:
    gate(name).set()


def test_so_many_run_at_once_on_one_daemon(executor: MiraiExecutor) -> None:
    several = executor.with_options(concurrency=MANY)
    futures = [several.submit(meet, n) for n in range(MANY)]
    assert [future.result(SOON) for future in futures] == list(range(MANY))
    mapped = several.map(meet, range(MANY), ["map"] * MANY)
    assert list[Any](mapped) == list(range(MANY))
    assert several.mirai_map(range(MANY), meet, args=("mirai_map",)).collect() == [*range(MANY)]


def test_so_do_those_that_are_sent_by_value(daemon: MiraiExecutor) -> None:
    async def come(n: int, name: str) -> Any:
        return await meet(n, name, 3)

    several = daemon.with_options(concurrency=3)
    assert list[Any](several.map(come, range(3), ["by value"] * 3)) == [0, 1, 2]
    come_too = partial(come, name="partial")
    assert several.mirai_map(range(3), come_too).collect() == [0, 1, 2]
    assert list[Any](several.map(come_too, range(3))) == [0, 1, 2]


def test_each_ends_as_soon_as_it_does(executor: MiraiExecutor) -> None:
    several = executor.with_options(concurrency=MANY)
    waiting = several.submit(wait_at, "end")
    assert several.submit(meet, 1, "alone", 1).result(SOON) == 1
    assert not waiting.done()
    several.submit(open_gate, "end")
    assert waiting.result(SOON) == "end"


@pytest.mark.parametrize(
    ("fn", "how"), [(loops.wait_for_ever, "in order"), (loops.block, "by force")]
)
def test_a_cancel_stops_one_and_no_other(
    executor: MiraiExecutor, tmp_path: Path, fn: Any, how: str, capfd: pytest.CaptureFixture[str]
) -> None:
    several = executor.with_options(concurrency=MANY)
    waiting = several.submit(wait_at, how)
    os.mkfifo(begun := tmp_path / "begun")
    future = several.submit(fn, begun, tmp_path / "ended")
    begun.read_text()
    future.cancel()
    assert future.cancelled()
    several.submit(open_gate, how)
    assert waiting.result(SOON) == how
    assert executor.submit((tmp_path / "ended").read_text).result(SOON) == how
    assert executor.info().cumulative == 1  # the daemon has survived it
    assert capfd.readouterr().err == ""


def test_a_time_to_run_stops_one_and_no_other(executor: MiraiExecutor) -> None:
    several = executor.with_options(concurrency=MANY)
    waiting = several.submit(wait_at, "time")
    limited = several.with_options(run_timeout=0.2)
    assert isinstance(limited.submit(wait_at, "never").exception(SOON), TaskTimeoutError)
    several.submit(open_gate, "time")
    assert waiting.result(SOON) == "time"


def test_other_tasks_run_on_a_daemon_without_company(executor: MiraiExecutor) -> None:
    several = executor.with_options(concurrency=MANY)
    waiting = several.submit(wait_at, "others")
    done: list[str] = []
    others: list[MiraiFuture[Any]] = [
        several.submit(on_daemon),  # no coroutine
        executor.submit(meet, 1, "one", 1),  # not so submitted
        several.submit_source("7"),
    ]
    for future in others:
        future.add_done_callback(lambda _: done.append("another"))
    waiting.add_done_callback(lambda _: done.append("coroutine"))
    several.with_options(timeout=0.2).submit(open_gate, "others").exception(SOON)
    assert done == []  # as it has waited behind them
    waiting.cancel()
    assert [future.result(SOON) for future in others] == [True, 1, 7]


async def fail(error: BaseException) -> None:
    await asyncio.sleep(0)
    raise error


def test_an_error_is_that_of_one_and_has_no_frames_of_ours(daemon: MiraiExecutor) -> None:
    several = daemon.with_options(concurrency=MANY)
    waiting = several.submit(wait_at, "errors")
    error = several.submit(fail, ValueError("in one")).exception(SOON)
    assert isinstance(error, ValueError)
    assert error.__context__ is None
    frames, trace = [], error.__traceback__
    while trace is not None:
        frames.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    assert frames[-1] == "fail"
    assert not {"run_forever", "_note_end", "_end"} & {*frames}
    with pytest.raises(MiraiInterrupt):
        several.submit(fail, KeyboardInterrupt()).result(SOON)
    assert isinstance(several.submit(fail, SystemExit(3)).exception(SOON), SystemExit)
    given_up = several.submit(fail, asyncio.CancelledError()).exception(SOON)
    assert isinstance(given_up, asyncio.CancelledError)
    assert several.submit(meet, lambda: 1, "lambda", 1).result(SOON)() == 1
    assert several.submit(meet, threading.Lock(), "lock", 1).exception(SOON) is not None
    several.submit(open_gate, "errors")
    assert waiting.result(SOON) == "errors"


async def die() -> None:
    await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGKILL)


async def survive(path: Path) -> str:
    """Wait for the end of the daemon the first time."""
    if os.path.exists(path):  # noqa: ASYNC240, PTH110 - it takes no time
        return "once more"
    loops.note(path)
    await asyncio.sleep(3600)
    return "never"


def test_a_crash_costs_those_that_ran_there_unless_they_may_run_again(tmp_path: Path) -> None:
    with MiraiExecutor(1) as executor:
        several = executor.with_options(concurrency=3)
        waiting = several.submit(wait_at, "crash")
        again = several.with_options(retries=1).submit(survive, tmp_path / "begun")
        assert several.submit(die).exception(SOON).__class__ is DaemonLostError
        assert isinstance(waiting.exception(SOON), DaemonLostError)
        assert again.result(SOON) == "once more"


def hear(heard: set[float], said: Progress) -> None:
    heard.add(said.done)


async def tell(n: int) -> tuple[int, int]:
    """Say who one is, several times, while others do."""
    inherited = variable.get()
    for time_ in range(3):
        await meet(n, f"tell {time_}", 3)
        LOG.warning("from %d", n)
        await asyncio.to_thread(progress, n)
    await asyncio.gather(asyncio.to_thread(LOG.warning, "from %d", n))
    return inherited, int(rng().integers(10**9))


def test_what_belongs_to_one_is_not_that_of_another(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with MiraiExecutor(1, seed=42, logging=True) as executor:
        several = executor.with_options(concurrency=3, context=[variable])
        heard: dict[int, set[float]] = {0: set(), 1: set(), 2: set()}
        futures = []
        for n in range(3):
            variable.set(n)
            view = several.with_options(on_report=partial(hear, heard[n]))
            futures.append(view.submit(tell, n))
        results = [future.result(SOON) for future in futures]
    streams = np.random.SeedSequence(42).spawn(3)
    drawn = [int(np.random.default_rng(s).integers(10**9)) for s in streams]
    assert results == [(n, drawn[n]) for n in range(3)]
    assert heard == {0: {0.0}, 1: {1.0}, 2: {2.0}}
    tagged = {(r.getMessage(), r.mirai_task) for r in caplog.records if r.name == LOG.name}  # type: ignore[attr-defined]  # ours
    assert tagged == {(f"from {n}", futures[n].id) for n in range(3)}


async def leave_something(n: int) -> bool:
    """Start what does not end, and tell whether what others have started has ended."""
    left = asyncio.get_running_loop().create_task(asyncio.sleep(3600), name="left")
    await meet(n, "left", 2)
    if n == 0:
        return True
    if others := [t for t in asyncio.all_tasks() if t.get_name() == "left" and t is not left]:
        await asyncio.wait(others)
    return not left.done()


def test_what_one_has_left_running_ends_with_it_and_that_of_others_does_not(
    daemon: MiraiExecutor,
) -> None:
    several = daemon.with_options(concurrency=2)
    assert list[Any](several.map(leave_something, range(2))) == [True, True]


async def add_one(array: Any) -> Any:
    await meet(0, "arrays", 3)
    return array + 1


def test_large_arrays_come_and_go(daemon: MiraiExecutor) -> None:
    several = daemon.with_options(concurrency=3)
    futures = [several.submit(add_one, np.full(100_000, float(n))) for n in range(3)]
    assert [future.result(SOON)[-1] for future in futures] == [1.0, 2.0, 3.0]


async def set_variable(n: int) -> tuple[int, str | None]:
    before = os.environ.get("LEFT")
    os.environ["LEFT"] = "here"
    return await meet(n, "cleanup", 2), before


def test_a_daemon_cleans_up_once_all_have_ended() -> None:
    with MiraiExecutor(1, cleanup=True) as executor:
        several = executor.with_options(concurrency=2)
        assert list[Any](several.map(set_variable, range(2))) == [(0, None), (1, "here")]
        assert executor.submit(os.environ.get, "LEFT").result(SOON) is None


def test_a_shutdown_stops_all_of_them_and_the_end_of_a_block_waits() -> None:
    with MiraiExecutor(1) as executor:
        several = executor.with_options(concurrency=2)
        futures = [several.submit(meet, n, "end of block", 2) for n in range(2)]
    assert [future.result(0) for future in futures] == [0, 1]
    with MiraiExecutor(1) as executor:
        several = executor.with_options(concurrency=2)
        stopped = [several.submit(wait_at, "never") for _ in range(3)]
        assert several.with_options(timeout=0.3).submit(on_daemon).exception(SOON)
        executor.shutdown(cancel_running=True)
        assert all(future.cancelled() for future in stopped)


def test_in_this_process_they_run_one_at_a_time() -> None:
    with MiraiExecutor(1, mode="inline") as executor:
        several = executor.with_options(concurrency=2)
        assert list[Any](several.map(meet, range(2), ["a", "b"], [1, 1])) == [0, 1]


def test_a_concurrency_is_a_number_from_one_on(daemon: MiraiExecutor) -> None:
    with pytest.raises(ValueError, match="concurrency"):
        daemon.with_options(concurrency=0)
    with pytest.raises(TypeError, match="concurrency"):
        daemon.with_options(concurrency="many")  # type: ignore[arg-type]  # that is the point


async def spin_or_wait(n: int, seconds: float, spins: bool) -> int:
    end = time.monotonic() + seconds
    while spins and time.monotonic() < end:
        pass
    await asyncio.sleep(0 if spins else seconds)
    return n


def test_cancels_at_random_moments_touch_no_other(executor: MiraiExecutor) -> None:
    several, draw = executor.with_options(concurrency=16), random.Random(7)
    futures: list[MiraiFuture[int]] = []
    cancelled: set[int] = set()
    for n in range(100):
        spins = n % 16 == 0
        futures.append(several.submit(spin_or_wait, n, draw.uniform(0, 0.02), spins))
        if draw.random() < 0.3:
            chosen = draw.randrange(len(futures))
            cancelled |= {chosen} if futures[chosen].cancel() else set()
    ended = {n: future.result(SOON) for n, future in enumerate(futures) if n not in cancelled}
    assert ended == {n: n for n in range(100) if n not in cancelled}
    assert all(futures[n].cancelled() for n in cancelled)
