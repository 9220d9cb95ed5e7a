"""Hosts that gevent patches: their threads, locks, sockets and sleeps are greenlets' by then."""

import subprocess
import sys
from pathlib import Path

import pytest

from live.hosts import PATIENCE, PRELUDE, run

FIRST = "from gevent import monkey; monkey.patch_all()\n"
PROGRAM = """
import os, threading, time
from concurrent.futures import CancelledError, as_completed, wait
from mirai_executor import DaemonLostError, MiraiExecutor, TaskTimeoutError

def square(n):
    return n * n

def spin():
    while True:
        sum(range(1000))

def is_error_of(future, error):
    return isinstance(future.exception(), error)

def main():
    executor = MiraiExecutor(**OPTIONS)
    if "url" in OPTIONS:
        executor.launch_local(2)
    with executor:
        print(list(executor.map(square, range(5))))
        future = executor.submit(spin)
        try:
            future.result(timeout=0.1)
        except TimeoutError:
            print(future.cancel(), future.cancelled())
        limited = executor.with_options(run_timeout=0.1)
        print(is_error_of(limited.submit(spin), TaskTimeoutError))
        print(is_error_of(executor.submit(os._exit, 3), DaemonLostError))
        print(is_error_of(executor.submit(int, "x"), ValueError))
        print(len(executor.submit(bytes, 3_000_000).result()))
        # What waits lets other greenlets run: these submit what the first one waits for.
        found, all_there = [], threading.Event()
        def work(n):
            found.append(executor.submit(square, n).result())
            if len(found) == 6:
                all_there.set()
        threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        print(all_there.wait(30), sorted(found))
        futures = [executor.submit(square, n) for n in range(6)]
        print(sorted(future.result() for future in as_completed(futures)))
        print(len(wait([executor.submit(square, n) for n in range(6)]).done))
    print("ended", flush=True)

if __name__ == "__main__":
    main()
"""
EXPECTED = [
    "[0, 1, 4, 9, 16]",
    "True True",
    *["True"] * 3,
    "3000000",
    "True [0, 1, 4, 9, 16, 25]",
    "[0, 1, 4, 9, 16, 25]",
    "6",
    "ended",
]


@pytest.mark.parametrize("options", [{"max_workers": 2}, {"url": "tcp://127.0.0.1:0"}])
def test_a_host_that_gevent_has_patched_works(options: dict[str, object]) -> None:
    ended = run(PROGRAM, prelude=f"{FIRST}OPTIONS = {options!r}\n")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines() == EXPECTED


def test_daemons_that_import_a_script_which_patches_itself_work(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(f"{FIRST}OPTIONS = {{'max_workers': 2}}\n{PROGRAM}")
    command = [sys.executable, str(program)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == EXPECTED


def test_a_wait_for_a_task_lets_other_greenlets_run() -> None:
    code = """
        import gevent

        def read(fifo):
            with open(fifo) as file:
                return file.read()

        reads, writes = os.pipe()
        with MiraiExecutor(1) as executor:
            future = executor.submit(read, f"/proc/{os.getpid()}/fd/{reads}")
            other = gevent.spawn(os.close, os.dup(writes))
            gevent.spawn(os.write, writes, b"from a greenlet").link(lambda _: os.close(writes))
            print(future.result(), other.successful())
    """
    ended = run(code, prelude=FIRST + PRELUDE)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == "from a greenlet True\n"
