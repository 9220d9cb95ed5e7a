"""Who asked for so many daemons has so many, and never more jobs than that in a queue."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import psutil
import pytest

from live import hosts
from live.afar import python_words, shares
from live.mischief import SOON, Bell, answer, crash, swallow_everything
from mirai_executor import (
    LaunchError,
    MiraiExecutor,
    cluster_config,
    remote_config,
    ssh_config,
)
from mirai_executor._core import scaling
from mirai_executor._host import _autoscaler, _elsewhere, _settings
from mirai_executor.launchers import DaemonCommand, JobRequest, Launcher, Submission
from mirai_executor.launchers._futures import FutureJob, request_tasks
from mirai_executor.launchers._task import DaemonTask, run

pytestmark = pytest.mark.once

URL = "tcp://127.0.0.1:0"
# A queue in which jobs wait for ever: each command notes how it was called.
WAITS = """\
#!/bin/sh
name=$(basename "$0")
printf '%s\\n' "$name $*" >> "$SPOOL"
case "$name $1" in
"sbatch ") cat > /dev/null; echo "Submitted batch job 17" ;;
"squeue "*) cat "$SPOOL.states" 2> /dev/null || printf 'PENDING\nPENDING\n' ;;
"condor_submit "*) cat > /dev/null; echo "17.0 - 17.1" ;;
"condor_q "*) printf 'JobStatus = 1\n\nJobStatus = 1\n\n' ;;
"flux batch") cat > /dev/null; echo "ƒ$(echo $$ | tr 0 z)" ;;  # base 58 has no 0
"flux jobs") echo SCHED ;;
"oarsub "*) printf 'OAR_JOB_ID=17\nOAR_JOB_ID=18\nOAR_ARRAY_ID=17\n' ;;
"oarstat "*) printf 'Job_Id: 17\n    state = Waiting\nJob_Id: 18\n    state = Waiting\n' ;;
esac
"""
PROGRAMS = (
    *("sbatch", "squeue", "scancel", "condor_submit", "condor_q", "condor_rm", "flux"),
    *("oarsub", "oarstat", "oardel"),
)
# Of each of the others: what submits, and the beginnings of what asks and of what cancels.
OTHERS: dict[str, tuple[list[str], str, str]] = {
    "htcondor": (["condor_submit"], "condor_q -long -attributes JobStatus ", "condor_rm "),
    "flux": (["flux", "batch"], "flux jobs -n -o {state} ", "flux cancel "),
    "oar": (["oarsub"], "oarstat --full --array ", "oardel --array "),
}


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Put such a queue on the path; return what has been called."""
    for name in PROGRAMS:
        program = tmp_path / name
        program.write_text(WAITS)
        program.chmod(0o755)
    spool = tmp_path / "spool"
    spool.touch()
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SPOOL", str(spool))
    return lambda: spool.read_text().splitlines()


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)  # nothing tells when a program has been run


@pytest.mark.parametrize(("on_exit", "cancelled"), [("cancel", ["scancel 17"]), ("leave", [])])
def test_what_waits_in_a_queue_at_the_end_is_cancelled_unless_it_is_to_stay(
    calls: Callable[[], list[str]], on_exit: str, cancelled: list[str]
) -> None:
    launcher = cluster_config("sbatch", on_exit=on_exit)  # type: ignore[arg-type]  # one of two
    with MiraiExecutor(2, url=URL, remote=launcher) as executor:
        executor._finish_launch()
    assert calls() == ["sbatch ", *cancelled]


def test_no_more_jobs_than_the_maximum_wait_in_a_full_queue(
    calls: Callable[[], list[str]],
) -> None:
    with MiraiExecutor(url=URL) as executor:
        executor.adapt(0, 2, remote=cluster_config("sbatch"), patience=0.01)
        futures = [executor.submit(abs, -n) for n in range(5)]
        asked = "squeue --noheader --array --format=%T --jobs 17"
        wait_until(lambda: asked in calls())
        assert calls().count("sbatch ") == 1
        executor.shutdown(cancel_futures=True)
    assert all(future.cancelled() for future in futures)
    assert calls()[-1] == "scancel 17"


def test_a_job_that_dies_is_replaced_while_another_one_of_its_array_waits(
    calls: Callable[[], list[str]], tmp_path: Path
) -> None:
    with MiraiExecutor(url=URL) as executor:
        executor.adapt(0, 2, remote=cluster_config("sbatch"), patience=0.01)
        futures = [executor.submit(abs, -n) for n in range(5)]
        asked = "squeue --noheader --array --format=%T --jobs 17"
        wait_until(lambda: calls().count(asked) > 1)
        assert calls().count("sbatch ") == 1
        (tmp_path / "spool.states").write_text("PENDING\n")  # of two
        wait_until(lambda: calls().count("sbatch ") == 2)
        (tmp_path / "spool.states").write_text("PENDING\nPENDING\n")
        executor.shutdown(cancel_futures=True)
    assert all(future.cancelled() for future in futures)


def test_jobs_that_die_before_their_daemons_have_come_are_told_long_before_their_patience_ends(
    calls: Callable[[], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_settings, "_WARN_AFTER", 0.05)
    monkeypatch.setattr(_elsewhere, "_FIRST_LOOK", 0.05)
    monkeypatch.setattr(_elsewhere, "_LONGEST_LOOK", 0.2)
    for name, seconds in (("_FIRST_PAUSE", 0.05), ("_LONGEST_PAUSE", 1.0), ("_PATIENCE", 0.3)):
        monkeypatch.setattr(scaling, name, seconds)
    (tmp_path / "spool.states").write_text("FAILED\n")
    with MiraiExecutor(1, url=URL, remote=cluster_config("sbatch")) as executor:
        error = executor.submit(abs, -1).exception(SOON)
        assert isinstance(error, LaunchError)
        assert "job 17 is over before all of its daemons have come" in str(error)
        assert calls().count("sbatch ") > 1  # it was tried again


@pytest.mark.parametrize("scheduler", OTHERS)
def test_others_keep_to_the_maximum_and_cancel_exactly_what_waits(
    calls: Callable[[], list[str]], scheduler: str, tmp_path: Path
) -> None:
    words, asks, cancels = OTHERS[scheduler]
    launcher = cluster_config(words, secret_folder=tmp_path)
    with MiraiExecutor(url=URL) as executor:
        executor.adapt(0, 2, remote=launcher, patience=0.01)
        futures = [executor.submit(abs, -n) for n in range(5)]
        wait_until(lambda: sum(call.startswith(asks) for call in calls()) > 1)
        executor.shutdown(cancel_futures=True)
    assert all(future.cancelled() for future in futures)
    submitted = [call for call in calls() if call.startswith(" ".join(words))]
    asked = {call.removeprefix(asks) for call in calls() if call.startswith(asks)}
    cancelled = calls()[-1].removeprefix(cancels).split()
    jobs = 2 if scheduler == "flux" else 1  # which has no arrays
    assert (len(submitted), len(cancelled)) == (jobs, jobs)
    assert asked <= set(cancelled)


@pytest.mark.transports
@pytest.mark.own_url
def test_tasks_wait_as_long_as_their_jobs_do(calls: Callable[[], list[str]]) -> None:
    with MiraiExecutor(url=URL) as executor:
        executor.adapt(0, 2, remote=cluster_config("sbatch"), patience=0.01)
        future = executor.submit(abs, -1)
        asked = "squeue --noheader --array --format=%T --jobs 17"
        wait_until(lambda: calls().count(asked) > 4 or future.done())  # four refusals are enough
        assert not future.done()
        assert calls().count("sbatch ") == 1
        future.cancel()


class FullEngine:
    """An engine that has accepted a job, and has no room for it."""

    def __init__(self) -> None:
        self.asked = 0
        self.cancelled = threading.Event()

    def plan(self, _: DaemonCommand, count: int) -> list[Submission]:
        return [JobRequest("an engine that is full", self.submit, (count,))]

    def submit(self, _: float, count: int) -> Self:
        self.asked += count
        return self

    def cancel(self) -> None:
        self.cancelled.set()

    def failed(self) -> str | None:
        return None

    def add_done_callback(self, callback: Callable[[], object]) -> None:
        """Never call it."""


@pytest.mark.transports
@pytest.mark.own_url
def test_tasks_wait_as_long_as_an_engine_lets_its_job_wait() -> None:
    engine = FullEngine()
    looks: list[int] = []
    with MiraiExecutor(url=URL) as executor:
        executor.adapt(0, 2, remote=engine, patience=0.01)
        future = executor.submit(abs, -1)
        wait_until(lambda: engine.asked > 0)
        loop: Any = executor._host._loop
        requests = loop._elsewhere._requests
        unexpected = requests.unexpected

        def note_and_tell(expected: int) -> Any:
            looks.append(expected)
            return unexpected(expected)

        requests.unexpected = note_and_tell
        wait_until(lambda: len(looks) > 4 or future.done())  # four refusals are enough
        assert not future.done()
        assert engine.asked == 1
        future.cancel()
    assert engine.cancelled.is_set()


class SmallEngine:
    """An engine that runs one daemon at a time, and each of them once."""

    python = python_words()

    def __init__(self, workers: ThreadPoolExecutor) -> None:
        self.workers = workers
        self.futures: list[Future[None]] = []
        self.fails: set[int] = set()  # the numbers of daemons that it cannot run

    def plan(self, daemon: DaemonCommand, count: int) -> list[Submission]:
        return request_tasks(self._submit, "a small engine", self, daemon, count)

    def _submit(self, _: float, __: object, name: str, tasks: list[DaemonTask]) -> list[FutureJob]:
        return [self._submit_one(name, task) for task in tasks]

    def _submit_one(self, name: str, task: DaemonTask) -> FutureJob:
        failing = DaemonTask(("-c", "exit 3"), (), ("/bin/sh",))
        what = failing if len(self.futures) in self.fails else task
        self.futures.append(self.workers.submit(run, what))
        failure = lambda future: str(future.exception() or "")  # noqa: E731
        return FutureJob(name, self.futures[-1], cancel=Future.cancel, failure=failure)


@pytest.fixture
def engine() -> Iterator[SmallEngine]:
    with ThreadPoolExecutor(1) as workers:
        yield SmallEngine(workers)


def test_of_the_daemons_of_an_engine_those_that_wait_are_taken_back_when_nobody_needs_them(
    engine: SmallEngine, bell: Bell
) -> None:
    with MiraiExecutor(url=URL, cancel_grace=0.1) as executor:
        executor.adapt(0, 3, remote=engine, release_after=0.1)
        running, *waiting = (executor.submit(swallow_everything, bell.path) for _ in range(3))
        bell.wait()
        wait_until(lambda: len(engine.futures) == 3)
        for future in waiting:
            future.cancel()
        wait_until(lambda: [it.cancelled() for it in engine.futures] == [False, True, True])
        assert not running.done()
        running.cancel()


def test_who_adapts_asks_an_engine_again_that_has_not_brought_what_it_was_to_replace(
    engine: SmallEngine, caplog: pytest.LogCaptureFixture
) -> None:
    engine.fails = {1}
    with MiraiExecutor(url=URL) as executor:
        executor.adapt(0, 1, remote=engine)
        (pid,) = {executor.submit(os.getpid).result(SOON)}
        keeper = psutil.Process(pid).parent()
        assert keeper is not None
        keeper.kill()
        wait_until(lambda: not executor.status().rows)
        assert executor.submit(os.getpid).result(SOON) != pid
        assert [future.done() for future in engine.futures] == [True, True, False]
    assert any("failed with exit status 3" in message for message in caplog.messages)


def test_what_was_asked_for_and_is_not_needed_any_more_is_taken_out_of_the_queue(
    calls: Callable[[], list[str]],
) -> None:
    with MiraiExecutor(url=URL) as executor:
        executor.adapt(0, 2, remote=cluster_config("sbatch"), release_after=0.01)
        future = executor.submit(abs, -1)
        wait_until(lambda: "sbatch " in calls())
        future.cancel()
        wait_until(lambda: "scancel 17" in calls())
    assert calls() == ["sbatch ", "scancel 17"]


def test_a_host_that_was_suspended_until_its_daemons_had_left_has_as_many_again() -> None:
    code = f"""
        from mirai_executor import remote_config
        words = ["-c", '"$@" & wait', "sh", "."]
        launcher = remote_config("/bin/sh", words, python={python_words()!r}, stays=True)
        executor = MiraiExecutor(2, url="{URL}", remote=launcher, heartbeat=0.2)
        executor.wait_ready()
        before = [row.pid for row in executor.status().rows]
        say(*before)
        sys.stdin.readline()
        others = before
        while len(others) != 2 or set(others) & set(before):
            time.sleep(0.02)  # nothing tells when a daemon is noticed to be gone
            others = [row.pid for row in executor.status().rows if row.state == "ready"]
        say(*others, executor.submit(abs, -4).result())
        executor.shutdown()
    """
    with hosts.script(code) as host:
        before = [int(word) for word in host.line().split()]
        host.kill(signal.SIGSTOP)
        assert host.ends(before, hosts.PATIENCE)  # they have heard nothing for twelve heartbeats
        host.kill(signal.SIGCONT)
        host.go_on()
        *others, four = map(int, host.line().split())
        assert (len(set(others) - set(before)), four) == (2, 4)
        assert host.end().code == 0
        assert host.leaves_nothing()


def test_local_daemons_that_come_for_lost_ones_get_their_gpus(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    with MiraiExecutor(url=URL, gpus_per_daemon=1) as executor:
        executor.adapt(2, 2)
        executor.wait_ready(SOON, count=2)
        before = shares(executor)
        assert {gpus for gpus, _ in before} == {"4", "5"}
        lost = before[next(it for it in before if it[0] == "4")]
        keeper = psutil.Process(lost).parent()
        assert keeper is not None
        keeper.kill()
        wait_until(lambda: others_than(lost, executor) == 2)
        assert {gpus for gpus, _ in shares(executor)} == {"4", "5"}


def others_than(pid: int, executor: MiraiExecutor) -> int:
    ready = [row.pid for row in executor.status().rows if row.state == "ready"]
    return 0 if pid in ready else len(ready)


def test_daemons_that_are_launched_one_by_one_have_gpus_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    with MiraiExecutor(url=URL, gpus_per_daemon=1) as executor:
        executor.launch_local(1)
        executor.launch_local(1)  # which has not come, perhaps, and has its seat
        executor.wait_ready(SOON, count=2)
        assert {gpus for gpus, _ in shares(executor)} == {"4", "5"}


@pytest.mark.parametrize("stdin", [True, False])
def test_a_number_among_the_arguments_is_that_of_the_lost_daemon(
    stdin: bool, tmp_path: Path
) -> None:
    log = tmp_path / "numbers"
    words = ["-c", 'echo "$0" >> "$1"; shift; "$@"', "{number}", str(log), "."]
    launcher = remote_config("/bin/sh", words, python=python_words(), stdin=stdin, stays=True)
    with MiraiExecutor(2, url=URL, remote=launcher) as executor:
        executor.wait_ready(SOON)
        assert sorted(log.read_text().split()) == ["1", "2"]
        for number in (1, 2):
            # Daemons inherit the words of what has started them.
            (row,) = (it for it in executor.status().rows if number_of(it.pid) == number)
            keeper = psutil.Process(row.pid).parent()
            assert keeper is not None
            keeper.kill()
            wait_until(lambda gone=row.pid: others_than(gone, executor) == 2)  # type: ignore[misc]
        assert log.read_text().split()[2:] == ["1", "2"]


def number_of(pid: int) -> int:
    seat = psutil.Process(pid).environ()["MIRAI_EXECUTOR_SEAT"]
    return int(seat.rpartition("/")[2])


def test_a_daemon_whose_command_has_ended_well_is_replaced() -> None:
    launcher = remote_config(
        "/bin/sh", ["-c", '"$@"; exit 0', "sh", "."], python=python_words(), stays=True
    )
    with MiraiExecutor(1, url=URL, remote=launcher, max_tasks_per_child=1) as executor:
        # The first two are not waited for: others come for them at the end, too.
        futures = [executor.submit(os.getpid) for _ in range(2)]
    assert len({future.result(0) for future in futures}) == 2


def test_tasks_fail_with_the_words_of_the_last_command_that_was_to_replace_a_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scaling, "_PATIENCE", 1.0)
    mark = tmp_path / "mark"
    script = f'test -e {mark} && {{ echo "node is down" >&2; exit 3; }}; touch {mark}; exec "$@"'
    launcher = remote_config(
        "/bin/sh", ["-c", script, "sh", "."], python=python_words(), stays=True
    )
    with MiraiExecutor(1, url=URL, remote=launcher) as executor:
        assert executor.submit(answer).result(SOON) == 42
        keeper = psutil.Process(executor.status().rows[0].pid).parent()
        assert keeper is not None
        keeper.kill()
        wait_until(lambda: not executor.status().rows)
        error = executor.submit(answer).exception(SOON)
        assert isinstance(error, LaunchError)
        assert "node is down" in str(error)
        mark.unlink()  # it is up again
        assert executor.submit(answer).result(SOON) == 42


# Stands in for SSH: a machine that is down, and this one.
LOGIN = """\
#!/bin/sh
for word in "$@"; do
    test "$word" = down && { echo "No route to host" >&2; exit 255; }
done
exec /bin/sh
"""


@pytest.fixture
def ssh(tmp_path: Path) -> str:
    program = tmp_path / "ssh"
    program.write_text(LOGIN)
    program.chmod(0o755)
    return str(program)


def test_a_machine_that_is_down_costs_its_daemons_which_others_run_instead(
    ssh: str, caplog: pytest.LogCaptureFixture
) -> None:
    launcher = ssh_config(["down", "up"], command=ssh, python=python_words())
    with MiraiExecutor(1, url=URL, remote=launcher) as executor:
        executor._finish_launch()
        assert "No route to host" in "".join(executor.status().failures)
        executor.wait_ready(SOON, count=2)  # one for each, and the machine that is up has both
        assert executor.submit(answer).result(SOON) == 42
    assert any("No route to host" in message for message in caplog.messages)


def test_a_machine_that_is_down_is_an_error_where_none_is_tolerated(ssh: str) -> None:
    launcher = ssh_config(["down", "up"], command=ssh, python=python_words())
    with MiraiExecutor(1, url=URL, remote=launcher, tolerate=0) as executor:
        error = executor.submit(answer).exception(SOON)
        assert isinstance(error, LaunchError)
        assert "No route to host" in str(error)


def test_a_launch_has_the_time_that_it_is_given() -> None:
    launcher = remote_config("/bin/sh", ["-c", "sleep 60", "."])
    with MiraiExecutor(1, url=URL, remote=launcher, launch_timeout=0.1) as executor:
        error = executor.submit(answer).exception(SOON)
        assert isinstance(error, LaunchError)
        assert "did not finish in time" in str(error)


@pytest.mark.parametrize("wrong", [{"tolerate": -1}, {"launch_timeout": 0}])
def test_what_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MiraiExecutor(1, url=URL, remote=remote_config("true"), **wrong)


class Counted:
    """Notes how many daemons another launcher is asked for."""

    def __init__(self, launcher: Launcher) -> None:
        self.launcher = launcher
        self.asked: list[int] = []

    def plan(self, daemon: DaemonCommand, count: int) -> list[Submission]:
        self.asked.append(count)
        return self.launcher.plan(daemon, count)


def be_killed(executor: MiraiExecutor, bell: Bell) -> None:
    future = executor.submit(swallow_everything, bell.path)
    bell.wait()
    future.cancel()


@pytest.mark.parametrize(
    "cost_a_daemon",
    [
        lambda executor, _: executor.submit(crash).exception(SOON),
        be_killed,
        lambda executor, _: executor.submit(os.close, 1).result(SOON),  # that cannot be undone
    ],
    ids=["one that crashes", "one that is killed", "one that cannot clean up"],
)
def test_who_has_a_keeper_that_brings_another_is_not_replaced_by_the_launcher_too(
    cost_a_daemon: Callable[[MiraiExecutor, Bell], object],
    bell: Bell,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_autoscaler, "_PAUSE", 0.0)  # it looks at whatever happens
    launcher = Counted(remote_config("/usr/bin/env", ["."], python=python_words(), stays=True))
    with MiraiExecutor(1, url=URL, remote=launcher, cleanup=True, cancel_grace=0.1) as executor:
        pid = executor.submit(os.getpid).result(SOON)
        cost_a_daemon(executor, bell)
        wait_until(lambda: pid not in {row.pid for row in executor.status().rows})
        assert executor.submit(os.getpid).result(SOON) != pid
        assert executor.info().connections == 1
    assert launcher.asked == [1]


# Why they leave


def test_a_status_and_the_log_say_why_daemons_have_left(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "mirai_executor")
    with MiraiExecutor(url=URL) as executor:
        executor.launch_local(1, max_tasks_per_child=1)
        assert executor.submit(answer).result(SOON) == 42
        wait_until(lambda: len(executor.status().departures) == 1)
        executor.launch_local(1)
        executor.wait_ready(SOON, count=1)
        keeper = psutil.Process(executor.status().rows[-1].pid).parent()
        assert keeper is not None
        keeper.kill()
        wait_until(lambda: len(executor.status().departures) == 2)
        limit, lost = executor.status().departures
    assert limit.endswith("has left: it has done as many tasks as it may")
    assert lost.endswith("has left: lost its connection")
    assert any(limit in message for message in caplog.messages)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGUSR1])
def test_a_daemon_whose_job_is_about_to_end_finishes_its_task_and_another_comes_first(
    signum: signal.Signals, tmp_path: Path
) -> None:
    go = str(tmp_path / "go")
    os.mkfifo(go)
    begun = str(tmp_path / "begun")
    os.mkfifo(begun)
    grace = ["--grace", str(2 * SOON)]
    launcher = remote_config("/usr/bin/env", [".", *grace], python=python_words(), stays=True)
    with MiraiExecutor(1, url=URL, remote=launcher) as executor:
        running = executor.submit(tell_and_read, begun, go)
        waiting = executor.submit(os.getpid)
        Path(begun).read_text()
        (pid,) = (row.pid for row in executor.status().rows)
        keeper = psutil.Process(pid).parent()
        assert keeper is not None
        keeper.send_signal(signum)
        assert waiting.result(SOON) != pid  # though the first one is still at it
        assert not running.done()
        Path(go).write_text("on\n")
        assert running.result(SOON) == "on\n"
        wait_until(lambda: len(executor.status().departures) > 0)
        assert f"has left: its keeper has got {signum.name}" in executor.status().departures[0]


def tell_and_read(begun: str, go: str) -> str:
    Path(begun).write_text("now\n")
    return Path(go).read_text()
