"""Daemons behind a line that is long, thin, or both."""

import contextlib
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from live.afar import listening
from live.mischief import SOON, Bell, ring
from live.slow import Line
from mirai_executor import MiraiExecutor, TaskTimeoutError
from mirai_executor._core import DaemonId, InterruptTask, TaskId
from mirai_executor._host import _remote
from mirai_executor._host._loop import Loop
from mirai_executor.urls import Url

pytestmark = [pytest.mark.transports, pytest.mark.own_url, pytest.mark.once]

MBIT = 125_000.0  # bytes a second
LONG = 2_000_000  # bytes, which take 16 s at 1 Mbit/s
SHORT = 500_000  # bytes, which take 4 s
ATLANTIC, SATELLITE = 0.15, 0.5  # seconds of a round trip


@pytest.fixture(autouse=True)
def far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_remote, "_NEAR", ())  # the line ends on this machine


@contextlib.contextmanager
def behind(
    count: int, *, rate: float = 1e9, delay: float = 0.02, shared: bool = False, **options: Any
) -> Iterator[MiraiExecutor]:
    """Make an executor whose daemons are all at the other end of such a line."""
    with line_to(count, rate=rate, delay=delay, shared=shared, **options) as (executor, _):
        yield executor


@contextlib.contextmanager
def line_to(
    count: int, *, rate: float, delay: float = 0.02, shared: bool = False, **options: Any
) -> Iterator[tuple[MiraiExecutor, Line]]:
    """Make an executor and the line to its daemons."""
    with contextlib.ExitStack() as stack:
        executor = stack.enter_context(listening(**options))
        assert executor.url is not None
        assert executor._launching is not None
        line = Line(Url.parse(executor.url).port, rate=rate, delay=delay, shared=shared)
        words = ["-m", "mirai_executor", "daemon", f"tcp://127.0.0.1:{line.port}"]
        secret = executor._launching.listening.credentials.environment
        keepers = [
            subprocess.Popen([sys.executable, *words], env={**os.environ, **secret})
            for _ in range(count)
        ]
        try:
            executor.wait_ready(SOON * (1 + count // 8), count=count)
            yield executor, line
        except BaseException:
            for keeper in keepers:
                keeper.terminate()  # which may be looking for its host still
            raise
        finally:
            executor.kill_workers()
            line.close()
            for keeper in keepers:
                keeper.wait(SOON)


class Stops:
    """Notes how many bytes the daemons had got when a stop was asked for, and when answered."""

    def __init__(self, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: dict[TaskId, int] = {}
        self.answered: dict[TaskId, int] = {}
        carry_out, on_results = Loop._carry_out_at_daemon, Loop.on_results

        def note_asked(loop: Loop, command: Any) -> None:
            if isinstance(command, InterruptTask):
                self.asked[command.task] = line.to_daemons
            carry_out(loop, command)

        def note_answered(loop: Loop, daemon: DaemonId, outcomes: Any) -> None:
            self.answered |= {TaskId(one.task): line.to_daemons for one in outcomes}
            on_results(loop, daemon, outcomes)

        monkeypatch.setattr(Loop, "_carry_out_at_daemon", note_asked)
        monkeypatch.setattr(Loop, "on_results", note_answered)


@pytest.mark.parametrize("knows_function", [True, False])
@pytest.mark.parametrize("way", ["cancel", "timeout"])
def test_a_stop_overtakes_the_call_that_is_to_stop_and_costs_no_daemon(
    way: str, knows_function: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What the line carries to the daemon in two round trips.
    two_trips = 2 * SATELLITE * MBIT
    with line_to(1, rate=MBIT, delay=SATELLITE / 2, cancel_grace=4, heartbeat=0.5) as (
        executor,
        line,
    ):
        stops = Stops(line, monkeypatch)
        pid = executor.submit(os.getpid).result(SOON)
        if knows_function:  # then the rest of the call need not be sent
            executor.submit(len, b"").result(SOON)
        data = os.urandom(LONG if knows_function else SHORT)
        before = line.to_daemons
        if way == "timeout":
            upload = executor.with_options(timeout=0.8).submit(len, data)
            with pytest.raises(TaskTimeoutError):
                upload.result(SOON)
        else:
            upload = executor.submit(len, data)
            line.wait_until("to_daemons", before + (1 << 15))
            assert upload.cancel()
        after = executor.submit(os.getpid)
        assert after.result(SOON) == pid
        asked = stops.asked[upload._id]
        assert asked - before > 1 << 14  # it was under way
        assert stops.answered[upload._id] - asked < two_trips
        if knows_function:
            assert stops.answered[after._id] - asked < two_trips
        assert executor.info().cumulative == 1


def test_a_stop_overtakes_the_result_that_nobody_wants_any_more_and_costs_no_daemon() -> None:
    with line_to(1, rate=MBIT, delay=SATELLITE / 2, cancel_grace=4, heartbeat=0.5) as (
        executor,
        line,
    ):
        pid = executor.submit(os.getpid).result(SOON)
        before = line.to_host
        download, behind = (executor.submit(give, LONG) for _ in range(2))  # 16 s for each
        line.wait_until("to_host", before + (1 << 16))
        assert download.cancel()
        assert behind.cancel()
        asked = line.to_host
        assert executor.submit(os.getpid).result(SOON) == pid
        # What was under way, and what the line carries until the next task has its answer.
        assert line.to_host - asked < 3 * SATELLITE * MBIT
        assert executor.info().cumulative == 1


def test_a_stop_and_its_answer_overtake_a_result(tmp_path: Path) -> None:
    with (
        contextlib.closing(Bell(tmp_path)) as bell,
        behind(1, rate=MBIT, cancel_grace=2, heartbeat=0.2) as executor,
    ):
        pid = executor.submit(os.getpid).result(SOON)
        for _ in range(20):  # then it counts as short, and the next one need not wait for a result
            executor.submit(give, 1).result(SOON)
        download = executor.submit(give, SHORT)
        endless = executor.submit(give, 1, bell.path)
        bell.wait()
        assert not download.done()
        assert endless.cancel()
        assert executor.submit(os.getpid).result(SOON) == pid
        assert len(download.result(SOON)) == SHORT


def give(size: int, bell: Path | None = None) -> bytes:
    if bell is not None:
        ring(bell)
        time.sleep(600)
    return os.urandom(size)


def test_what_tasks_log_beyond_what_a_slow_line_takes_is_dropped_and_holds_up_nothing(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    records = 4_000  # of 1 kB, which take 32 s
    with (
        caplog.at_level(logging.INFO),
        contextlib.closing(Bell(tmp_path)) as bell,
        line_to(1, rate=MBIT, cancel_grace=8, logging=True) as (executor, line),
    ):
        pid = executor.submit(os.getpid).result(SOON)
        assert executor.submit(log, records).result(SOON) == records
        # Those that may wait are 400 kB, and 40 of what the line itself holds.
        assert line.to_host < 600_000
        endless = executor.submit(log, 1 << 60, records, bell.path)
        bell.wait()
        assert endless.cancel()
        assert executor.submit(os.getpid).result(SOON) == pid
    told = [text for text in caplog.messages if "records of tasks were dropped" in text]
    dropped = sum(int(text.split()[0]) for text in told)
    came = sum(text == "y" * 1000 for text in caplog.messages)
    assert dropped > records / 2
    assert dropped + came >= 2 * records


def log(count: int, ring_at: int = 0, bell: Path | None = None) -> int:
    for number in range(count):
        logging.getLogger("flood").info("y" * 1000)
        if bell is not None and number == ring_at:
            ring(bell)
    return count


@pytest.mark.timeout(150)  # on a busy machine, it takes long until they are there
def test_sixteen_results_that_share_a_slow_line_cost_no_daemon() -> None:
    """All times are an eighth of those at 1 Mbit/s, with the usual heartbeat of 5 s."""
    scale = 8
    size = 1_500_000  # of each of 16: they take 192 s, and here 24
    with behind(
        16, rate=scale * MBIT, delay=0.16 / scale, shared=True, heartbeat=5 / scale
    ) as executor:
        pids = {future.result(SOON) for future in executor.everywhere(os.getpid)}
        assert len(pids) == 16
        results = [executor.submit(give_with_pid, size) for _ in range(16)]
        found = [future.result(50) for future in results]
        assert {pid for pid, _ in found} == pids
        assert {len(data) for _, data in found} == {size}
        assert executor.info().cumulative == 16


def give_with_pid(size: int) -> tuple[int, bytes]:
    return os.getpid(), os.urandom(size)


def test_what_is_long_travels_compressed_over_a_slow_line_if_that_is_wanted() -> None:
    text = b"".join(b"line %d of a long text\n" % n for n in range(15_000))
    carried = []
    for compression in ("auto", None):
        with line_to(1, rate=4 * MBIT, compression=compression) as (executor, line):
            before = line.carried
            assert executor.submit(bytes.upper, text).result(SOON) == text.upper()
            carried.append(line.carried - before)
    assert carried[1] > 2 * len(text)
    # What was sent before the line turned out to be slow, and the buffers of the kernel.
    assert carried[0] < carried[1] * 0.7


@pytest.mark.timeout(150)  # of which it takes 7 unless daemons are idle
def test_daemons_at_the_other_end_of_a_long_line_are_busy_for_four_fifths_of_the_time() -> None:
    """As the core's tests have it for many lines and tasks; here, with all that is around it."""
    shares = list[float]()
    with behind(2, delay=ATLANTIC / 2) as executor:
        list(executor.map(nap, [0.02] * 10))  # which shows how long they take
        while max(shares, default=0) < 0.8 and len(shares) < 3:  # others use this machine, too
            begin = time.perf_counter()
            busy = sum(executor.map(nap, [0.02] * 400))
            shares.append(busy / 2 / (time.perf_counter() - begin))
    assert max(shares) >= 0.8, shares


def nap(seconds: float) -> float:
    begin = time.perf_counter()
    time.sleep(seconds)
    return time.perf_counter() - begin


@pytest.mark.parametrize("way", ["result", "argument"])
def test_no_more_is_sent_ahead_than_the_line_carries_in_that_time(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_remote, "_PER_BYTE", 1e-7)  # so that less shows it: 10 MB/s
    size = 200_000
    call: Any = bytes if way == "result" else len
    value: Any = size if way == "result" else bytes(size)
    with behind(1, delay=0.05) as executor:
        while executor.submit(call, value).result(SOON) and not is_far(executor):
            pass
        for _ in range(4):  # which show how long they take
            executor.submit(call, value).result(SOON)
        futures = [executor.submit(call, value) for _ in range(60)]
        futures[0].result(SOON)
        # Two frames of a round trip of 0.1 s and a little more, of tasks of 0.02 s.
        assert 2 <= sum(future.running() for future in futures) <= 16
        assert len({future.result(SOON) for future in futures}) == 1


def is_far(executor: MiraiExecutor) -> bool:
    """Tell whether the way to its daemon has been measured."""
    loop: Any = executor._host._loop
    (daemon,) = loop._fleet._daemons.values()
    return bool(daemon.round_trips >= _remote._FIRST_TRIPS)
