"""The whole story of an executor where Python, the kernel or a sandbox lacks what Linux has."""

from pathlib import Path

import pytest

from live import lacking
from live.hosts import Script, run, script

STORY = """
import sys
import numpy as np
from mirai_executor import DaemonLostError, TaskTimeoutError
from mirai_executor._arena import available
from mirai_executor._local import has_pidfds

def end(status):
    if status < 0:
        os.kill(os.getpid(), -status)
    os._exit(status)

def end_and_leave_a_child():
    if os.fork() == 0:
        wait_for_ever()
    os._exit(7)

def add_to(array):
    array += 1
    return array

def start():
    if not url:
        return MiraiExecutor(2, cancel_grace=0.2)
    executor = MiraiExecutor(url=url, cancel_grace=0.2)
    executor.launch_local(2)
    return executor

say("pidfds", has_pidfds(), "arenas", available())
with start() as executor:
    say("values", sum(executor.map(abs, range(-100, 0))))
    for task in (lambda: end(3), lambda: end(-9), end_and_leave_a_child):
        try:
            executor.submit(task).result(30)
        except DaemonLostError as error:
            say("lost", error.exitcode)
    waits = executor.submit(say_and, wait_for_ever)
    sys.stdin.readline()
    say("cancelled", waits.cancel(), waits.cancelled(), executor.submit(abs, -1).result(30))
    for task in (wait_for_ever, hold_the_gil):
        try:
            executor.with_options(run_timeout=0.2).submit(task).result(30)
        except TaskTimeoutError:
            say("late", executor.submit(abs, -1).result(30))
    array = np.zeros(1_000_000)
    more = executor.submit(add_to, array).result(30)
    more += 1
    say("arrays", more.sum(), array.sum())
    shared = executor.share(more)
    say("shared", sum(executor.map(np.sum, [shared] * 4)))
    more = shared = None
say("end")
"""
TOLD = [
    *("values 5050", "lost 3", "lost -9", "lost 7", "runs"),
    *("cancelled True True 1", "late 1", "late 1", "arrays 2000000.0 0.0", "shared 8000000.0"),
    "end",
]
# By ctypes: the C library has the call, though Python has no name for it.
HAS_ARENAS = "names"
# Beside daemons of this machine: those that a keeper watches.
ELSEWHERE = [
    pytest.param(
        way,
        "tcp://127.0.0.1:0",
        marks=[pytest.mark.transports, pytest.mark.own_url],
        id=f"{way}-tcp",
    )
    for way in ("names, and threads instead", "calls that a sandbox forbids")
]


def tell(host: Script) -> list[str]:
    """Return what it has to say, to its end."""
    told: list[str] = []
    while not told or told[-1] != "end":
        told.append(host.line())
        if told[-1] == "runs":
            host.go_on()
    return told


@pytest.mark.once
@pytest.mark.slow
@pytest.mark.timeout(180)  # nearly each line of the story waits for a fresh interpreter
@pytest.mark.local_link("has addresses of its own")
@pytest.mark.parametrize(("way", "url"), [*((way, "") for way in lacking.WAYS), *ELSEWHERE])
def test_everything_works_without(
    way: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking.take_away(way, tmp_path, monkeypatch)
    with script(f"url = {url!r}\n{STORY}") as host:
        assert tell(host) == [f"pidfds False arenas {way == HAS_ARENAS}", *TOLD]
        assert host.end().code == 0
        assert host.leaves_nothing()  # no process; the fixture looks for files


@pytest.mark.once
@pytest.mark.slow
@pytest.mark.local_link("has addresses of its own")
@pytest.mark.parametrize("way", ["names, and the C library", "calls that a sandbox forbids"])
def test_a_killed_host_takes_its_daemons_along_without(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
    executor = MiraiExecutor(2)
    for _ in range(2):
        executor.submit(say_and, wait_for_ever)
    wait_for_ever()
    """
    lacking.take_away(way, tmp_path, monkeypatch)
    with script(code) as host:
        assert [host.line(), host.line()] == ["runs", "runs"]
        assert len(host.processes()) == 3
        host.kill()
        host.end()
        assert host.leaves_nothing()


@pytest.mark.local_link("daemons elsewhere are started by a thread")
@pytest.mark.parametrize("pidfds", [True, False])
def test_the_last_thread_that_a_system_grants_runs_an_executor_to_its_end(pidfds: bool) -> None:
    code = f"""
    def start(_):
        raise RuntimeError("can't start new thread")

    if not {pidfds}:
        del os.pidfd_open
    threading.Thread.start = start
    with MiraiExecutor(1) as executor:
        try:
            executor.submit(os._exit, 3).result(30)
        except Exception as error:
            say(error.exitcode, executor.submit(abs, -1).result(30))
    """
    ended = run(code)
    assert (ended.code, ended.out, ended.err) == (0, "3 1\n", "")
