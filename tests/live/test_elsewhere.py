"""Daemons that dial their host: they come and go, and what one of them costs is one task."""

import contextlib
import ctypes
import math
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from elsewhere import new_url
from live import hosts, mischief
from live.mischief import SOON, Bell, Tally, ending
from mirai_executor import (
    DaemonLostError,
    LaunchError,
    MiraiExecutor,
    TaskTimeoutError,
    remote_config,
)
from mirai_executor._provisioning import _listening
from mirai_executor._provisioning._listening import Here
from mirai_executor._transport import Link
from mirai_executor.credentials import (
    DaemonCredentials,
    HostHandshake,
    PeerVersion,
    ProtocolError,
    make_certificate,
    new_secret,
)

pytestmark = pytest.mark.transports

BEAT = 0.2  # seconds; a daemon that has been silent for four of them is lost


@contextlib.contextmanager
def listening(daemons: int = 0, **options: Any) -> Iterator[MiraiExecutor]:
    """Make an executor that so many daemons have come to; a failed test does not wait for it."""
    with ending(MiraiExecutor(url=new_url(), **options)) as executor:
        executor.launch_local(daemons)
        if daemons:
            executor.wait_ready(SOON)
        yield executor


def pids(executor: MiraiExecutor) -> list[int]:
    return [row.pid for row in executor.status().rows]


def has_left(executor: MiraiExecutor, pid: int) -> bool:
    return pid not in pids(executor)


def keeper_of(pid: int) -> psutil.Process:
    keeper = psutil.Process(pid).parent()
    assert keeper is not None
    assert "daemon" in keeper.cmdline()
    return keeper


def wait_until(is_so: Callable[[], bool], seconds: float = SOON) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)  # nothing tells when a daemon has gone


def is_gone(process: psutil.Process, seconds: float = hosts.GONE) -> bool:
    return not psutil.wait_procs([process], timeout=seconds)[1]


def hold_the_gil_for(seconds: float) -> float:
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))
    return seconds


# Coming and going


@pytest.mark.parametrize("seconds", [0.0, 1e-6, 10.0])
def test_a_default_timeout_for_sockets_changes_nothing(seconds: float) -> None:
    with mischief.default_timeout(seconds), listening(1) as executor:
        data = os.urandom(5_000_000)
        assert executor.submit(bytes, data).result(SOON) == data


@pytest.mark.parametrize("seconds", [30 * 86400, 1e12, math.inf])
def test_what_daemons_are_given_may_lie_far_ahead(seconds: float) -> None:
    with listening(heartbeat=seconds, start_timeout=seconds) as executor:
        executor.launch_local(1, idle_time=seconds, wall_time=seconds, retry=seconds)
        executor.wait_ready(seconds)
        assert executor.submit(abs, -1).result(SOON) == 1


def test_tasks_wait_for_daemons_which_come_at_any_time() -> None:
    with listening() as executor:
        futures = [executor.submit(abs, -n) for n in range(20)]
        assert executor.launch_local(1) == 1
        assert [future.result(SOON) for future in futures] == list(range(20))
        executor.launch_local(2)
        executor.wait_ready(SOON)
        assert executor.status().connections == executor.size == 3


def test_daemons_may_leave_one_by_one_while_tasks_go_on(tally: Tally) -> None:
    with listening(3) as executor:
        names = [str(n) for n in range(60)]
        futures = [
            executor.submit(mischief.count_and_spin, tally.path, name, 0.02) for name in names
        ]
        for future in (futures[10], futures[20]):
            future.exception(SOON)
            pid = pids(executor)[0]
            keeper_of(pid).kill()
            wait_until(partial(has_left, executor, pid))
        wait(futures, SOON)
        lost = [future for future in futures if future.exception(0) is not None]
        assert len(lost) <= 2
        assert all(isinstance(future.exception(), DaemonLostError) for future in lost)
        assert max(tally.counts().values()) == 1
        assert len(tally.counts()) >= 60 - len(lost)


def test_a_launch_after_the_last_daemon_has_died_brings_the_executor_back() -> None:
    with listening(1) as executor:
        process = keeper_of(pids(executor)[0])
        process.kill()
        assert is_gone(process)
        wait_until(lambda: not pids(executor))
        executor.launch_local(1)
        assert executor.submit(mischief.answer).result(SOON) == 42


def test_daemons_that_cannot_start_fail_what_waits_and_others_may_be_launched() -> None:
    with listening(python="/bin/false") as executor:
        future = executor.submit(mischief.answer)
        executor.launch_local(1)
        error = future.exception(SOON)
        assert isinstance(error, LaunchError)
        assert "/bin/false exited with status 1" in str(error)
        executor.launch_remote(1, Here(sys.executable))
        assert executor.submit(mischief.answer).result(SOON) == 42


def test_daemons_leave_when_idle_and_others_may_follow() -> None:
    with listening(2) as executor:
        stays = pids(executor)
        executor.launch_local(2, idle_time=0.2)
        wait_until(lambda: executor.info().cumulative == 4)
        wait_until(lambda: pids(executor) == stays)
        assert executor.submit(mischief.answer).result(SOON) == 42


def test_no_task_is_lost_to_daemons_that_leave_when_idle(tally: Tally) -> None:
    with listening(2) as executor:
        executor.launch_local(2, idle_time=0.05)
        for n in range(100):
            executor.submit(mischief.count_and_return, tally.path, str(n)).result(SOON)
        assert set(tally.counts().values()) == {1}


def test_no_task_is_lost_to_daemons_whose_time_is_over(tally: Tally) -> None:
    with listening() as executor:
        executor.launch_local(1, wall_time=1.0)
        leaves = executor.submit(mischief.own_pid).result(SOON)
        executor.launch_local(1)
        names = [str(n) for n in range(100)]
        futures = [
            executor.submit(mischief.count_and_spin, tally.path, name, 0.02) for name in names
        ]
        assert [future.result(SOON) for future in futures] == names
        assert set(tally.counts().values()) == {1}
        wait_until(partial(has_left, executor, leaves))


def test_a_daemon_does_no_more_tasks_than_it_may_and_loses_none() -> None:
    with listening() as executor:
        executor.launch_local(1, max_tasks_per_child=5)
        few = executor.submit(mischief.own_pid).result(SOON)
        futures = [executor.submit(mischief.own_pid) for _ in range(500)]
        executor.launch_local(1)
        done_by = [future.result(SOON) for future in futures]
        assert 1 + done_by.count(few) <= 5
        wait_until(partial(has_left, executor, few))


@pytest.mark.parametrize("dispatcher", [True, False])
def test_daemons_do_as_many_tasks_as_they_may(dispatcher: bool) -> None:
    with listening(dispatcher=dispatcher) as executor:
        for may in (1, 1, 1, 3, 30):
            executor.launch_local(1, max_tasks_per_child=may)
        futures = [executor.submit(mischief.own_pid) for _ in range(36)]
        done_by = Counter(future.result(SOON) for future in futures)
        assert sorted(done_by.values()) == [1, 1, 1, 3, 30]
        wait_until(lambda: not pids(executor))


def test_a_task_that_a_daemon_died_of_is_one_of_those_that_it_may_do() -> None:
    with listening() as executor:
        [command] = executor.launch_remote(1, max_tasks_per_child=2)
        keeper = subprocess.Popen(["/bin/sh", "-c", f"exec env {command}"])
        with keeper:
            error = executor.submit(mischief.exit_at_once).exception(SOON)
            assert isinstance(error, DaemonLostError)
            assert executor.submit(mischief.answer).result(SOON) == 42
            assert keeper.wait(SOON) == 0


def test_a_daemon_is_not_idle_while_it_starts() -> None:
    with listening(initializer=time.sleep, initargs=(0.5,)) as executor:
        future = executor.submit(mischief.answer)
        executor.launch_local(1, idle_time=0.1)
        assert future.result(SOON) == 42
        assert executor.info().cumulative == 1


def test_a_daemon_is_not_idle_while_it_does_what_all_do() -> None:
    with listening() as executor:
        executor.launch_local(1, idle_time=0.5)
        executor.wait_ready(SOON)
        executor.everywhere(time.sleep, 1.0)
        assert executor.submit(mischief.answer).result(SOON) == 42
        assert executor.info().cumulative == 1


@pytest.mark.parametrize("cleanup", [True, False])
def test_a_daemon_has_its_own_say_over_whether_it_cleans_up(cleanup: bool) -> None:
    with listening(cleanup=not cleanup) as executor:
        executor.launch_local(1, cleanup=cleanup)
        executor.submit(os.chdir, "/").result(SOON)
        assert (executor.submit(os.getcwd).result(SOON) == "/") is not cleanup


@pytest.mark.parametrize("dispatcher", [True, False])
def test_a_daemon_may_ask_for_a_host_with_or_without_a_dispatcher(dispatcher: bool) -> None:
    with listening(dispatcher=dispatcher) as executor:
        future = executor.submit(mischief.answer)
        executor.launch_local(1, dispatcher=not dispatcher)
        error = future.exception(SOON)
        assert isinstance(error, LaunchError)
        assert f"the host works {'with' if dispatcher else 'without'} a dispatcher" in str(error)
        executor.launch_local(1, dispatcher=dispatcher)
        assert executor.submit(mischief.answer).result(SOON) == 42


def fail_unless(gate: Path) -> None:
    if not gate.exists():
        raise RuntimeError("this machine lacks a file")


def test_an_initializer_that_fails_on_one_machine_costs_that_daemon(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    needed, gate = tmp_path / "needed", tmp_path / "gate"
    needed.touch()
    os.mkfifo(gate)
    with listening(1, initializer=fail_unless, initargs=(needed,)) as executor:
        [healthy] = pids(executor)
        runs = executor.submit(mischief.block_until_open, gate)
        waits = executor.submit(mischief.own_pid)
        needed.unlink()
        executor.launch_local(1)
        wait_until(lambda: "the initializer failed" in caplog.text)
        assert f"failed on {socket.gethostname()}" in caplog.text
        wait_until(lambda: pids(executor) == [healthy])
        gate.write_bytes(b"go")
        assert runs.result(SOON) == b"go"
        assert waits.result(SOON) == healthy


def test_an_initializer_that_fails_everywhere_names_the_machine_and_others_may_come(
    tmp_path: Path,
) -> None:
    needed = tmp_path / "needed"
    with listening(initializer=fail_unless, initargs=(needed,)) as executor:
        future = executor.submit(mischief.answer)
        executor.launch_local(3)
        error = future.exception(SOON)
        assert isinstance(error, LaunchError)
        assert f"failed on {socket.gethostname()}: RuntimeError" in str(error)
        wait_until(lambda: not pids(executor))
        needed.touch()
        executor.launch_local(1)
        assert executor.submit(mischief.answer).result(SOON) == 42


# Losses


def test_a_killed_keeper_costs_its_task_and_takes_its_daemon_along(bell: Bell) -> None:
    with listening(2) as executor:
        victim = executor.submit(mischief.ring_and, bell.path, mischief.wait_for_a_lock)
        bell.wait()
        [busy] = [row.pid for row in executor.status().rows if row.state == "busy"]
        runner = psutil.Process(busy)
        keeper_of(busy).kill()
        error = victim.exception(SOON)
        assert isinstance(error, DaemonLostError)
        assert error.pid == busy
        assert is_gone(runner)
        assert executor.submit(mischief.answer).result(SOON) == 42


def test_a_keeper_that_is_told_to_end_says_what_that_has_cost(bell: Bell) -> None:
    with listening() as executor:
        [command] = executor.launch_remote(1)
        keeper = subprocess.Popen(["/bin/sh", "-c", f"exec env {command}"])
        victim = executor.submit(mischief.ring_and, bell.path, mischief.wait_for_a_lock)
        bell.wait()
        keeper.terminate()
        error = victim.exception(SOON)
        assert isinstance(error, DaemonLostError)
        assert error.exitcode == -signal.SIGTERM
        assert keeper.wait(SOON) == 143
        executor.launch_local(1)
        assert executor.submit(mischief.answer).result(SOON) == 42


def test_a_daemon_that_crashes_is_replaced_by_its_keeper() -> None:
    with listening(1) as executor:
        keeper = keeper_of(pids(executor)[0])
        seen = set()
        for _ in range(7):  # more than a keeper bears of daemons that come to nothing
            seen.add(executor.submit(mischief.own_pid).result(SOON))
            assert isinstance(
                executor.submit(mischief.exit_at_once).exception(SOON), DaemonLostError
            )
        assert len(seen) == 7
        assert keeper_of(executor.submit(mischief.own_pid).result(SOON)) == keeper


def test_daemons_that_each_die_of_their_first_task_are_replaced_all_the_same() -> None:
    with listening(1) as executor:
        for _ in range(7):
            error = executor.submit(mischief.exit_at_once).exception(SOON)
            assert isinstance(error, DaemonLostError)
        assert executor.submit(mischief.answer).result(SOON) == 42


def test_a_stopped_keeper_is_noticed_and_gone_once_it_goes_on(bell: Bell) -> None:
    with listening(1, heartbeat=BEAT) as executor:
        future = executor.submit(mischief.ring_and, bell.path, mischief.wait_for_a_lock)
        bell.wait()
        keeper = keeper_of(pids(executor)[0])
        keeper.suspend()
        try:
            assert isinstance(future.exception(10 * 4 * BEAT), DaemonLostError)
        finally:
            keeper.resume()
        assert is_gone(keeper)


def test_a_task_that_holds_the_gil_for_many_heartbeats_is_not_taken_for_dead() -> None:
    with listening(1, heartbeat=BEAT) as executor:
        assert executor.submit(hold_the_gil_for, 1.5).result(SOON) == 1.5
        assert executor.info().cumulative == 1


def test_a_host_that_holds_the_gil_for_many_heartbeats_loses_no_daemon() -> None:
    with listening(1, heartbeat=BEAT) as executor:
        hold_the_gil_for(1.5)
        assert executor.submit(mischief.answer).result(SOON) == 42
        assert executor.info().cumulative == 1


def test_what_holds_the_gil_can_be_cancelled_and_has_its_time(bell: Bell) -> None:
    with listening(1, heartbeat=BEAT, cancel_grace=0.2) as executor:
        future = executor.submit(mischief.hold_the_gil, bell.path)
        bell.wait()
        assert future.cancel()
        limited = executor.with_options(run_timeout=0.5)
        late = limited.submit(mischief.hold_the_gil, bell.path)
        assert isinstance(late.exception(SOON), TaskTimeoutError)
        assert executor.submit(mischief.answer).result(SOON) == 42


# The end of the host

HOST = f"""
import psutil
url = {new_url()!r}
def listen(**options):
    executor = MiraiExecutor(url=url)
    executor.launch_local(2, **options)
    executor.wait_ready()
    return executor
def tell_pids(executor):
    pids = [row.pid for row in executor.status().rows]
    say(*pids, *(psutil.Process(pid).ppid() for pid in pids))
"""


def script(code: str) -> "contextlib.AbstractContextManager[hosts.Script]":
    return hosts.script(code, prelude=hosts.PRELUDE + HOST)


@pytest.mark.parametrize("task", ["wait_for_ever", "hold_the_gil", "swallow_interrupts"])
def test_a_killed_host_takes_its_keepers_and_daemons_along(task: str) -> None:
    code = f"""
        executor = listen()
        tell_pids(executor)
        futures = [executor.submit(say_and, {task}) for _ in range(2)]
        wait(futures)
    """
    with script(code) as host:
        processes = [psutil.Process(int(pid)) for pid in host.line().split()]
        assert host.line() == host.line() == "runs"
        host.process.kill()
        assert all(map(is_gone, processes))
        assert host.leaves_nothing()


def test_with_autoexit_finish_a_task_ends_though_its_host_is_killed(tmp_path: Path) -> None:
    gate, done = tmp_path / "gate", tmp_path / "done"
    os.mkfifo(gate)
    code = f"""
        def finish():
            say("runs")
            Path({str(gate)!r}).read_bytes()
            Path({str(done)!r}).touch()
        executor = listen(autoexit="finish")
        tell_pids(executor)
        wait([executor.submit(finish)])
    """
    with script(code) as host:
        processes = [psutil.Process(int(pid)) for pid in host.line().split()]
        assert host.line() == "runs"
        host.process.kill()
        # One pair has nothing to finish; the other has.
        wait_until(lambda: sum(map(psutil.Process.is_running, processes)) == 2)
        assert not done.exists()
        gate.write_bytes(b"go")
        assert all(map(is_gone, processes))
        assert done.exists()


def give_secret(monkeypatch: pytest.MonkeyPatch) -> str:
    """Give executors of this process, and of its children, a secret; return it."""
    secret = new_secret().text
    monkeypatch.setenv("MIRAI_EXECUTOR_SECRET", secret)
    monkeypatch.setattr(_listening, "_remembered", None)  # afterwards, too
    return secret


def test_with_autoexit_never_a_daemon_serves_the_next_host_and_the_one_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_secret(monkeypatch)
    url = f"ipc://{tmp_path / 'door'}"
    code = f"""
        executor = MiraiExecutor(url={url!r})
        say(executor.launch_remote(1, autoexit="never")[0])
        executor.wait_ready()
        say("ready")
        wait([executor.submit(wait_for_ever)])
    """
    with contextlib.ExitStack() as stack, script(code) as host:
        command = host.line()
        daemon = stack.enter_context(subprocess.Popen(["/bin/sh", "-c", f"exec env {command}"]))
        stack.callback(daemon.kill)
        assert host.line() == "ready"
        host.process.kill()
        host.process.wait(SOON)
        for _ in range(2):
            with MiraiExecutor(url=url) as executor:
                assert executor.submit(mischief.answer).result(SOON) == 42
        daemon.terminate()
        assert daemon.wait(SOON) == 143


def test_with_autoexit_never_a_daemon_that_a_host_has_launched_outlives_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_secret(monkeypatch)
    url = f"ipc://{tmp_path / 'door'}"
    code = f"""
        executor = MiraiExecutor(url={url!r})
        executor.launch_local(2, autoexit="never")
        executor.wait_ready()
        tell_pids(executor)
    """
    with script(code) as host:  # which ends what is left
        keepers = {int(pid) for pid in host.line().split()[2:]}
        assert host.process.wait(SOON) == 0
        with MiraiExecutor(url=url) as executor:
            executor.wait_ready(SOON, count=2)
            assert {keeper_of(pid).pid for pid in pids(executor)} == keepers


def seen_by_a_task() -> list[bytes]:
    """Return all environments that a task can read: those above it, and that of a child."""
    seen = [subprocess.run(["env"], capture_output=True, check=True).stdout]
    seen += [repr(os.environ).encode()]
    for process in [psutil.Process(), *psutil.Process().parents()]:
        with contextlib.suppress(OSError):
            seen.append(Path(f"/proc/{process.pid}/environ").read_bytes())
        if process.pid == int(os.environ.get("HOST_OF_THIS_TEST", 0)):
            break
    return seen


def test_no_task_finds_the_secret_or_its_token_in_an_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = give_secret(monkeypatch)
    monkeypatch.setenv("HOST_OF_THIS_TEST", str(os.getpid()))
    with MiraiExecutor(url=f"ipc://{tmp_path / 'door'}") as executor:
        assert "MIRAI_EXECUTOR_SECRET" not in os.environ
        executor.launch_local(1)
        seen = executor.submit(seen_by_a_task).result(SOON)
    assert len(seen) >= 4
    assert not [text for text in seen if secret.encode() in text]
    token = re.compile(rb"MIRAI_EXECUTOR_SECRET=[0-9a-f]")
    assert not [text for text in seen if token.search(text)]


def test_a_host_wipes_its_secret_from_what_the_kernel_shows_of_it() -> None:
    secret = new_secret().text
    program = (
        "import mirai_executor, pathlib; mirai_executor.MiraiExecutor(url='tcp://127.0.0.1:0')"
        ".shutdown(); print(pathlib.Path('/proc/self/environ').read_bytes())"
    )
    environment = {**os.environ, "MIRAI_EXECUTOR_SECRET": secret, "OTHER": f"of {secret[:9]}"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, check=True
    )
    assert b"MIRAI_EXECUTOR_SECRET=" + b"*" * len(secret) + b"\\x00" in done.stdout
    assert f"OTHER=of {secret[:9]}".encode() in done.stdout
    assert secret.encode() not in done.stdout


def test_a_daemon_that_was_dismissed_does_not_come_back(tmp_path: Path) -> None:
    with MiraiExecutor(url=f"ipc://{tmp_path / 'door'}") as executor:
        assert executor.url is not None
        assert executor._launching is not None
        launch = executor._launching.listening.listen_config.secret.new_token()
        for token, code in ((launch.member(1), 12), (launch, 0)):
            for expected in (0, code):
                credentials = DaemonCredentials(token)
                words = ("--idle-time", "0", "--retry", "5")
                assert run_daemon(executor.url, credentials, *words)[0] == expected


def test_a_daemon_that_stays_waits_no_longer_than_its_idle_time(tmp_path: Path) -> None:
    with MiraiExecutor(url=f"ipc://{tmp_path / 'door'}") as executor:
        [command] = executor.launch_remote(1, autoexit="never", idle_time=1.0)
        daemon = subprocess.Popen(["/bin/sh", "-c", f"exec env {command}"])
        assert executor.submit(mischief.answer).result(SOON) == 42
    assert daemon.wait(SOON) == 0


@pytest.mark.parametrize("asked_for", [0, 2])
def test_an_error_that_leaves_an_executor_does_not_wait_for_ever_for_daemons(
    asked_for: int, caplog: pytest.LogCaptureFixture
) -> None:
    futures = []

    def wait_in_vain() -> None:
        with MiraiExecutor(url=new_url(), start_timeout=0.5) as executor:
            executor.launch_remote(asked_for, remote_config("true"))  # accepted, and never run
            futures.extend([executor.submit(abs, -n) for n in range(3)])
            futures[0].result(timeout=0.01)

    with pytest.raises(TimeoutError):
        wait_in_vain()
    assert all(isinstance(future.exception(0), LaunchError) for future in futures)
    [warning] = caplog.messages
    assert "3 tasks fail" in warning
    assert "0.5 s" in warning


def test_tasks_that_no_daemon_has_come_for_do_not_hold_up_the_exit() -> None:
    code = """
        executor = MiraiExecutor(url=url)
        executor.submit(abs, -1).add_done_callback(lambda future: say(repr(future.exception())))
    """
    ended = hosts.run(code, prelude=hosts.PRELUDE + HOST)
    assert ended.code == 0
    assert "LaunchError" in ended.out
    assert "no daemon is connected" in ended.out
    assert ended.err == ""
    assert ended.seconds < 15


def test_at_the_exit_tasks_wait_for_daemons_that_are_on_their_way() -> None:
    code = """
        executor = MiraiExecutor(url=url)
        executor.launch_local(1)
        for n in range(3):
            executor.submit(abs, -n).add_done_callback(lambda future: say(future.result()))
    """
    ended = hosts.run(code, prelude=hosts.PRELUDE + HOST)
    assert (ended.code, ended.out.split(), ended.err) == (0, ["0", "1", "2"], "")


# What tasks print


def chatter(size: int) -> int:
    print("x" * size, end="", flush=True)
    os.write(1, b"y")
    return size


@contextlib.contextmanager
def printing_daemon(executor: MiraiExecutor) -> Iterator["subprocess.Popen[bytes]"]:
    """Start a daemon whose standard output is a pipe to this test."""
    [command] = executor.launch_remote(1)
    line = ["/bin/sh", "-c", f"exec env {command}"]
    with subprocess.Popen(line, stdout=subprocess.PIPE) as keeper:
        yield keeper


def test_what_a_task_prints_has_been_passed_on_when_it_ends() -> None:
    with listening() as executor, printing_daemon(executor) as keeper:
        assert keeper.stdout is not None
        os.set_blocking(keeper.stdout.fileno(), False)
        for size in (1, 100, 10_000):
            executor.submit(chatter, size).result(SOON)
            assert os.read(keeper.stdout.fileno(), 65536) == b"x" * size + b"y"
        executor.shutdown()


def test_what_is_printed_waits_for_a_slow_reader_and_none_of_it_is_lost() -> None:
    with listening() as executor, printing_daemon(executor) as keeper:
        assert keeper.stdout is not None
        future = executor.submit(chatter, 1_000_000)  # no pipe holds as much
        assert keeper.stdout.read(1_000_001) == b"x" * 1_000_000 + b"y"
        assert future.result(SOON) == 1_000_000
        executor.shutdown()


def test_who_prints_when_the_reader_has_gone_does_not_fail() -> None:
    with listening() as executor, printing_daemon(executor) as keeper:
        executor.wait_ready(SOON)
        assert keeper.stdout is not None
        keeper.stdout.close()
        for size in (1, 1_000_000, 1):
            assert executor.submit(chatter, size).result(SOON) == size
        assert executor.submit(os.system, "echo children, too").result(SOON) == 0
        executor.shutdown()


def test_a_reader_that_goes_while_a_task_waits_for_it_sets_the_task_free() -> None:
    with listening() as executor, printing_daemon(executor) as keeper:
        assert keeper.stdout is not None
        future = executor.submit(chatter, 1_000_000)
        assert keeper.stdout.read(1) == b"x"
        keeper.stdout.close()
        assert future.result(SOON) == 1_000_000
        executor.shutdown()


def test_a_file_is_what_tasks_print_to_themselves(tmp_path: Path) -> None:
    with listening() as executor, (tmp_path / "out").open("wb") as out:
        [command] = executor.launch_remote(1)
        with subprocess.Popen(["/bin/sh", "-c", f"exec env {command}"], stdout=out):
            where = executor.submit(os.readlink, "/proc/self/fd/1").result(SOON)
            executor.shutdown()
    assert where == str(tmp_path / "out")


# What the command line's exit status says


def run_daemon(url: str, credentials: DaemonCredentials | None, *words: str) -> tuple[int, str]:
    environment = {} if credentials is None else credentials.environment
    ended = subprocess.run(
        [sys.executable, "-m", "mirai_executor", "daemon", url, "--retry", "0", *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=SOON,
    )
    return ended.returncode, ended.stderr


def test_a_daemon_that_finds_no_host_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    code, said = run_daemon(f"tcp://127.0.0.1:{port}", DaemonCredentials(new_secret()))
    assert code == 10
    assert "cannot reach the host" in said


def test_a_daemon_does_not_trust_a_host_with_another_certificate() -> None:
    with MiraiExecutor(url="tls+tcp://127.0.0.1:0") as executor:
        other = make_certificate()
        credentials = DaemonCredentials(new_secret(), other.authority, other.server_name)
        assert executor.url is not None
        code, said = run_daemon(executor.url, credentials)
    assert code == 11
    assert "its certificate is not trusted" in said


def test_a_daemon_of_another_executor_is_refused() -> None:
    with MiraiExecutor(url="tcp://127.0.0.1:0") as executor:
        assert executor.url is not None
        code, said = run_daemon(executor.url, DaemonCredentials(new_secret()))
        assert executor.status().refused == 1
    assert code == 12
    assert "this is not the host that the daemon was started for" in said


def test_a_daemon_says_that_the_host_works_otherwise_than_it_was_to() -> None:
    with MiraiExecutor(url=new_url()) as executor:
        assert executor._launching is not None
        assert executor.url is not None
        credentials = executor._launching.listening.credentials
        code, said = run_daemon(executor.url, credentials, "--no-dispatcher")
    assert code == 15
    assert "the host works with a dispatcher" in said
    assert "--no-dispatcher" in said


def test_a_daemon_of_another_version_says_which() -> None:
    secret = new_secret()

    def receive(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        link = Link(connection, blocking=True)
        handshake = HostHandshake(secret, PeerVersion((2, 7), "0.0.1"))
        with contextlib.closing(link):
            frame = link.receive()
            assert frame is not None
            try:
                handshake.receive(bytes(frame))
            except ProtocolError as error:
                link.send(error.reply or b"")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        host = threading.Thread(target=receive, args=(listener,))
        host.start()
        port = listener.getsockname()[1]
        code, said = run_daemon(f"tcp://127.0.0.1:{port}", DaemonCredentials(secret))
        host.join()
    assert code == 13
    assert "Python 2.7" in said


@pytest.mark.parametrize(
    ("words", "text"),
    [((), "MIRAI_EXECUTOR_SECRET"), (("--idle-time", "soon"), "'soon' is not a number")],
)
def test_a_daemon_called_in_a_wrong_way_says_how(words: tuple[str, ...], text: str) -> None:
    code, said = run_daemon("tcp://127.0.0.1:1", None, *words)
    assert code == 2
    assert text in said


def test_a_daemon_that_is_not_ready_in_time_is_given_up(bell: Bell) -> None:
    hang = mischief.hold_the_gil
    with listening(initializer=hang, initargs=(bell.path,), start_timeout=1.0) as executor:
        [command] = executor.launch_remote(1, autoexit="never")
        keeper = subprocess.Popen(
            ["/bin/sh", "-c", f"exec env {command}"], stderr=subprocess.PIPE, text=True
        )
        bell.wait()
        _, said = keeper.communicate(timeout=SOON)
        wait_until(lambda: not pids(executor))
    assert keeper.returncode == 14
    assert "it was not ready within the start_timeout of its host" in said


def test_a_daemon_whose_interpreters_come_to_nothing_gives_up(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\nif 'daemon import main' in str(sys.orig_argv): os._exit(3)\n"
    )
    python_path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    with listening() as executor:
        [command] = executor.launch_remote(1)
        ended = subprocess.run(
            ["/bin/sh", "-c", command],
            env={**os.environ, "PYTHONPATH": python_path},
            capture_output=True,
            text=True,
            timeout=SOON,
        )
    assert ended.returncode == 14
    assert "the Python interpreters that it starts exit before they run a task" in ended.stderr
