"""Live: whatever a task does to its daemon, it costs that task alone."""

import contextlib
import functools
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import psutil
import pytest

from live import mischief
from live.mischief import SOON, AtPickle, AtUnpickle, Bell, Tally, running
from live.storms import kill_at_random
from mirai_executor import DaemonLostError, MiraiExecutor, PayloadError
from mirai_executor._local import _process


def assert_goes_on(executor: MiraiExecutor) -> None:
    assert executor.submit(mischief.answer).result(SOON) == 42


# loky's crash matrix: where it happens, what happens, and how the future has to end

EXIT, AT_ONCE, IN_C = mischief.exit_python, mischief.exit_at_once, mischief.exit_in_c
CRASH, FAIL = mischief.crash, mischief.fail
Submit = Callable[..., "Future[Any]"]

MATRIX: dict[str, tuple[tuple[Any, ...], type[BaseException]]] = {
    "exit while pickling the argument": ((id, AtPickle(EXIT)), SystemExit),
    "error while pickling the argument": ((id, AtPickle(FAIL)), ArithmeticError),
    "exit while unpickling the argument": ((id, AtUnpickle(EXIT)), SystemExit),
    "_exit while unpickling the argument": ((id, AtUnpickle(AT_ONCE)), DaemonLostError),
    "C exit while unpickling the argument": ((id, AtUnpickle(IN_C)), DaemonLostError),
    "crash while unpickling the argument": ((id, AtUnpickle(CRASH)), DaemonLostError),
    "error while unpickling the argument": ((id, AtUnpickle(FAIL)), PayloadError),
    "exit in the function": ((EXIT,), SystemExit),
    "_exit in the function": ((AT_ONCE,), DaemonLostError),
    "C exit in the function": ((IN_C,), DaemonLostError),
    "crash in the function": ((CRASH,), DaemonLostError),
    "error in the function": ((FAIL,), ArithmeticError),
    "exit while pickling the result": ((mischief.give_at_pickle, EXIT), SystemExit),
    "_exit while pickling the result": ((mischief.give_at_pickle, AT_ONCE), DaemonLostError),
    "C exit while pickling the result": ((mischief.give_at_pickle, IN_C), DaemonLostError),
    "crash while pickling the result": ((mischief.give_at_pickle, CRASH), DaemonLostError),
    "error while pickling the result": ((mischief.give_at_pickle, FAIL), ArithmeticError),
    "exit while unpickling the result": ((mischief.give_at_unpickle, EXIT), SystemExit),
    "error while unpickling the result": ((mischief.give_at_unpickle, FAIL), PayloadError),
}


def submit_directly(executor: MiraiExecutor, *call: Any) -> "Future[Any]":
    return executor.submit(*call)


def submit_from_a_callback(executor: MiraiExecutor, *call: Any) -> "Future[Any]":
    submitted: Future[Future[Any]] = Future()
    first = executor.submit(mischief.answer)
    first.add_done_callback(lambda _: submitted.set_result(executor.submit(*call)))
    return submitted.result(SOON)


@pytest.mark.parametrize("submit", [submit_directly, submit_from_a_callback])
@pytest.mark.parametrize("daemons", [1, 2])
def test_every_row_of_the_crash_matrix_costs_one_task(submit: Submit, daemons: int) -> None:
    with running(daemons) as executor:
        for name, (call, expected) in MATRIX.items():
            future = submit(executor, *call)
            assert type(future.exception(SOON)) is expected, name
            assert_goes_on(executor)


@pytest.mark.parametrize("daemons", [1, 2])
def test_a_whole_crash_matrix_at_once_ends_each_of_its_tasks_rightly(daemons: int) -> None:
    with running(daemons) as executor:
        futures = {name: executor.submit(*call) for name, (call, _) in MATRIX.items()}
        ends = {name: type(future.exception(SOON)) for name, future in futures.items()}
        assert ends == {name: expected for name, (_, expected) in MATRIX.items()}
        assert_goes_on(executor)


# What the error says


def test_a_lost_daemon_is_reported_with_its_pid_host_and_exit_code() -> None:
    with running() as executor:
        pid = executor.submit(mischief.own_pid).result(SOON)
        error = executor.submit(mischief.exit_at_once).exception(SOON)
        assert isinstance(error, DaemonLostError)
        assert isinstance(error, BrokenProcessPool)
        assert (error.pid, error.host, error.exitcode) == (pid, os.uname().nodename, 77)
        assert "exited with status 77" in str(error)
        assert error.code == 19


def test_a_segfault_is_reported_with_its_signal_and_the_python_frames_of_the_daemon() -> None:
    with running() as executor:
        error = executor.submit(mischief.crash).exception(SOON)
        assert isinstance(error, DaemonLostError)
        assert error.exitcode == -signal.SIGSEGV
        assert "SIGSEGV" in str(error)
        assert "Fatal Python error: Segmentation fault" in error.stderr
        assert "in crash" in error.stderr


def test_the_last_words_of_a_daemon_are_in_the_error_and_no_more_than_4_kb_of_them() -> None:
    def talk_and_die() -> None:
        for line in range(1000):
            print(f"line {line}", file=sys.stderr)
        os._exit(1)

    with running() as executor:
        error = executor.submit(talk_and_die).exception(SOON)
        assert isinstance(error, DaemonLostError)
        assert error.stderr.endswith("line 998\nline 999\n")
        assert len(error.stderr) <= 4096
        assert error.stderr in str(error) or error.stderr.rstrip() in str(error)


def say_so(words: str) -> None:
    print(words, file=sys.stderr)


def say_so_and_die(words: str) -> None:
    say_so(words)
    os._exit(1)


@pytest.mark.local_link("what a keeper relays comes to the standard error of another process")
def test_the_last_words_are_those_of_the_task_that_was_running(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with running() as executor:
        executor.submit(say_so, "all is well").result(SOON)
        heard = ""
        while "all is well" not in heard:  # it has come here by then
            heard += capfd.readouterr().err
        error = executor.submit(say_so_and_die, "alas").exception(SOON)
        assert isinstance(error, DaemonLostError)
        assert error.stderr == "alas\n"


@pytest.mark.local_link("elsewhere, it is the keeper that looks")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_daemon_that_the_kernel_has_ended_for_lack_of_memory_is_told(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    kills = 5
    monkeypatch.setattr(_process, "oom_kills", lambda: kills)
    with running(cleanup=False) as executor:
        assert "memory" not in str(executor.submit(mischief.die_by, number).exception(SOON))
        executor.wait_ready(SOON)
        kills += 1
        error = executor.submit(mischief.die_by, number).exception(SOON)
        assert ("has run out of memory" in str(error)) == (number == signal.SIGKILL)


SURVIVED = {
    signal.SIGPIPE,
    signal.SIGXFSZ,
    signal.SIGCHLD,
    signal.SIGURG,
    signal.SIGWINCH,
    signal.SIGCONT,
    # Those of a terminal: nobody would continue a daemon.
    signal.SIGTSTP,
    signal.SIGTTIN,
    signal.SIGTTOU,
}
DEADLY = [
    number
    for number in range(1, 32)
    if number not in SURVIVED and number not in (signal.SIGINT, signal.SIGSTOP)
]


def test_each_deadly_signal_is_reported_as_itself() -> None:
    with running(2) as executor:
        futures = {number: executor.submit(mischief.die_by, number) for number in DEADLY}
        for number, future in futures.items():
            error = future.exception(SOON)
            assert isinstance(error, DaemonLostError), number
            assert error.exitcode == -number
            assert signal.Signals(number).name in str(error)
        assert_goes_on(executor)


def test_a_harmless_signal_costs_nothing() -> None:
    with running() as executor:
        pid = executor.submit(mischief.own_pid).result(SOON)
        for number in SURVIVED:
            assert executor.submit(mischief.die_by, number).result(SOON) == number
        assert executor.submit(mischief.own_pid).result(SOON) == pid


def test_an_abort_is_reported_with_its_signal() -> None:
    with running() as executor:
        error = executor.submit(os.abort).exception(SOON)
        assert isinstance(error, DaemonLostError)
        assert error.exitcode == -signal.SIGABRT
        assert_goes_on(executor)


# What a lost daemon costs


def test_one_of_four_daemons_killed_with_a_hundred_tasks_queued_costs_one_of_them(
    tally: Tally,
) -> None:
    with running(4) as executor:
        spin = functools.partial(mischief.count_and_spin, tally.path, seconds=0.003)
        futures = [executor.submit(spin, str(n)) for n in range(100)]
        futures[10].result(SOON)
        os.kill(executor.status().rows[0].pid, signal.SIGKILL)
        wait(futures, SOON)
        lost = [f for f in futures if isinstance(f.exception(0), DaemonLostError)]
        done = [f for f in futures if f.exception(0) is None]
        assert len(lost) <= 1
        assert len(lost) + len(done) == 100
        assert max(tally.counts().values()) == 1
        assert_goes_on(executor)


def test_all_daemons_killed_at_once_cost_one_task_each(tally: Tally) -> None:
    with running(3) as executor:
        spin = functools.partial(mischief.count_and_spin, tally.path, seconds=0.003)
        futures = [executor.submit(spin, str(n)) for n in range(200)]
        futures[10].result(SOON)
        for row in executor.status().rows:
            os.kill(row.pid, signal.SIGKILL)
        wait(futures, SOON)
        ends = [f.exception(0) for f in futures]
        lost = [error for error in ends if error is not None]
        assert all(isinstance(error, DaemonLostError) for error in lost)
        assert len(lost) <= 3
        assert max(tally.counts().values()) == 1


def test_a_task_runs_again_after_a_lost_daemon_only_if_it_may(tally: Tally) -> None:
    def count_and_die() -> None:
        mischief.ring(tally.path, "once")
        os._exit(1)

    with running() as executor:
        assert isinstance(executor.submit(count_and_die).exception(SOON), DaemonLostError)
        assert tally.counts()["once"] == 1
        again = executor.with_options(retries=2).submit(count_and_die)
        assert isinstance(again.exception(SOON), DaemonLostError)
        assert tally.counts()["once"] == 1 + 3
        assert_goes_on(executor)


def test_an_error_of_its_own_is_not_retried(tally: Tally) -> None:
    def count_and_fail() -> None:
        mischief.ring(tally.path, "once")
        raise ArithmeticError

    with running() as executor:
        future = executor.with_options(retries=5).submit(count_and_fail)
        assert isinstance(future.exception(SOON), ArithmeticError)
        assert tally.counts()["once"] == 1


@pytest.mark.parametrize("kills", [10, pytest.param(50, marks=pytest.mark.chaos)])
def test_kills_at_random_moments_cost_at_most_the_running_task_and_nothing_runs_twice(
    tally: Tally, kills: int
) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    with running(2, output=False) as executor:
        kill_at_random(executor, tally, kills=range(kills), seed=seed)


# Children of tasks


def test_a_daemon_killed_after_its_task_has_forked_is_noticed_and_the_child_dies_with_it(
    bell: Bell,
) -> None:
    with running() as executor:
        future = executor.submit(mischief.fork_and, mischief.sleep_long, bell.path)
        child = psutil.Process(int(bell.wait()))
        begun = time.monotonic()
        os.kill(executor.status().rows[0].pid, signal.SIGKILL)
        assert isinstance(future.exception(SOON), DaemonLostError)
        assert time.monotonic() - begun < 5
        assert_goes_on(executor)
        psutil.wait_procs([child], timeout=SOON)
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_task_that_forks_and_dies_is_noticed_though_its_child_lives(bell: Bell) -> None:
    with running() as executor:
        future = executor.submit(mischief.fork_and, mischief.exit_at_once, bell.path)
        error = future.exception(SOON)
        assert isinstance(error, DaemonLostError)
        assert error.exitcode == 77
        assert_goes_on(executor)


def test_a_child_that_returns_from_the_task_answers_for_nobody(bell: Bell) -> None:
    with running() as executor:
        pid = executor.submit(mischief.own_pid).result(SOON)
        assert executor.submit(mischief.fork_and_return, bell.path).result(SOON) == pid
        assert (bell.wait(), bell.wait()) == ("child", "parent")
        assert executor.submit(mischief.own_pid).result(SOON) == pid


def test_a_child_that_returns_from_a_call_of_everywhere_answers_for_nobody(bell: Bell) -> None:
    with running() as executor:
        (future,) = executor.everywhere(mischief.fork_and_return, bell.path)
        pid = future.result(SOON)
        assert (bell.wait(), bell.wait()) == ("child", "parent")
        assert executor.submit(mischief.own_pid).result(SOON) == pid


def test_the_exit_status_of_a_child_that_leaves_a_task_by_sys_exit_is_its_own() -> None:
    def fork_and_wait() -> int:
        pid = os.fork()
        if pid == 0:
            sys.exit(3)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    with running() as executor:
        assert executor.submit(fork_and_wait).result(SOON) == 3


# What tasks leave running


def start_a_child() -> int:
    """Return the process id of a child that nobody waits for."""
    program = "import signal; signal.pause()"
    null = subprocess.DEVNULL
    return subprocess.Popen([sys.executable, "-c", program], stdout=null, stderr=null).pid


@contextlib.contextmanager
def a_child_that_is_left(executor: MiraiExecutor) -> Iterator[int]:
    """Have a task start a child; give a descriptor of it."""
    child = os.pidfd_open(executor.submit(start_a_child).result(SOON))
    yield child
    os.close(child)


def refuse_to_stop() -> None:
    while True:
        with contextlib.suppress(BaseException):
            threading.Event().wait()


ENDS: dict[str, Callable[[MiraiExecutor], object]] = {
    "crashes": lambda executor: executor.submit(mischief.crash).exception(SOON),
    "is killed": lambda executor: os.kill(executor.status().rows[0].pid, signal.SIGKILL),
    "times out": lambda executor: (
        executor.with_options(run_timeout=0.1).submit(refuse_to_stop).exception(SOON)
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_what_tasks_have_started_ends_with_a_daemon_that(
    end: Callable[[MiraiExecutor], object],
) -> None:
    with running() as executor, a_child_that_is_left(executor) as child:
        end(executor)
        mischief.wait_for_end(child)


def test_what_tasks_have_started_lives_on_after_a_shutdown() -> None:
    with running() as executor, a_child_that_is_left(executor) as child:
        executor.shutdown()
        assert not select.select([child], [], [], 0)[0]
        signal.pidfd_send_signal(child, signal.SIGKILL)
        mischief.wait_for_end(child)


# Other ways to break a daemon


def test_a_task_that_closes_all_descriptors_costs_that_task_alone() -> None:
    with running() as executor:
        error = executor.submit(mischief.close_descriptors).exception(SOON)
        assert isinstance(error, DaemonLostError)
        assert_goes_on(executor)


def test_a_task_that_closes_all_descriptors_and_goes_on_does_not_hang() -> None:
    def close_and_sleep() -> None:
        mischief.close_descriptors()
        mischief.sleep_long()

    with running() as executor:
        error = executor.submit(close_and_sleep).exception(SOON)
        assert isinstance(error, DaemonLostError)
        assert_goes_on(executor)


def test_a_stopped_daemon_costs_nothing_once_it_goes_on(tmp_path: Path, bell: Bell) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with running(2) as executor:
        future = executor.submit(mischief.ring_and, bell.path, mischief.block_until_open, gate)
        pid = int(bell.wait())
        os.kill(pid, signal.SIGSTOP)
        assert [executor.submit(mischief.answer).result(SOON) for _ in range(20)] == [42] * 20
        assert not future.done()
        os.kill(pid, signal.SIGCONT)
        gate.write_bytes(b"open")
        assert future.result(SOON) == b"open"


def test_a_stopped_daemon_is_replaced_once_its_task_is_over_time(bell: Bell) -> None:
    with running(cancel_grace=0.2) as executor:
        assert_goes_on(executor)  # it has imported what it needs
        view = executor.with_options(run_timeout=1.0)
        future = view.submit(mischief.ring_and, bell.path, mischief.sleep_long)
        os.kill(int(bell.wait()), signal.SIGSTOP)
        assert isinstance(future.exception(SOON), TimeoutError)
        assert_goes_on(executor)


def test_errors_of_memory_and_recursion_arrive_as_themselves() -> None:
    def recur() -> None:
        recur()

    with running() as executor:
        pid = executor.submit(mischief.own_pid).result(SOON)
        memory = executor.submit(bytearray, 1 << 60).exception(SOON)
        assert isinstance(memory, MemoryError)
        recursion = executor.submit(recur).exception(SOON)
        assert isinstance(recursion, RecursionError)
        assert executor.submit(mischief.own_pid).result(SOON) == pid


def deep_list(depth: int) -> list[Any]:
    nested: list[Any] = []
    for _ in range(depth):
        nested = [nested]
    return nested


def test_a_result_too_deep_to_be_pickled_is_its_own_error() -> None:
    with running() as executor:
        pid = executor.submit(mischief.own_pid).result(SOON)
        error = executor.submit(deep_list, 1_000_000).exception(SOON)
        assert isinstance(error, (PayloadError, RecursionError))
        assert executor.submit(mischief.own_pid).result(SOON) == pid


def test_an_argument_too_deep_to_be_pickled_is_its_own_error() -> None:
    with running() as executor:
        error = executor.submit(len, deep_list(1_000_000)).exception(SOON)
        assert isinstance(error, (PayloadError, RecursionError))
        assert_goes_on(executor)


def test_results_that_cannot_travel_are_errors_that_name_them() -> None:
    results: dict[str, Callable[[], Any]] = {
        "lock": threading.Lock,
        "generator": lambda: (n for n in range(3)),
        "TextIOWrapper": lambda: open(os.devnull),  # noqa: PTH123, SIM115 - it stays open
        "frame": sys._getframe,
    }
    with running() as executor:
        pid = executor.submit(mischief.own_pid).result(SOON)
        for name, make in results.items():
            error = executor.submit(make).exception(SOON)
            assert isinstance(error, PayloadError), name
            assert name in str(error)
        assert executor.submit(mischief.own_pid).result(SOON) == pid


class NastyError(Exception):
    """Raises whatever it is told to, when it is pickled or shown."""

    def __init__(self, nasty: type[BaseException], *, at: str) -> None:
        super().__init__("nasty")
        self.nasty, self.at = nasty, at

    def __reduce__(self) -> Any:
        if self.at == "pickling":
            raise self.nasty
        return super().__reduce__()

    def __str__(self) -> str:
        if self.at == "showing":
            raise self.nasty
        return "nasty"


@pytest.mark.parametrize("at", ["pickling", "showing"])
@pytest.mark.parametrize("nasty", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_an_exception_that_raises_while_it_is_sent_costs_no_daemon(
    nasty: type[BaseException], at: str
) -> None:
    def raise_it() -> None:
        raise NastyError(nasty, at=at)

    with running() as executor:
        pid = executor.submit(mischief.own_pid).result(SOON)
        error = executor.submit(raise_it).exception(SOON)
        assert error is not None
        assert not isinstance(error, (DaemonLostError, KeyboardInterrupt, SystemExit))
        assert executor.submit(mischief.own_pid).result(SOON) == pid


@pytest.mark.parametrize("nasty", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_a_task_may_raise_anything_and_the_executor_goes_on(nasty: type[BaseException]) -> None:
    def raise_it() -> None:
        raise nasty

    with running() as executor:
        pid = executor.submit(mischief.own_pid).result(SOON)
        error = executor.submit(raise_it).exception(SOON)
        assert type(error).__name__ == (
            "MiraiInterrupt" if nasty is KeyboardInterrupt else nasty.__name__
        )
        assert executor.submit(mischief.own_pid).result(SOON) == pid


def raise_at_the_host(daemon: int, error: type[BaseException]) -> None:
    if os.getpid() != daemon:
        raise error


@pytest.mark.parametrize("nasty", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_a_result_or_error_that_raises_anything_at_the_host_ends_its_own_future_only(
    nasty: type[BaseException],
) -> None:
    def trap() -> AtUnpickle:
        return AtUnpickle(functools.partial(raise_at_the_host, os.getpid(), nasty))

    def raise_trap() -> None:
        raise ArithmeticError(trap())

    with running() as executor:
        assert executor.submit(trap).exception(SOON) is not None
        assert executor.submit(raise_trap).exception(SOON) is not None
        assert_goes_on(executor)


def test_a_finalizer_that_raises_or_exits_touches_no_other_task() -> None:
    class Bomb:
        def __del__(self) -> None:
            raise SystemExit(1)

    def leave_bombs() -> int:
        # Its finalizer runs when the daemon cleans up.
        vars(sys.modules["__main__"])["bomb"] = Bomb()
        return 1

    with running() as executor:
        for _ in range(5):
            assert executor.submit(leave_bombs).result(SOON) == 1
            assert_goes_on(executor)


def test_a_daemon_that_must_leave_is_replaced_though_a_task_has_left_a_thread() -> None:
    def spoil() -> int:
        os.close(1)  # cannot be undone
        return mischief.leave_a_thread_and(mischief.answer)  # type: ignore[no-any-return]

    with running() as executor:
        futures = [executor.submit(spoil), *(executor.submit(mischief.answer) for _ in range(9))]
        assert [future.result(SOON) for future in futures] == [42] * 10


def test_a_kill_while_a_large_result_is_on_its_way_leaves_it_whole_or_lost(bell: Bell) -> None:
    def large() -> bytes:
        return bytes(range(256)) * (1 << 18)  # 64 MiB

    with running() as executor:
        for delay in (0.0, 0.005, 0.02, 0.05, 0.1, 0.2):
            future = executor.submit(mischief.ring_and, bell.path, large)
            pid = int(bell.wait())
            mischief.wait_for(delay)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            error = future.exception(SOON)
            assert error is None or isinstance(error, DaemonLostError)
            assert error is not None or future.result() == large()
        assert_goes_on(executor)


def test_a_daemon_killed_while_a_large_argument_is_on_its_way_costs_that_task() -> None:
    data = bytes(64 << 20)
    with running() as executor:
        pid = executor.status().rows[0].pid
        os.kill(pid, signal.SIGSTOP)  # it reads nothing
        future = executor.submit(len, data)
        follower = executor.submit(mischief.answer)
        os.kill(pid, signal.SIGKILL)
        # It had not begun: it runs elsewhere.
        assert future.result(SOON) == len(data)
        assert follower.result(SOON) == 42


def test_every_future_ends_when_daemons_die_at_each_task() -> None:
    with running(2, output=False) as executor:
        futures: list[Any] = [executor.submit(mischief.exit_at_once) for _ in range(20)]
        for future in futures:
            assert isinstance(future.exception(SOON), DaemonLostError)
        assert_goes_on(executor)


def test_a_cancelled_future_stays_cancelled_when_its_daemon_dies() -> None:
    with running() as executor:
        futures: list[Any] = [executor.submit(mischief.exit_at_once) for _ in range(10)]
        cancelled = [future for future in futures if future.cancel()]
        for future in cancelled:
            with pytest.raises(CancelledError):
                future.result(SOON)
        assert_goes_on(executor)


@pytest.mark.local_link("processes on other machines are nothing to look at here")
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_the_old_recipe_that_ends_each_process_of_an_executor_ends_what_runs(
    bell: Bell, signum: signal.Signals
) -> None:
    with running(1) as executor:
        future = executor.submit(mischief.ring_and, bell.path, mischief.sleep_long)
        pid = int(bell.wait())
        (process,) = executor._processes.values()
        assert process.pid == pid
        process.terminate() if signum is signal.SIGTERM else process.kill()
        assert isinstance(future.exception(SOON), DaemonLostError)
        assert (process.is_alive(), process.exitcode) == (False, -signum)
        process.kill()  # it has ended: nobody is struck
        assert executor.submit(abs, -1).result(SOON) == 1
