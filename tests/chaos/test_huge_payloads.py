"""Payloads of more bytes than 31 or 32 bits can count."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

GB = 1 << 30
PROGRAM = Path(__file__).parents[1] / "live" / "payloads.py"


def available_memory() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.live
@pytest.mark.parametrize("url", ["local", "tcp://127.0.0.1:0"])
@pytest.mark.parametrize("size", [2 * GB + 100, 4 * GB + 100])
def test_an_array_of_gigabytes_goes_there_and_comes_back(
    url: str, size: int, request: pytest.FixtureRequest
) -> None:
    if size < 4 * GB and not request.config.option.full:
        pytest.skip("with --full: more than 32 bits count is more than 31 bits count, too")
    if available_memory() < 4 * size:  # host, keeper and daemon hold it at once
        pytest.skip(f"{4 * size / GB:.0f} GB of memory are needed")
    done = subprocess.run(
        [sys.executable, PROGRAM, url, "array", str(size)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    growth = json.loads(done.stdout)
    assert max(*growth["there"], *growth["back"]) < 1.3
