"""Strangers who come by the thousand, for real, while a daemon that is far away is to join."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from live.afar import listening
from live.mischief import SOON
from live.slow import Line
from mirai_executor import MiraiExecutor
from mirai_executor._host import _guests
from mirai_executor.urls import Url

pytestmark = [pytest.mark.transports, pytest.mark.own_url, pytest.mark.once]

ONE_WAY = 0.05  # seconds to the host: a round trip of 100 ms
AS_FAST_AS_IT_CAN = 1e6
PROGRAM = str(Path(__file__).with_name("strangers.py"))


@dataclass
class Flood:
    """Strangers who come from one address, until they are told to stop."""

    process: "subprocess.Popen[str]"

    def end(self) -> int:
        """Stop it; return how many have come."""
        said, _ = self.process.communicate(timeout=SOON)
        return int(said)


@contextlib.contextmanager
def flooded(executor: MiraiExecutor, source: str, rate: float) -> Iterator[Flood]:
    """Have strangers come to an executor, who are a crowd by now."""
    url = Url.parse(executor.urls[0])
    words = [sys.executable, PROGRAM, url.host, str(url.port), source, str(rate)]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "a crowd\n"
            yield Flood(process)
        finally:
            process.kill()


@contextlib.contextmanager
def far_daemon(executor: MiraiExecutor) -> Iterator[None]:
    """Have a daemon dial the host from far away."""
    assert executor._launching is not None
    url = Url.parse(executor.urls[0])
    line = Line(url.port, delay=ONE_WAY)
    words = ["-m", "mirai_executor", "daemon", f"{url.scheme}://127.0.0.1:{line.port}"]
    secret = executor._launching.listening.credentials.environment
    keeper = subprocess.Popen([sys.executable, *words], env={**os.environ, **secret})
    try:
        yield
    finally:
        executor.kill_workers()
        line.close()
        keeper.terminate()  # of a test that has failed; else it has ended, or is about to
        keeper.wait(SOON)


@pytest.mark.parametrize(
    ("scheme", "source", "rate", "places"),
    [
        ("tcp", "127.0.0.2", AS_FAST_AS_IT_CAN, 32),
        ("tls+tcp", "127.0.0.2", AS_FAST_AS_IT_CAN, 32),
        ("tcp", "127.0.0.1", 1000, 64),  # where the daemon comes from, too
    ],
)
def test_a_flood_of_silent_strangers_does_not_keep_a_far_daemon_out(
    scheme: str, source: str, rate: float, places: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So few that each is taken by somebody else before a round trip is over, on slow machines too.
    monkeypatch.setattr(_guests, "MOST", places)
    with (
        listening(f"{scheme}://127.0.0.1:0") as executor,
        flooded(executor, source, rate) as flood,
        far_daemon(executor),
    ):
        executor.wait_ready(SOON, count=1)
        before = executor.status().refused
        assert executor.submit(abs, -7).result(SOON) == 7
        assert flood.process.poll() is None
        assert flood.end() > before > 500
        assert executor.status().refused > before
        assert executor.submit(abs, -8).result(SOON) == 8
