"""Live: what stays at a daemon between tasks, what does not, and where its words go."""

import contextlib
import functools
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import psutil
import pytest

import elsewhere
from live import mischief
from live.mischief import SOON, Bell, Tally, running
from mirai_executor import (
    DaemonLostError,
    LaunchError,
    MiraiExecutor,
    TaskTimeoutError,
    stop_mirai,
)


def run_program(tmp_path: Path, text: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run a program whose ``__main__`` is its own, as a user would."""
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(text))
    options.setdefault("capture_output", True)
    return subprocess.run(
        [sys.executable, str(program)],
        text=True,
        timeout=SOON * 2,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
        **options,
    )


def printed_by(tmp_path: Path, text: str) -> str:
    done = run_program(tmp_path, text)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# Cleanup


def test_what_a_task_invents_is_gone_for_the_next_one(tmp_path: Path) -> None:
    with running() as executor:
        before = executor.submit(mischief.look_around).result(SOON)
        executor.submit(mischief.make_a_mess, str(tmp_path)).result(SOON)
        assert executor.submit(mischief.look_around).result(SOON) == before


def test_brief_tasks_that_share_a_frame_leave_each_other_nothing() -> None:
    with running() as executor:
        before = executor.submit(mischief.look_around_and_wander, 0).result(SOON)
        futures = [executor.submit(mischief.look_around_and_wander, i) for i in range(1000)]
        assert {future.result(SOON) for future in futures} == {before}


def test_each_call_gets_its_function_as_the_host_has_it() -> None:
    n = 0

    def count() -> int:
        nonlocal n
        n += 1
        return n

    with running() as executor:
        futures = [executor.submit(count) for _ in range(500)]
        assert {future.result(SOON) for future in futures} == {1}


def test_what_c_code_leaves_in_brief_tasks_is_gone_after_their_frame() -> None:
    with running(ordering="strict") as executor:  # frames of one
        before = executor.submit(os.getcwd).result(SOON)
        seen = []
        for i in range(200):
            executor.submit(mischief.wander_in_c, i)
            seen.append(executor.submit(os.getcwd))
        assert {future.result(SOON) for future in seen} == {before}


def test_without_cleanup_what_a_task_leaves_is_there_for_the_next_one() -> None:
    with MiraiExecutor(1) as executor:  # the default
        executor.submit_source("import os; left = os.environ['LEFT'] = 'yes'").result(SOON)
        executor.submit(mischief.set_in_main, "kept", 7).result(SOON)
        assert executor.submit_source("kept").result(SOON) == 7
        assert executor.submit(os.getenv, "LEFT").result(SOON) == "yes"


TAKEN_BACK = {
    "arguments",
    "directory",
    "environment",
    "global of the task",
    "handler",
    "logging",
    "path",
    "standard output",
    "time zone",
    "timer",
    "tracer",
    "warnings",
}
KEPT = {
    "decimal context",
    "event loop",
    "excepthook",
    "global of the host",
    "locale",
    "recursion limit",
    "switch interval",
    "umask",
}
CHANGES = """
    import asyncio, decimal, io, locale, logging, os, signal, sys, time, warnings
    from mirai_executor import MiraiExecutor

    model = None

    def change():
        global model, invented
        model, invented = "made when it was needed", 1
        sys.argv, sys.stdout = ["changed"], io.StringIO()
        sys.path.append("/changed")
        sys.setrecursionlimit(1234)
        sys.setswitchinterval(0.125)
        sys.settrace(print)
        sys.excepthook = print
        os.environ.update(CHANGED="yes", TZ="XYZ-5")
        time.tzset()
        os.chdir("/")
        os.umask(0o123)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 1000)
        warnings.simplefilter("ignore", BytesWarning)
        logging.root.setLevel(1)
        decimal.getcontext().prec = 5
        locale.setlocale(locale.LC_ALL, "C")
        asyncio.set_event_loop(loop := asyncio.new_event_loop())
        loop.changed = True

    def what_is_changed():
        umask = os.umask(0)
        os.umask(umask)
        changed = {
            "arguments": sys.argv == ["changed"],
            "decimal context": decimal.getcontext().prec == 5,
            "directory": os.getcwd() == "/",
            "environment": "CHANGED" in os.environ,
            "event loop": hasattr(asyncio.get_event_loop(), "changed"),
            "excepthook": sys.excepthook is print,
            "global of the host": model is not None,
            "global of the task": "invented" in globals(),
            "handler": signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN,
            "locale": locale.setlocale(locale.LC_ALL) == "C",
            "logging": logging.root.level == 1,
            "path": "/changed" in sys.path,
            "recursion limit": sys.getrecursionlimit() == 1234,
            "standard output": isinstance(sys.stdout, io.StringIO),
            "switch interval": sys.getswitchinterval() == 0.125,
            "time zone": time.tzname[0] == "XYZ",
            "timer": signal.getitimer(signal.ITIMER_REAL)[0] > 0,
            "tracer": sys.gettrace() is print,
            "umask": umask == 0o123,
            "warnings": warnings.filters[0][2] is BytesWarning,
        }
        return [name for name, is_changed in changed.items() if is_changed]
"""


@pytest.mark.parametrize(("cleanup", "left"), [(False, TAKEN_BACK | KEPT), (True, KEPT)])
def test_cleanup_takes_a_dozen_kinds_of_changes_back_and_leaves_all_others(
    cleanup: bool, left: set[str], tmp_path: Path
) -> None:
    program = textwrap.dedent(CHANGES) + textwrap.dedent(f"""
        with MiraiExecutor(1, cleanup={cleanup}) as executor:
            executor.submit(change).result({SOON})
            print(*executor.submit(what_is_changed).result({SOON}), sep=",")
    """)
    lines = printed_by(tmp_path, program).splitlines()
    # The tracer that is left prints at the exit of the daemon, too, perhaps before the host does.
    [names] = [line for line in lines if not line.startswith("<frame")]
    assert set(names.split(",")) == left


@pytest.mark.parametrize("cleanup", [False, True])
def test_what_an_import_in_a_task_has_set_up_stays(cleanup: bool, tmp_path: Path) -> None:
    (tmp_path / "money.py").write_text(
        "from decimal import *\n"
        "import os\n"
        "getcontext().prec = 50\n"
        "os.environ['SET_BY_AN_IMPORT'] = 'yes'\n"
        "def third():\n"
        "    return len(str(Decimal(1) / 3)), os.environ.get('SET_BY_AN_IMPORT')\n"
    )
    program = f"""
        import money
        from mirai_executor import MiraiExecutor

        def by_name():
            import money
            return money.third()

        del money.os.environ["SET_BY_AN_IMPORT"]
        for work in (money.third, by_name):
            with MiraiExecutor(1, cleanup={cleanup}) as executor:
                print(*{{executor.submit(work).result({SOON}) for _ in range(3)}})
    """
    assert printed_by(tmp_path, program) == "(52, 'yes')\n" * 2


def test_a_mess_that_cannot_be_undone_costs_the_daemon_and_no_task() -> None:
    with running() as executor:
        pid = executor.submit(mischief.own_pid).result(SOON)
        executor.submit(os.close, 1)
        futures = [executor.submit(mischief.answer) for _ in range(50)]
        assert [future.result(SOON) for future in futures] == [42] * 50
        assert executor.submit(mischief.own_pid).result(SOON) != pid


def test_modules_stay_imported() -> None:
    with running() as executor:
        executor.submit_source("import colorsys; colorsys.mark = 1").result(SOON)
        assert executor.submit_source("import sys; sys.modules['colorsys'].mark").result(SOON) == 1


def test_a_task_that_has_replaced_sys_stdout_leaves_the_next_one_a_good_one(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def replace() -> None:
        sys.stdout = sys.stderr = None

    def close() -> None:
        sys.stdout.close()
        sys.stderr.close()

    def say(text: str) -> None:
        print(text)

    with running() as executor:
        pid = executor.submit(mischief.own_pid).result(SOON)
        for spoil in (replace, close):
            executor.submit(spoil).result(SOON)
            executor.submit(say, f"after {spoil.__name__}").result(SOON)
        assert executor.submit(mischief.own_pid).result(SOON) == pid
    assert capfd.readouterr().out == "after replace\nafter close\n"


# __main__, as scripts use it


def test_a_global_that_the_initializer_has_set_is_seen_by_all_tasks(tmp_path: Path) -> None:
    program = """
        from mirai_executor import MiraiExecutor

        DATA = None

        def load(n):
            global DATA
            DATA = list(range(n))

        def pick(i):
            return DATA[i]

        with MiraiExecutor(2, initializer=load, initargs=(10,)) as executor:
            print(sum(executor.map(pick, range(10))))
            print(DATA)
    """
    assert printed_by(tmp_path, program) == "45\nNone\n"


def test_a_model_that_a_task_has_cached_in_a_global_of_the_host_stays(tmp_path: Path) -> None:
    program = """
        import os
        from mirai_executor import MiraiExecutor

        model = None

        def predict(x):
            global model
            if model is None:
                print("loaded", flush=True)
                model = object()
            return x

        with MiraiExecutor(1) as executor:
            print(sum(executor.map(predict, range(20))))
    """
    assert sorted(printed_by(tmp_path, program).split()) == ["190", "loaded"]


# everywhere


def test_everywhere_reaches_current_daemons_and_those_that_come_later() -> None:
    with running(2, output=False) as executor:
        wait(executor.everywhere("flag = 'set'"), SOON)
        assert executor.submit_source("flag").result(SOON) == "set"
        for _ in range(4):
            error = executor.submit(mischief.exit_at_once).exception(SOON)
            assert isinstance(error, DaemonLostError)
            assert executor.submit_source("flag").result(SOON) == "set"


def test_functions_of_everywhere_do_not_take_that_of_the_tasks_around_them_away(
    tmp_path: Path,
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)

    def read(path: Path) -> bytes:
        return path.read_bytes()

    def other(n: int) -> Callable[[], int]:
        return lambda: n

    with running(1) as executor:
        for _ in range(3):  # from the second time on, the function travels by itself
            executor.submit(read, Path(os.devnull)).result(SOON)
        first = executor.submit(read, gate)
        last = executor.submit(read, Path(os.devnull))
        functions = [other(n) for n in range(300)]  # more than a daemon keeps
        futures = [executor.everywhere(f)[0] for f in functions for _ in range(2)]
        gate.write_bytes(b"open")
        assert first.result(SOON) == b"open"
        assert [future.result(SOON) for future in futures[::2]] == list(range(300))
        assert last.result(SOON) == b""


def test_a_daemon_that_comes_later_gets_the_last_value_and_what_was_made_of_earlier_ones() -> None:
    with running(cleanup=False) as executor:
        executor.everywhere("weights = x", x=1)
        executor.everywhere("seen = [weights]")
        for n in range(2, 5):
            wait(executor.everywhere("weights = x", x=n), SOON)
        executor.launch_local(1)
        executor.wait_ready(SOON, count=2)
        looks = executor.everywhere(mischief.look_into_main, "seen", "weights")
        assert [look.result(SOON) for look in looks] == [([1], 4)] * 2


def test_a_value_of_everywhere_that_was_replaced_is_let_go() -> None:
    def used() -> int:
        return psutil.Process().memory_info().rss

    with running() as executor:
        before = used()
        for _ in range(30):
            wait(executor.everywhere("weights = x", x=os.urandom(8 << 20)), SOON)
        assert used() - before < 80 << 20


def test_a_cancelled_share_of_everywhere_that_has_not_begun_never_runs(bell: Bell) -> None:
    with running(cleanup=False) as executor:
        executor.submit(mischief.ring_and, bell.path, mischief.spin, 0.5)
        bell.wait()
        (share,) = executor.everywhere("made = True")
        (kept,) = executor.everywhere("kept = True")
        assert share.cancel()
        assert share.cancelled()
        assert kept.result(SOON) is None
        assert (
            executor.submit_source("'made' in vars(__import__('__main__'))").result(SOON) is False
        )


@pytest.mark.parametrize("stop", ["cancel", "timeout", "run_timeout"])
@pytest.mark.parametrize("what", [mischief.sleep_long, mischief.ignore_signals_and_sleep])
def test_a_share_of_everywhere_that_runs_is_stopped_and_no_daemon_begins_it_again(
    stop: str, what: Callable[..., None], bell: Bell
) -> None:
    limits: dict[str, Any] = {} if stop == "cancel" else {stop: 1.0}
    with running(cancel_grace=0.3) as executor:
        # Or the time may be over before a daemon has begun, or has imported what it is to call.
        executor.submit(mischief.request).result(SOON)
        view = executor.with_options(**limits)
        if what is mischief.sleep_long:
            (share,) = view.everywhere(mischief.ring_and, bell.path, what)
        else:
            (share,) = view.everywhere(what, bell.path)
        bell.wait()
        if stop == "cancel":
            assert stop_mirai(share)
            assert share.cancelled()
        else:
            error = share.exception(SOON)
            assert isinstance(error, TaskTimeoutError)
            assert "everywhere() timed out" in str(error)
        assert executor.submit(abs, -1).result(SOON) == 1
        executor.launch_local(1)
        executor.wait_ready(SOON, count=2)
        assert [f.result(SOON) for f in executor.everywhere(abs, -2)] == [2, 2]


def test_with_cancel_running_false_a_share_of_everywhere_that_runs_is_left_alone(
    bell: Bell,
) -> None:
    with running() as executor:
        gentle = executor.with_options(cancel_running=False)
        (share,) = gentle.everywhere(mischief.ring_and, bell.path, mischief.spin, 0.5)
        bell.wait()
        assert not share.cancel()
        assert share.result(SOON) is None


def test_everywhere_answers_once_for_each_daemon(tally: Tally) -> None:
    with running(3) as executor:
        futures = executor.everywhere(mischief.count_and_return, tally.path, "once")
        assert len(futures) == 3
        wait(futures, SOON)
        executor.submit(mischief.answer).result(SOON)
        assert tally.counts()["once"] == 3


def test_a_daemon_lost_in_everywhere_fails_one_of_its_futures_and_no_task(
    tmp_path: Path,
) -> None:
    flag = tmp_path / "flag"
    with running(2, output=False) as executor:
        futures = executor.everywhere(mischief.die_unless_second, flag)
        tasks = [executor.submit(mischief.answer) for _ in range(20)]
        errors = [future.exception(SOON) for future in futures]
        assert [task.result(SOON) for task in tasks] == [42] * 20
        assert [type(error) for error in errors if error is not None] == [DaemonLostError]


def test_an_error_in_everywhere_is_the_error_of_its_futures() -> None:
    with running(2) as executor:
        for future in executor.everywhere(mischief.fail):
            assert isinstance(future.exception(SOON), ArithmeticError)
        assert executor.submit(mischief.answer).result(SOON) == 42


def test_everywhere_does_not_stall_a_daemon_that_has_done_its_part(bell: Bell) -> None:
    with running(2) as executor:
        busy = executor.submit(mischief.ring_and, bell.path, mischief.sleep_long)
        bell.wait()
        futures = executor.everywhere("done = True")
        wait(futures, SOON, return_when="FIRST_COMPLETED")
        assert executor.submit_source("done").result(SOON) is True
        assert busy.running()
        busy.cancel()
        wait(futures, SOON)


# Recycling


@pytest.mark.local_link("what has served its time elsewhere is not replaced")
@pytest.mark.parametrize("limit", [1, 2])
def test_no_task_is_lost_to_daemons_that_leave_after_a_few(limit: int, tally: Tally) -> None:
    with running(2, max_tasks_per_child=limit) as executor:
        work = functools.partial(mischief.count_and_return, tally.path)
        futures = [executor.submit(work, str(n), os.getpid()) for n in range(20)]
        assert {future.result(SOON) for future in futures} == {os.getpid()}
        assert tally.counts() == {str(n): 1 for n in range(20)}


@pytest.mark.local_link("what has served its time elsewhere is not replaced")
def test_a_daemon_does_exactly_as_many_tasks_as_it_may() -> None:
    with running(1, max_tasks_per_child=3) as executor:
        pids = [executor.submit(mischief.own_pid).result(SOON) for _ in range(9)]
        assert [len(set(pids[n : n + 3])) for n in (0, 3, 6)] == [1, 1, 1]
        assert len(set(pids)) == 3


@pytest.mark.local_link("what has served its time elsewhere is not replaced")
def test_no_task_is_lost_to_daemons_that_leave_when_idle(tally: Tally) -> None:
    idle = 0.03
    with MiraiExecutor(2, idle_time=idle) as executor:
        pids = set()
        for n in range(20):
            # Each task comes at about the moment when a daemon leaves.
            mischief.wait_for(idle * (0.9 + 0.02 * n % 0.2))
            pids.add(
                executor.submit(mischief.count_and_return_pid, tally.path, str(n)).result(SOON)
            )
        assert tally.counts() == {str(n): 1 for n in range(20)}
        assert len(pids) > 1


# Starting


def test_an_initializer_that_fails_fails_all_tasks_with_its_reason() -> None:
    with MiraiExecutor(2, initializer=mischief.fail) as executor:
        futures = [executor.submit(mischief.answer) for _ in range(5)]
        for future in futures:
            error = future.exception(SOON)
            assert isinstance(error, LaunchError)
            assert "on purpose" in str(error)
            assert isinstance(error.__cause__, ArithmeticError)
        with pytest.raises(LaunchError):
            executor.submit(mischief.answer)


def test_an_initializer_that_kills_its_daemon_fails_all_tasks_and_ends() -> None:
    with MiraiExecutor(2, initializer=mischief.say_and_exit, output=False) as executor:
        futures = [executor.submit(mischief.answer) for _ in range(5)]
        for future in futures:
            error = future.exception(SOON)
            assert isinstance(error, LaunchError)
            assert "my last words" in error.stderr
            # Elsewhere it is the keeper that gives up, after some attempts.
            assert error.exitcode == (14 if elsewhere.is_chosen() else 9)


# Streams


def test_what_a_task_prints_appears_at_the_streams_of_the_host(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def say() -> None:
        print("to stdout")
        print("to stderr", file=sys.stderr)

    with running() as executor:
        executor.submit(say).result(SOON)
    heard = capfd.readouterr()
    assert (heard.out, heard.err) == ("to stdout\n", "to stderr\n")


def test_with_output_off_nothing_appears(capfd: pytest.CaptureFixture[str]) -> None:
    def say() -> None:
        print("to stdout")
        print("to stderr", file=sys.stderr)

    with running(output=False) as executor:
        executor.submit(say).result(SOON)
    heard = capfd.readouterr()
    assert (heard.out, heard.err) == ("", "")


@pytest.mark.skipif(sys.platform != "linux", reason="others have no such policies")
@pytest.mark.parametrize("policy", ["SCHED_OTHER", "SCHED_BATCH"])
def test_daemons_run_under_the_scheduling_policy_of_their_host(policy: str) -> None:
    number = getattr(os, policy)  # other systems lack them

    def found() -> list[int]:
        os.sched_setscheduler(0, number, os.sched_param(0))  # of this thread
        with running(2) as executor:
            executor.wait_ready(timeout=SOON)
            policies = executor.everywhere(os.sched_getscheduler, 0)
            return [policy.result(SOON) for policy in policies]

    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(found).result() == [number] * 2


def test_a_task_reads_the_end_of_its_standard_input_at_once() -> None:
    with running() as executor:
        assert executor.submit(mischief.read_stdin).result(SOON) == ""


def test_a_flood_on_standard_error_blocks_no_task_though_nobody_reads_it(tmp_path: Path) -> None:
    program = """
        import os, sys
        from mirai_executor import MiraiExecutor

        def flood():
            for _ in range(100):
                sys.stderr.write("x" * 100_000)
            return "flooded"

        out, into = os.pipe()  # nobody reads
        said = os.dup(1)
        os.dup2(into, 2)
        with MiraiExecutor(1) as executor:
            print(executor.submit(flood).result(20), flush=True)
            print(executor.submit(abs, -1).result(20), flush=True)
            os.set_blocking(2, False)  # so that the end of this program finds a way
            os.close(out)
    """
    done = run_program(tmp_path, program)
    assert done.stdout == "flooded\n1\n"


def test_standard_error_arrives_whole_while_the_host_reads_it(tmp_path: Path) -> None:
    program = """
        import sys
        from mirai_executor import MiraiExecutor

        def talk():
            for n in range(100_000):
                print("line", n, "." * 40, file=sys.stderr)

        with MiraiExecutor(1) as executor:
            executor.submit(talk).result(20)
    """
    done = run_program(tmp_path, program)
    assert done.stderr.splitlines() == [f"line {n} {'.' * 40}" for n in range(100_000)]


def test_a_child_of_a_task_may_flood_standard_error_too() -> None:
    with running(output=False) as executor:
        future = executor.submit(mischief.flood_from_a_child, 8_000_000)
        assert future.result(SOON) == 0


def test_an_escaped_child_that_floods_standard_error_does_not_hold_up_the_host(
    bell: Bell,
) -> None:
    with running(output=False) as executor:
        future: Any = executor.submit(mischief.leave_a_flooding_child, bell.path)
        child = int(bell.wait())
        try:
            assert isinstance(future.exception(SOON), DaemonLostError)
            assert executor.submit(mischief.answer).result(SOON) == 42
        finally:
            with contextlib.suppress(ProcessLookupError):  # it ends once nobody reads
                os.kill(child, 9)
