"""Live: a daemon that the fork server has forked is like one that is a fresh interpreter."""

import contextlib
import errno
import faulthandler
import gc
import locale
import os
import random
import resource
import secrets
import select
import signal
import ssl
import subprocess
import sys
import tempfile
import textwrap
import threading
import uuid
import warnings
from collections import Counter
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from live import mischief
from live.hosts import GONE, script
from live.mischief import SOON, Bell, running
from mirai_executor import DaemonLostError, MiraiExecutor
from mirai_executor._local import end_group, has_pidfds

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="there is no fork server"),
    pytest.mark.local_link("keepers start fresh interpreters"),
]


def pids(executor: MiraiExecutor) -> list[int]:
    return [row.pid for row in executor.status().rows]


def server_of(executor: MiraiExecutor) -> psutil.Process:
    """Return the one process that has forked all daemons."""
    (parent,) = {psutil.Process(pid).ppid() for pid in pids(executor)}
    assert parent != os.getpid()
    return psutil.Process(parent)


def interpreters() -> list[psutil.Process]:
    """Return the children of this process that were started to be daemons."""
    children = psutil.Process().children()
    return [child for child in children if "mirai_executor.daemon" in " ".join(child.cmdline())]


def replace(executor: MiraiExecutor) -> int:
    """Kill the one daemon that there is, and return the pid of the next."""
    (old,) = pids(executor)
    watch = os.pidfd_open(old)
    os.kill(old, signal.SIGKILL)
    assert select.select([watch], [], [], SOON)[0]
    os.close(watch)
    while True:
        try:
            pid = executor.submit(os.getpid).result(SOON)
        except DaemonLostError:
            continue  # the host had not noticed
        assert pid != old
        return pid


def without_exec(folder: Path) -> str:
    """Return an interpreter whose daemons are not the process that the host has started."""
    path = folder / "python"
    path.write_text(f'#!/bin/sh\n{sys.executable} "$@"\nexit $?\n')
    path.chmod(0o755)
    return str(path)


# Who is whose child


def test_the_host_starts_one_interpreter_and_that_forks_all_daemons() -> None:
    with running(4) as executor:
        server = server_of(executor)
        assert interpreters() == [server]
        assert sorted(child.pid for child in server.children()) == sorted(pids(executor))


def test_a_replacement_is_forked_by_the_same_server() -> None:
    with running() as executor:
        server = server_of(executor)
        new = {replace(executor) for _ in range(3)}
        assert len(new) == 3
        assert server_of(executor) == server
        assert len(server.children()) == 1  # those that have ended are collected


@pytest.mark.parametrize("seconds", [0.0, 1e-6, 10.0])
def test_a_default_timeout_for_sockets_changes_nothing(seconds: float) -> None:
    with mischief.default_timeout(seconds), running() as executor:
        server = server_of(executor)
        replace(executor)
        assert server_of(executor) == server
        data = os.urandom(1 << 20)
        assert executor.submit(bytes, data).result(SOON) == data


def test_each_daemon_and_the_server_have_a_process_group_of_their_own() -> None:
    with running(3) as executor:
        for pid in (*pids(executor), server_of(executor).pid):
            assert os.getpgid(pid) == pid
            assert os.getsid(pid) == os.getsid(0)  # the terminal stays within reach


def descriptors(pid: int) -> Counter[str]:
    found: Counter[str] = Counter()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # that of this very listing
            found[str(entry.readlink())] += 1
    return found


def test_the_server_keeps_nothing_that_belongs_to_a_daemon_or_to_the_hosts_streams() -> None:
    with running(3) as executor:
        victim = pids(executor)[0]
        os.kill(victim, signal.SIGKILL)
        while victim in pids(executor):
            pass  # the host has yet to notice
        executor.wait_ready(SOON)
        held = descriptors(server_of(executor).pid)
        assert held.pop("/dev/null") == 3
        assert sorted(name.partition(":")[0] for name in held.elements()) == ["pipe", "socket"]


def test_a_daemon_has_nothing_of_the_servers_or_of_another_daemons() -> None:
    with running(3) as executor:
        # The tracker of multiprocessing's resources is one for all, as it is for this process.
        ours = (1, resource_tracker.getfd())
        common = {str(Path(f"/proc/self/fd/{fd}").readlink()) for fd in ours}
        held = [descriptors(pid) for pid in pids(executor)]
        # The lifeline is one for all, too; no daemon has the end that the host holds.
        pipes = {name for name in held[0] & held[1] & held[2] if name.startswith("pipe")}
        (lifeline,) = pipes - common
        common.add(lifeline)
        assert _writers(lifeline, pids(executor)) == 0
        held.append(descriptors(server_of(executor).pid))
        for number, one in enumerate(held):
            for other in held[number + 1 :]:
                shared = {name for name in one & other if name.startswith(("pipe", "socket"))}
                # Names of memfds and of /dev/null are no names of one file.
                assert shared <= common


def _writers(pipe: str, pids: list[int]) -> int:
    """Count the descriptors by which processes can write to a pipe."""
    found = [fd for pid in pids for fd in Path(f"/proc/{pid}/fd").iterdir()]
    ends = [
        Path(str(fd).replace("/fd/", "/fdinfo/")) for fd in found if str(fd.readlink()) == pipe
    ]
    flags = [int(end.read_text().split("flags:")[1].split()[0], 8) for end in ends]
    assert len(flags) == len(pids)
    return sum(flag & os.O_ACCMODE != os.O_RDONLY for flag in flags)


def test_daemons_and_their_server_have_titles() -> None:
    with running(2) as executor:
        shown = {psutil.Process(pid).name() for pid in pids(executor)}
        assert shown == {"mirai-1", "mirai-2"}
        assert server_of(executor).name() == "mirai-server"


@pytest.mark.parametrize(
    ("name", "shown"),
    [("gpu", "mirai-gpu-1"), ("preprocessing", "mirai-preproc-1"), ("müüüüü", "mirai-müüü-1")],
)
def test_the_title_of_a_daemon_has_the_name_of_its_executor(name: str, shown: str) -> None:
    with MiraiExecutor(1, name=name) as executor:
        executor.wait_ready(SOON)
        (row,) = executor.status().rows
        assert Path(f"/proc/{row.pid}/comm").read_text() == f"{shown}\n"


# As fresh as a fresh interpreter


_OF_A_PROCESS = ("Umask", "SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt", "Cap", "NoNewPrivs")


_OF_A_SHELL = ("PWD", "OLDPWD", "SHLVL", "_")  # it exports them where it was given none


def look_around() -> dict[str, Any]:
    """Describe this daemon, as far as it does not differ from one to the next."""
    status = Path("/proc/self/status").read_text().splitlines()
    kinds = sorted(
        name.partition(":")[0] for name in descriptors(os.getpid()).elements() if ":" in name
    )
    return {
        "modules": sorted(sys.modules),
        "path": sys.path,
        "argv": sys.argv,
        "flags": repr(sys.flags),
        "filters": repr(warnings.filters),
        "environment": {k: v for k, v in os.environ.items() if k not in _OF_A_SHELL},
        "folder": Path.cwd(),
        "descriptors": kinds,
        "inheritable": [fd for fd in range(64) if _is_inheritable(fd)],
        "signals": [(n, signal.getsignal(n) is signal.SIG_DFL) for n in signal.valid_signals()],
        "kernel": [line for line in status if line.startswith(_OF_A_PROCESS)],
        "limits": Path("/proc/self/limits").read_text(),
        "threads": threading.active_count(),
        "main thread": threading.current_thread() is threading.main_thread(),
        "stdout": _stream(sys.stdout),
        "stderr": _stream(sys.stderr),
        "stdin": _stream(sys.stdin),
        "faulthandler": faulthandler.is_enabled(),
        "gc": (gc.isenabled(), gc.get_threshold(), gc.get_freeze_count() > 1_000),
        "locale": locale.setlocale(locale.LC_ALL),
        "tempdir": tempfile.tempdir,
        "terminal": os.isatty(0),
    }


def _is_inheritable(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False


def _stream(stream: Any) -> tuple[object, ...]:
    return (stream.fileno(), stream.encoding, stream.errors, stream.line_buffering)


def test_nothing_tells_a_forked_daemon_from_a_fresh_interpreter(tmp_path: Path) -> None:
    with running(python=without_exec(tmp_path)) as executor:
        fresh = executor.submit(look_around).result(SOON)
        wrapper = psutil.Process(pids(executor)[0])
        assert wrapper.ppid() == os.getpid()  # it is one
    with running() as executor:
        first = executor.submit(look_around).result(SOON)
        replace(executor)
        later = executor.submit(look_around).result(SOON)
    assert first == fresh
    assert later == fresh


def draw() -> list[object]:
    return [
        random.random(),
        float(np.random.random()),
        uuid.uuid1().hex,
        uuid.uuid4().hex,
        secrets.token_hex(),
        ssl.RAND_bytes(16),
        next(tempfile._get_candidate_names()),  # type: ignore[attr-defined]
        os.urandom(16),
    ]


def test_no_two_daemons_draw_the_same_random_numbers() -> None:
    with running() as executor:
        drawn = []
        for _ in range(3):
            drawn.append(executor.submit(draw).result(SOON))
            replace(executor)
    for numbers in zip(*drawn, strict=True):
        assert len(set(numbers)) == 3


def _environ() -> bytes:
    return Path("/proc/self/environ").read_bytes()


def test_a_daemon_sees_what_the_host_has_changed_of_its_environment_since_the_first_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with running() as executor:
        server = server_of(executor)
        monkeypatch.setenv("MIRAI_TEST_NEW", "here")
        replace(executor)
        own = executor.submit(_environ).result(SOON)
        assert b"MIRAI_TEST_NEW=here" in own.split(b"\0")  # as the kernel has it
        assert server_of(executor) != server
        assert not server.is_running()  # it had no daemon left
        replaced = server_of(executor)
        replace(executor)
        assert server_of(executor) == replaced


def test_a_server_that_is_out_of_date_stays_until_its_last_daemon_is_collected(
    monkeypatch: pytest.MonkeyPatch, bell: Bell, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with running() as executor:
        server = server_of(executor)
        monkeypatch.setenv("MIRAI_TEST_NEW", "here")
        lost = executor.submit(mischief.ring_and, bell.path, block_and_exit, gate)
        bell.wait()
        executor.launch_local(1)
        executor.wait_ready(SOON)
        assert len({psutil.Process(pid).ppid() for pid in pids(executor)}) == 2
        with gate.open("w"):
            pass
        error = lost.exception(SOON)
        assert isinstance(error, DaemonLostError)
        assert error.exitcode == 7
        assert not server.is_running()


def block_and_exit(gate: Path) -> None:
    gate.read_bytes()
    os._exit(7)


def test_a_daemon_sees_the_file_mode_mask_and_the_limits_that_its_host_has_by_then() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    before = os.umask(0o027)
    try:
        with running() as executor:
            os.umask(0o077)
            replace(executor)
            assert executor.submit(os.umask, 0o077).result(SOON) == 0o077
            resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
            replace(executor)
            limits = executor.submit(resource.getrlimit, resource.RLIMIT_CORE).result(SOON)
            assert limits == (0, hard)
    finally:
        os.umask(before)
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


def test_a_later_daemon_prints_where_its_host_prints_by_then(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with running(output="inherit") as executor:
        executor.submit(print, "one").result(SOON)
        replace(executor)
        executor.submit(print, "two").result(SOON)
        elsewhere = os.open(tmp_path / "out", os.O_CREAT | os.O_WRONLY)
        kept = os.dup(1)
        os.dup2(elsewhere, 1)
        try:
            replace(executor)
            executor.submit(print, "three").result(SOON)
        finally:
            os.dup2(kept, 1)
            os.close(kept)
            os.close(elsewhere)
    assert capfd.readouterr().out == "one\ntwo\n"
    assert (tmp_path / "out").read_text() == "three\n"


# How it ends


@pytest.mark.parametrize("status", [3, -signal.SIGSEGV])
def test_the_end_of_a_later_daemon_is_told_with_its_status_and_last_words(status: int) -> None:
    def end() -> None:
        print("my last words", file=sys.stderr)
        if status < 0:
            os.kill(os.getpid(), -status)
        os._exit(status)

    with running(output=False) as executor:
        pid = replace(executor)
        error = executor.submit(end).exception(SOON)
        assert isinstance(error, DaemonLostError)
        assert (error.pid, error.exitcode) == (pid, status)
        assert "my last words" in error.stderr


def test_a_host_that_is_killed_takes_the_server_and_later_daemons_along() -> None:
    with script("""
        executor = MiraiExecutor(2)
        executor.wait_ready()
        os.kill(executor.status().rows[0].pid, signal.SIGKILL)
        while len({row.pid for row in executor.status().rows}) < 2:
            executor.wait_ready()
        executor.submit(say_and, hold_the_gil)
        wait_for_ever()
    """) as host:
        assert host.line() == "runs"
        assert len(host.processes()) >= 3
        host.kill()
        assert host.leaves_nothing(GONE), host.processes()


def test_a_forked_child_that_lives_on_keeps_no_server_of_a_killed_host() -> None:
    with script("""
        executor = MiraiExecutor(2)
        executor.wait_ready()
        if (child := os.fork()) == 0:
            wait_for_ever()
        say(child)
        wait_for_ever()
    """) as host:
        child = int(host.line())
        others = set(host.processes()) - {child, host.process.pid}
        assert len(others) == 3
        host.kill()
        assert host.ends(others, GONE)


# Without the server


def test_the_death_of_the_server_costs_no_task_and_another_one_takes_its_place(
    bell: Bell, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with running() as executor:
        server = server_of(executor)
        busy = executor.submit(mischief.ring_and, bell.path, mischief.block_until_open, gate)
        bell.wait()
        server.kill()
        with gate.open("w"):
            pass
        assert busy.result(SOON) == b""
        replace(executor)
        assert executor.submit(abs, -1).result(SOON) == 1
        assert server_of(executor) != server
        assert interpreters() == [server_of(executor)]


def test_a_server_that_does_not_answer_is_replaced() -> None:
    with running() as executor:
        server = server_of(executor)
        server.suspend()
        replace(executor)
        assert executor.submit(abs, -1).result(SOON) == 1
        assert server_of(executor) != server


def test_a_server_that_is_asked_in_vain_is_replaced_and_its_other_daemons_live_on() -> None:
    with running() as executor:
        first = executor.submit(os.getpid).result(SOON)
        old = server_of(executor)
        old.suspend()
        executor.launch_local(1)
        executor.wait_ready(SOON)
        (server,) = interpreters()
        assert server != old
        assert psutil.Process(first).is_running()
        assert sorted(pids(executor)) == sorted([first, *(c.pid for c in server.children())])
        assert set(executor.map(abs, range(-50, 0))) == set(range(1, 51))


def test_the_status_of_a_daemon_that_has_outlived_its_server_is_not_known() -> None:
    with running() as executor:
        server_of(executor).kill()
        error = executor.submit(os._exit, 3).exception(SOON)
        assert isinstance(error, DaemonLostError)
        assert error.exitcode is None


def test_a_first_daemon_that_cannot_be_watched_holds_up_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attempts = []

    def fail_once(pid: int) -> int:
        attempts.append(pid)
        if len(attempts) == 1:
            raise OSError(errno.EMFILE, "no descriptor is free")
        return pidfd_open(pid)

    assert has_pidfds()  # asks only once
    pidfd_open = os.pidfd_open
    monkeypatch.setattr(os, "pidfd_open", fail_once)
    with running(2) as executor:
        assert executor.submit(abs, -1).result(SOON) == 1
    assert len(attempts) > 1


AT_START = {
    "a thread": """
        import threading
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        """,
    "a connection": "import socket, sys; sys.kept = socket.socketpair()",
    "ended children ignored": "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
}


@pytest.mark.parametrize("code", AT_START.values(), ids=AT_START)
def test_there_is_no_server_where_each_interpreter_starts_with(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(textwrap.dedent(code))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with running(2) as executor:
        assert {psutil.Process(pid).ppid() for pid in pids(executor)} == {os.getpid()}


def test_there_is_no_server_behind_a_wrapper_that_starts_another_process(tmp_path: Path) -> None:
    with running(2, python=without_exec(tmp_path)) as executor:
        assert {psutil.Process(pid).ppid() for pid in pids(executor)} == {os.getpid()}
        assert executor.submit(abs, -1).result(SOON) == 1


def test_a_daemon_that_has_no_process_group_yet_can_be_killed() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    end_group(child.pid, signal.SIGKILL)
    assert child.wait(SOON) == -signal.SIGKILL
