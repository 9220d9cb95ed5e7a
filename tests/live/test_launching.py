"""Daemons that cannot start: those who wait hear why, soon, and nobody tries for ever."""

import contextlib
import multiprocessing
import os
import resource
import signal
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

from live.hosts import PATIENCE, run
from mirai_executor import LaunchError, MiraiExecutor, mirai
from mirai_executor._local import LocalLauncher

ATTEMPTS = 8  # more than the dispatcher makes, with two at a time, before it gives up
SOON = 15.0  # seconds for those attempts, on a loaded machine


class Attempts:
    """A fake interpreter that notes each time it is run."""

    def __init__(self, folder: Path, then: str) -> None:
        self._log = folder / "attempts"
        self._log.touch()  # it may never be run
        self.path = folder / "python"
        self.path.write_text(f"#!/bin/sh\necho x >> {self._log}\n{then}\n")
        self.path.chmod(0o755)

    def count(self) -> int:
        return len(self._log.read_text().split())


def fails_all(executor: MiraiExecutor, tasks: int = 20) -> LaunchError:
    """Check that every task fails with the reason, and each later one; return it."""
    begin = time.monotonic()
    futures = []
    with contextlib.suppress(LaunchError):  # it may be known before all are submitted
        futures += [executor.submit(abs, -1)]
        futures += [executor.submit(abs, -n) for n in range(tasks)]
    assert not wait(futures, PATIENCE).not_done
    assert time.monotonic() - begin < SOON
    errors = [future.exception() for future in futures]
    assert all(isinstance(error, LaunchError) for error in errors)
    assert len(set(map(id, errors))) == len(futures), "each future has an error of its own"
    with pytest.raises(LaunchError) as later:
        executor.submit(abs, -1)
    assert isinstance(later.value, BrokenProcessPool)
    with pytest.raises(LaunchError):
        executor.wait_ready(PATIENCE)
    executor.shutdown()
    assert isinstance(errors[0], LaunchError)
    return errors[0]


@pytest.mark.local_link("daemons elsewhere are not started by this process")
def test_an_interpreter_that_is_not_there_is_named(tmp_path: Path) -> None:
    missing = str(tmp_path / "no-python")
    error = fails_all(MiraiExecutor(2, python=missing))
    assert missing in str(error)
    assert error.command[0] == missing


@pytest.mark.local_link("daemons elsewhere are not started by this process")
def test_an_interpreter_that_is_no_program_is_named(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("hello")
    text.chmod(0o755)
    assert str(text) in str(fails_all(MiraiExecutor(2, python=str(text))))


@pytest.mark.local_link("daemons elsewhere are not started by this process")
def test_an_interpreter_that_ends_at_once_is_quoted_and_not_tried_for_ever(
    tmp_path: Path,
) -> None:
    attempts = Attempts(tmp_path, "echo 'no licence for Python' >&2; exit 3")
    error = fails_all(MiraiExecutor(2, python=str(attempts.path), output=False))
    assert error.exitcode == 3
    assert error.stderr == "no licence for Python\n"
    assert "no licence for Python" in str(error)
    assert error.command[0] == str(attempts.path)
    assert attempts.count() <= ATTEMPTS


@pytest.mark.local_link("daemons elsewhere are not started by this process")
def test_an_interpreter_that_is_killed_is_said_to_be(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path, "kill -9 $$")
    error = fails_all(MiraiExecutor(2, python=str(attempts.path)))
    assert error.exitcode == -signal.SIGKILL
    assert "SIGKILL" in str(error)
    assert attempts.count() <= ATTEMPTS


@pytest.mark.local_link("daemons elsewhere are not started by this process")
def test_an_interpreter_that_never_gets_ready_is_given_up_after_start_timeout(
    tmp_path: Path,
) -> None:
    attempts = Attempts(tmp_path, "exec sleep 1000")
    fails_all(MiraiExecutor(2, python=str(attempts.path), start_timeout=0.3))
    assert attempts.count() <= ATTEMPTS


@pytest.mark.local_link("daemons elsewhere are not started by this process")
def test_a_start_timeout_longer_than_the_memory_for_failures_is_given_up_too() -> None:
    # Failures further apart than the dispatcher remembers would be forgiven for ever.
    policy = MiraiExecutor(1, start_timeout=600.0)._host._settings.policy
    assert policy.failure_window > policy.failed_starts * policy.start_timeout


@pytest.mark.local_link("daemons elsewhere are not started by this process")
def test_a_sys_executable_that_is_no_python_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    for other in ("/usr/sbin/uwsgi", "", None):
        monkeypatch.setattr(sys, "executable", other)
        error = fails_all(MiraiExecutor(2))
        assert repr(other) in str(error)
        assert "python=" in str(error)


def test_another_interpreter_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    python = sys.executable
    monkeypatch.setattr(sys, "executable", "/usr/sbin/uwsgi")
    with MiraiExecutor(1, python=python) as executor:
        assert executor.submit(abs, -1).result(PATIENCE) == 1


@pytest.mark.local_link("daemons elsewhere are not started by this process")
def test_a_launcher_is_data() -> None:
    assert LocalLauncher(python="p") == LocalLauncher(python="p")
    assert LocalLauncher(python="p").command((4, 5, 6))[-3:] == ("4", "5", "6")


POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS")


def threads() -> list[str | None]:
    return [os.environ.get(name) for name in POOLS]


@pytest.mark.local_link("daemons elsewhere have what their machine gives them")
@pytest.mark.parametrize(
    ("cpus", "workers", "expected"),
    [(8, 4, ["2"] * 4), (2, 4, ["1"] * 4), (8, 1, [None] * 4)],
)
def test_threads_of_libraries_get_a_fair_share_of_the_processors(
    cpus: int, workers: int, expected: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in POOLS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("mirai_executor._place.usable_cpus", lambda: cpus)
    with MiraiExecutor(workers) as executor:
        assert executor.submit(threads).result(PATIENCE) == expected


@pytest.mark.local_link("as above")
def test_a_task_with_a_daemon_of_its_own_may_use_all_processors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in POOLS:
        monkeypatch.delenv(name, raising=False)
    assert mirai(threads).result(PATIENCE) == [None] * len(POOLS)


@pytest.mark.local_link("as above")
def test_what_the_environment_says_of_threads_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in POOLS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "3")
    monkeypatch.setattr("mirai_executor._place.usable_cpus", lambda: 2)
    with MiraiExecutor(2) as executor:
        assert executor.submit(threads).result(PATIENCE) == ["1", "1", "3", "1"]
    # Most libraries heed it where their own variable is not set: that is left so.
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    with MiraiExecutor(2) as executor:
        assert executor.submit(threads).result(PATIENCE) == ["5", None, "3", None]


def variables_of(number: int) -> dict[str, str]:
    if number > 2:
        raise RuntimeError("only for two")
    return {"NUMBER": str(number), "OMP_NUM_THREADS": "7"}


def look(_: int) -> tuple[str | None, ...]:
    return tuple(map(os.environ.get, ("NUMBER", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")))


def test_each_daemon_finds_its_variables_and_its_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    with MiraiExecutor(env=variables_of, gpus_per_daemon=1) as executor:
        executor.wait_ready(PATIENCE)
        found = {future.result(PATIENCE) for future in executor.everywhere(look, 0)}
    assert found == {("1", "4", "7"), ("2", "5", "7")}


@pytest.mark.local_link("the function is asked here as it is elsewhere")
def test_a_daemon_without_variables_is_one_that_cannot_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(RuntimeError, match="only for two"):
        MiraiExecutor(3, env=variables_of)
    with MiraiExecutor(2, env=variables_of) as executor:
        executor.launch_local(1)
        with pytest.raises(LaunchError, match=r"daemon 3 can have no environment: .*only for two"):
            executor.wait_ready(PATIENCE)


# everywhere


@pytest.mark.local_link("one of its own connects")
def test_everywhere_waits_for_as_many_daemons_as_it_was_told(tmp_path: Path) -> None:
    made = tmp_path / "made"
    with MiraiExecutor(url="tcp://127.0.0.1:0") as executor:
        hasty = executor.with_options(min_workers=1, timeout=0.01)
        with pytest.raises(TimeoutError, match="1 daemons were not ready"):
            hasty.everywhere(made.touch)
        executor.launch_local(1)
        waiting = executor.with_options(min_workers=1, timeout=PATIENCE)
        assert [share.result(PATIENCE) for share in waiting.everywhere("1 + 1")] == [2]
        assert not made.exists()


def test_everywhere_waits_for_no_more_daemons_than_there_can_be() -> None:
    with MiraiExecutor(2) as executor:
        with pytest.raises(ValueError, match="min_workers is 3, but there are 2 daemons at most"):
            executor.with_options(min_workers=3).everywhere("pass")
        with pytest.raises(ValueError, match="min_workers must be >= 0"):
            executor.with_options(min_workers=-1)


# Initializers


def raise_an_error(path: Path) -> None:
    raise ValueError(f"no {path}")


def exit_by_sys() -> None:
    sys.exit(9)


def exit_at_once() -> None:
    os._exit(9)


def segfault() -> None:
    import ctypes

    ctypes.string_at(0)


def hang() -> None:
    threading.Event().wait()


def cannot_be_sent() -> Callable[[], object]:
    lock = threading.Lock()
    return lambda: lock


def test_an_initializer_that_raises_is_the_cause() -> None:
    error = fails_all(MiraiExecutor(2, None, raise_an_error, (Path("model"),)))
    assert "ValueError: no model" in str(error)
    assert isinstance(error.__cause__, ValueError)
    assert error.__cause__.args == ("no model",)


def test_an_initializer_that_exits_is_the_cause() -> None:
    error = fails_all(MiraiExecutor(2, None, exit_by_sys))
    assert isinstance(error.__cause__, SystemExit)


@pytest.mark.local_link("elsewhere a keeper tries some times, and ends with a status of its own")
def test_an_initializer_that_ends_its_process_is_told_by_the_status() -> None:
    assert fails_all(MiraiExecutor(2, None, exit_at_once)).exitcode == 9


@pytest.mark.local_link("elsewhere a keeper tries some times, and ends with a status of its own")
def test_an_initializer_that_crashes_is_told_by_signal_and_frames() -> None:
    error = fails_all(MiraiExecutor(2, None, segfault, output=False))
    assert error.exitcode == -signal.SIGSEGV
    assert "in segfault" in error.stderr


def test_an_initializer_that_hangs_is_given_up_after_start_timeout() -> None:
    fails_all(MiraiExecutor(2, None, hang, start_timeout=1.0))


def test_an_initializer_may_make_a_process_group() -> None:
    with MiraiExecutor(2, None, os.setpgrp) as executor:
        assert executor.submit(abs, -1).result(PATIENCE) == 1


@pytest.mark.local_link("elsewhere it is the launch that says so")
def test_an_initializer_that_cannot_be_sent_is_an_error_that_names_it() -> None:
    error = fails_all(MiraiExecutor(2, None, cannot_be_sent()))
    assert "lock" in str(error)
    error = fails_all(MiraiExecutor(2, None, print, (threading.Lock(),)))
    assert "lock" in str(error)


def test_a_lock_of_a_fork_context_becomes_a_local_one_of_daemons_that_are_no_forks() -> None:
    initargs = (multiprocessing.get_context("fork").RLock(),)
    with (
        pytest.warns(RuntimeWarning, match="lock"),
        MiraiExecutor(1, None, acquire_and_release, initargs, python=sys.executable) as executor,
    ):
        assert executor.submit(abs, -1).result(PATIENCE) == 1


def acquire_and_release(lock: Any) -> None:
    with lock:
        pass


@pytest.mark.local_link("elsewhere it spares what waits, too")
def test_an_initializer_that_fails_on_a_later_daemon_spares_what_runs(tmp_path: Path) -> None:
    first = tmp_path / "first"
    with MiraiExecutor(1, None, fail_but_once, (first,)) as executor:
        assert executor.submit(abs, -1).result(PATIENCE) == 1
        gate = tmp_path / "gate"
        os.mkfifo(gate)
        busy = executor.submit(gate.read_text)
        with gate.open("w") as held:
            waiting = executor.submit(abs, -2)
            executor.launch_local(1)
            assert isinstance(waiting.exception(PATIENCE), LaunchError)
            held.write("done")
        assert busy.result(PATIENCE) == "done"


def fail_but_once(first: Path) -> None:
    first.touch(exist_ok=False)


# While it cannot start


@pytest.mark.local_link("daemons elsewhere are not started by this process")
def test_a_shutdown_while_daemons_fail_to_start_ends(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path, "exit 1")
    executor = MiraiExecutor(2, python=str(attempts.path))
    futures = [executor.submit(abs, -n) for n in range(50)]
    executor.shutdown()
    assert all(isinstance(future.exception(0), LaunchError) for future in futures)
    assert attempts.count() <= ATTEMPTS


@pytest.mark.local_link("daemons elsewhere are not started by this process")
def test_a_shutdown_while_daemons_hang_at_their_start_ends_when_all_is_cancelled(
    tmp_path: Path,
) -> None:
    attempts = Attempts(tmp_path, "exec sleep 1000")
    executor = MiraiExecutor(2, python=str(attempts.path))
    futures = [executor.submit(abs, -n) for n in range(50)]
    assert all(future.cancel() for future in futures)
    executor.shutdown()
    assert attempts.count() <= 2


@pytest.mark.local_link("daemons elsewhere are not started by this process")
def test_callbacks_hear_of_a_launch_error_and_may_submit_again(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path, "exit 1")
    heard: Future[BaseException] = Future()

    def submit_again(_: Future[int]) -> None:
        try:
            executor.submit(abs, -1)
        except BaseException as error:
            heard.set_result(error)

    with MiraiExecutor(1, python=str(attempts.path)) as executor:
        executor.submit(abs, -1).add_done_callback(submit_again)
        assert isinstance(heard.result(PATIENCE), LaunchError)


# Limits of the system


@pytest.mark.local_link("daemons elsewhere are not started by this process")
@pytest.mark.parametrize("left", [0, 3, 6, 9, 12, 15, 20, 30])
def test_too_few_descriptors_are_an_error_that_says_so_and_leave_nothing(left: int) -> None:
    ended = run(f"""
        import resource
        from mirai_executor import LaunchError
        # A module that cannot be opened is another story.
        import mirai_executor._host._loop, mirai_executor._payload.host.calls

        used = len(os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + {left}, 4096))
        executor = MiraiExecutor(2)
        try:
            say(executor.submit(abs, -1).result(60))
        except LaunchError as error:
            say("ulimit" in str(error), error)
        resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
        executor.shutdown()
        del executor
        import gc; gc.collect()
        say([t.name for t in threading.enumerate()])
    """)
    assert ended.out.count("\n") == 2, ended
    first, last = ended.out.splitlines()
    assert first == "1" or first.startswith("True "), ended
    assert last == "['MainThread']"
    assert (ended.code, ended.err) == (0, "")


@pytest.mark.local_link("daemons elsewhere are not started by this process")
def test_too_few_descriptors_for_all_daemons_leave_those_that_run_alone() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with MiraiExecutor(1) as executor:
        assert executor.submit(abs, -1).result(PATIENCE) == 1
        used = len(list(Path("/proc/self/fd").iterdir()))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used, hard))
        try:
            assert executor.submit(abs, -2).result(PATIENCE) == 2
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# Root may have any number of processes, by two of its capabilities.
NO_ROOT = """
if os.getuid() == 0:
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    for number in (21, 24):  # CAP_SYS_ADMIN, CAP_SYS_RESOURCE
        libc.prctl(24, number, 0, 0, 0)  # PR_CAPBSET_DROP
        sets[0] &= ~(1 << number)
        sets[1] &= ~(1 << number)
    assert libc.capset(header, sets) == 0
    os.setresuid(65534, 0, 0)
"""
# No test can take all of the memory: who asks the system for a process, is refused one here, in
# the host and in its fork server.
NO_MEMORY = """
import errno, os
def refuse(*_):
    raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
fork = os.fork
os.fork = lambda: refuse() if os.path.exists(os.environ["NO_MEMORY"]) else fork()
"""
SCARCE = {
    "not enough memory": (
        "import subprocess, server_has_no_memory\n"
        "fork_exec, subprocess._fork_exec = subprocess._fork_exec, server_has_no_memory.refuse\n"
        "Path(os.environ['NO_MEMORY']).touch()",
        "subprocess._fork_exec = fork_exec\nPath(os.environ['NO_MEMORY']).unlink()",
    ),
    "ulimit -n": (
        "used = len(os.listdir('/proc/self/fd'))\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (used, 4096))",
        "resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))",
    ),
    "ulimit -u": (
        "resource.setrlimit(resource.RLIMIT_NPROC, (0, 4096))",
        "resource.setrlimit(resource.RLIMIT_NPROC, (4096, 4096))",
    ),
}


@pytest.mark.slow
@pytest.mark.local_link("daemons elsewhere are not started by this process")
@pytest.mark.parametrize("limit", SCARCE)
def test_where_there_is_no_room_for_another_daemon_those_that_run_go_on(
    limit: str, tmp_path: Path
) -> None:
    lower, lift = SCARCE[limit]
    (tmp_path / "server_has_no_memory.py").write_text(NO_MEMORY)
    (tmp_path / "sitecustomize.py").write_text("import server_has_no_memory")
    ended = run(f"""
        import resource
        from mirai_executor import LaunchError

        os.environ["NO_MEMORY"] = {str(tmp_path / "none")!r}
        os.environ["PYTHONPATH"] += {os.pathsep + str(tmp_path)!r}
        sys.path.append({str(tmp_path)!r})
{textwrap.indent(NO_ROOT, " " * 8)}
        executor = MiraiExecutor(2)
        executor.wait_ready(30, count=1)
{textwrap.indent(lower, " " * 8)}
        try:
            executor.wait_ready(30)
        except LaunchError as error:
            say({limit!r} in str(error))
        say(sum(executor.map(abs, range(20), timeout=30)))
        status = executor.status()
        say(status.connections, {limit!r} in status.shortage)
{textwrap.indent(lift, " " * 8)}
        executor.wait_ready(30)
        status = executor.status()
        say(status.connections, repr(status.shortage))
        executor.shutdown()
    """)
    assert ended.out.splitlines() == ["True", "190", "1 True", "2 ''"], ended
    assert ended.err.count("goes on with 1 daemon:") == ended.err.count("\n") == 1
    assert limit in ended.err


OF_ANOTHER_VERSION = f"""#!{sys.executable}
import sys
at = sys.argv.index("-c")
program, sys.argv[:] = sys.argv[at + 1], sys.argv[at:at + 1] + sys.argv[at + 2:]
sys.version_info = (3, 99, 1)
exec(program)
"""


@pytest.mark.local_link("elsewhere, the handshake refuses it")
def test_an_interpreter_of_another_minor_version_is_refused_with_both_versions(
    tmp_path: Path,
) -> None:
    other = tmp_path / "python3.99"
    other.write_text(OF_ANOTHER_VERSION)
    other.chmod(0o755)
    error = fails_all(MiraiExecutor(2, python=str(other)))
    own = sys.version_info
    assert f"{other} is Python 3.99.1, but this process runs Python {own[0]}.{own[1]}." in str(
        error
    )
    assert f"pass the path of a Python {own[0]}.{own[1]} as python=" in str(error)
    assert error.command
    assert error.command[0] == str(other)


@pytest.mark.local_link("elsewhere, its own words are all that is known")
def test_an_interpreter_that_is_too_old_to_start_is_called_so(tmp_path: Path) -> None:
    python = Attempts(tmp_path, "echo 'Unknown option: -P' >&2; exit 2")
    error = fails_all(MiraiExecutor(2, python=str(python.path)))
    assert "exited with status 2, since its Python is older than 3.11" in str(error)
