"""Without pynng, as on Python 3.15, all but WebSockets works, and these say what to install."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from live.hosts import PATIENCE
from mirai_executor.credentials import new_secret

pytestmark = pytest.mark.local_link("listens at addresses of its own")


def run(code: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run Python where pynng is not installed, nor for the daemons that it starts."""
    (folder / "pynng.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'pynng'\", name='pynng')"
    )
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path, "MIRAI_EXECUTOR_SECRET": new_secret().text},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.mark.parametrize("url", ["", "tcp://127.0.0.1:0", "tls+tcp://127.0.0.1:0"])
def test_tasks_run_without_it(url: str, tmp_path: Path) -> None:
    code = f"""
import mirai_executor
with mirai_executor.MiraiExecutor(*{[] if url else [1]}, url={url or None!r}) as executor:
    if {url!r}:
        executor.launch_local(1)
    print(executor.submit(abs, -1).result())
"""
    done = run(code, tmp_path)
    assert (done.stdout, done.returncode) == ("1\n", 0), done.stderr


def test_who_listens_at_a_websocket_reads_what_to_install(tmp_path: Path) -> None:
    code = """
import mirai_executor
mirai_executor.MiraiExecutor(url="wss://127.0.0.1:0/x")
"""
    done = run(code, tmp_path)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("mirai_executor.errors.LaunchError: ws")
    assert "pip install pynng" in last


def test_a_daemon_that_is_to_dial_one_says_what_to_install(tmp_path: Path) -> None:
    code = """
import runpy, sys
sys.argv = ["mirai-executor", "daemon", "ws://127.0.0.1:1/x"]
runpy.run_module("mirai_executor", run_name="__main__")
"""
    done = run(code, tmp_path)
    assert done.returncode != 0
    assert "pip install pynng" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.transports
def test_a_daemon_with_another_address_goes_there(tmp_path: Path) -> None:
    code = """
import os, subprocess, sys
from mirai_executor import MiraiExecutor
with MiraiExecutor(url="tcp://127.0.0.1:0") as executor:
    environment = os.environ | executor._launching.listening.credentials.environment
    words = [sys.executable, "-m", "mirai_executor", "daemon", "ws://127.0.0.1:1/x", executor.url]
    daemon = subprocess.Popen(words, env=environment)
    print(executor.submit(abs, -1).result())
daemon.wait()
"""
    done = run(code, tmp_path)
    assert (done.stdout, done.returncode) == ("1\n", 0), done.stderr
