"""Daemons behind a line that is long, thin, or both."""

import contextlib
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
from mirai_executor._host import _remote
from mirai_executor.urls import Url

pytestmark = [pytest.mark.transports, pytest.mark.own_url, pytest.mark.once]

MBIT = 125_000.0  # bytes a second
LONG = 2_000_000  # bytes, which take 16 s at 1 Mbit/s
SHORT = 500_000  # bytes, which take 4 s


@pytest.fixture(autouse=True)
def far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_remote, "_NEAR", ())  # the line ends on this machine


@contextlib.contextmanager
def behind(
    count: int, *, rate: float = 1e9, delay: float = 0.02, **options: Any
) -> Iterator[MiraiExecutor]:
    """Make an executor whose daemons are all at the other end of such a line."""
    with line_to(count, rate=rate, delay=delay, **options) as (executor, _):
        yield executor


@contextlib.contextmanager
def line_to(
    count: int, *, rate: float, delay: float = 0.02, **options: Any
) -> Iterator[tuple[MiraiExecutor, Line]]:
    """Make an executor and the line to its daemons."""
    with contextlib.ExitStack() as stack:
        executor = stack.enter_context(listening(**options))
        assert executor.url is not None
        assert executor._launching is not None
        line = Line(Url.parse(executor.url).port, rate=rate, delay=delay)
        words = ["-m", "mirai_executor", "daemon", f"tcp://127.0.0.1:{line.port}"]
        secret = executor._launching.listening.credentials.environment
        keepers = [
            subprocess.Popen([sys.executable, *words], env={**os.environ, **secret})
            for _ in range(count)
        ]
        try:
            executor.wait_ready(SOON, count=count)
            yield executor, line
        finally:
            executor.kill_workers()
            line.close()
            for keeper in keepers:
                keeper.wait(SOON)


@pytest.mark.parametrize("knows_function", [True, False])
@pytest.mark.parametrize("way", ["cancel", "timeout"])
def test_a_stop_overtakes_the_call_that_is_to_stop_and_costs_no_daemon(
    way: str, knows_function: bool
) -> None:
    with behind(1, rate=MBIT, cancel_grace=2, heartbeat=0.2) as executor:
        pid = executor.submit(os.getpid).result(SOON)
        if knows_function:  # then the rest of the call need not be sent
            executor.submit(len, b"").result(SOON)
        data = os.urandom(LONG if knows_function else SHORT)
        if way == "timeout":
            upload = executor.with_options(timeout=0.3).submit(len, data)
            with pytest.raises(TaskTimeoutError):
                upload.result(SOON)
        else:
            upload = executor.submit(len, data)
            while not upload.running():
                time.sleep(1e-3)
            assert upload.cancel()
        assert executor.submit(os.getpid).result(8) == pid


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


def test_daemons_at_the_other_end_of_a_long_line_are_busy() -> None:
    with behind(2, delay=0.075) as executor:
        list(executor.map(time.sleep, [0.02] * 10))  # which shows how long they take
        begin = time.monotonic()
        list(executor.map(time.sleep, [0.02] * 200))
        took = time.monotonic() - begin
        # Four fifths, as the core's tests have it, on a machine that is busy itself.
        assert took < 2 * 200 * 0.02 / 2
