"""Live: with a fork context, daemons are forks of their host, as it was at its first task."""

import logging
import multiprocessing
import os
import sys
import threading
from typing import Any

import numpy as np
import psutil
import pytest

from live.hosts import GONE, PATIENCE, run, script
from live.mischief import wait_for_ever
from mirai_executor import DaemonLostError, LaunchError, MiraiExecutor, PayloadError

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="daemons are forked on Linux only"),
    pytest.mark.local_link("is about daemons that are forked from their host"),
    # Since 3.12 Python itself warns of every fork of a process with threads.
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]

FORK = multiprocessing.get_context("fork")
SPAWN = multiprocessing.get_context("spawn")

FORKING = """
import multiprocessing
FORK = multiprocessing.get_context("fork")
"""


def test_globals_of_the_host_are_the_daemons_own_also_after_a_crash() -> None:
    ended = run(
        FORKING
        + """
class Model:
    def __reduce__(self):
        raise TypeError("a model is loaded once")

model = Model()
count = 0

def use(n):
    global count
    count += n
    return type(model) is Model, count

def crash():
    os._exit(3)

with MiraiExecutor(1, FORK) as executor:
    say(*executor.submit(use, 1).result(), *executor.submit(use, 1).result(), count)
    say(type(executor.submit(crash).exception()).__name__)
    say(*executor.submit(use, 5).result())
    say(type(executor.submit(lambda: KeyError(count)).result()).__name__)
"""
    )
    assert (ended.out, ended.err) == ("True 1 True 2 0\nDaemonLostError\nTrue 5\nKeyError\n", "")


def test_what_the_host_has_replaced_since_the_fork_travels() -> None:
    ended = run(
        FORKING
        + """
def helper():
    return "old"

def task():
    return helper(), table

class Result:
    pass

table = ["old"]
with MiraiExecutor(1, FORK) as executor:
    say(*executor.submit(task).result(), type(executor.submit(Result).result()) is Result)
    def helper():
        return "new"
    table = ["new"]
    class Result:
        pass
    say(*executor.submit(task).result(), type(executor.submit(Result).result()) is Result)
    table = threading.Lock()
    say(executor.submit(task).exception())
"""
    )
    assert ended.out == "old ['old'] True\nnew ['new'] True\nname 'table' is not defined\n"
    assert ended.err == ""


kept: Any = None


def keep(shared: Any) -> None:
    global kept
    kept = shared


def is_free(lock: Any) -> bool:
    acquired: bool = lock.acquire(block=False)
    if acquired:
        lock.release()
    return acquired


def is_kept_one_free() -> bool:
    return is_free(kept)


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore", "BoundedSemaphore"])
def test_a_lock_that_was_there_at_the_fork_excludes_other_processes(kind: str) -> None:
    lock = getattr(FORK, kind)()
    with MiraiExecutor(1, FORK, keep, (lock,)) as executor:
        assert executor.submit(is_kept_one_free).result(PATIENCE)
        assert executor.submit(is_free, lock).result(PATIENCE)
        with lock:
            assert not executor.submit(is_kept_one_free).result(PATIENCE)
            assert not executor.submit(is_free, lock).result(PATIENCE)


def add(counter: Any, array: Any, queue: Any, done: Any) -> None:
    with counter.get_lock():
        counter.value += 1
        array[0] += 1
    queue.put(os.getpid())
    done.set()


@pytest.mark.usefixtures("nothing_is_left_lent")
@pytest.mark.parametrize("way", ["initargs", "arguments"])
def test_values_queues_and_events_of_a_fork_context_are_shared(way: str) -> None:
    shared = FORK.Value("i", 0), FORK.Array("i", 1), FORK.Queue(), FORK.Event()
    if way == "initargs":
        with MiraiExecutor(2, FORK, add, shared) as executor:
            executor.wait_ready(PATIENCE)
    else:
        with MiraiExecutor(2, FORK) as executor:
            list(executor.map(add, *([each] * 2 for each in shared)))
    counter, array, queue, done = shared
    assert (counter.value, array[0], done.wait(PATIENCE)) == (2, 2, True)
    assert os.getpid() not in {queue.get(timeout=PATIENCE) for _ in range(2)}
    queue.close()
    queue.join_thread()


def test_a_lock_that_is_made_after_the_fork_is_refused_with_what_to_do() -> None:
    with MiraiExecutor(1, FORK) as executor:
        executor.submit(abs, -1).result(PATIENCE)
        with pytest.raises(PayloadError, match=r"args\[0\].*made after .* make it before"):
            executor.submit(is_free, FORK.Lock()).result(PATIENCE)


def test_objects_of_a_fork_context_in_the_initargs_have_daemons_forked_unasked(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lock = FORK.RLock()
    caplog.set_level(logging.INFO, "mirai_executor")
    with lock, MiraiExecutor(1, None, keep, ({"of a progress bar": lock},)) as executor:
        assert not executor.submit(lambda: is_free(kept["of a progress bar"])).result(PATIENCE)
    (record,) = caplog.records
    assert (record.levelname, record.name) == ("INFO", "mirai_executor")
    assert "forked from this process" in record.getMessage()


@pytest.mark.parametrize("context", [None, SPAWN, multiprocessing.get_context("forkserver")])
def test_other_contexts_mean_fresh_interpreters(context: Any) -> None:
    with MiraiExecutor(1, context, keep, (SPAWN.Lock(),)) as executor:
        command = psutil.Process(executor.submit(pid).result(PATIENCE)).cmdline()
        assert "mirai_executor.daemon" in " ".join(command)


WRONG = {
    "text": ("fork", TypeError, r"get_context\('fork'\)"),
    "object": (object(), TypeError, "a context of multiprocessing"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_context_is_refused(case: str) -> None:
    context, error, text = WRONG[case]
    with pytest.raises(error, match=text):
        MiraiExecutor(1, context)


@pytest.mark.parametrize("option", [{"python": sys.executable}, {"url": "tcp://127.0.0.1:0"}])
def test_forks_are_refused_where_daemons_are_something_else(option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(option))):
        MiraiExecutor(None, FORK, **option)


def test_the_module_itself_is_a_context() -> None:
    with MiraiExecutor(1, multiprocessing) as executor:
        assert executor.submit(abs, -1).result(PATIENCE) == 1


def test_daemons_have_streams_handlers_and_ends_of_their_own() -> None:
    ended = run(
        FORKING
        + """
import atexit, logging
atexit.register(lambda: say("the end of", len(multiprocessing.active_children())))
signal.signal(signal.SIGUSR1, lambda *_: say("the host's handler"))
said = sys.stdout
print("once", end=" ")

def look():
    print("and from a daemon")
    print("as it is", file=sys.stderr)
    atexit.register(say, "the end of a daemon")
    return signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL, sys.stdin.read(), sys.stdout is said

executor = MiraiExecutor(1, FORK)
said = executor.submit(look).result()
executor.shutdown()
say(*said)
"""
    )
    words = ["and from a daemon", "the end of a daemon", "True  False", "the end of 0", "once "]
    assert ended.out == "\n".join(words)
    assert ended.err == "as it is\n"


def test_a_program_without_threads_forks_without_a_warning() -> None:
    ended = run(
        FORKING
        + """
warnings.simplefilter("error")
with MiraiExecutor(1, FORK) as executor:
    say(executor.submit(abs, -1).result())
"""
    )
    assert (ended.out, ended.err) == ("1\n", "")


def test_daemons_have_one_thread_whichever_has_submitted() -> None:
    with MiraiExecutor(2, FORK) as executor:
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.append(executor.submit(threads)))
        thread.start()
        thread.join()
        assert found[0].result(PATIENCE) == (1, True)


def threads() -> tuple[int, bool]:
    return threading.active_count(), threading.current_thread() is threading.main_thread()


def both_ways(array: Any) -> Any:
    array += 1
    return array


def test_large_arrays_go_both_ways() -> None:
    array = np.zeros(1 << 20)
    with MiraiExecutor(1, FORK) as executor:
        shared = executor.share(array)
        assert executor.submit(np.sum, shared).result(PATIENCE) == 0
        assert executor.submit(both_ways, array).result(PATIENCE).sum() == array.size


def pid() -> int:
    return os.getpid()


def test_tasks_of_a_daemon_can_be_limited() -> None:
    # ProcessPoolExecutor refuses this: it would fork a process whose threads run by then.
    with MiraiExecutor(1, FORK, max_tasks_per_child=1) as executor:
        assert len({executor.submit(pid).result(PATIENCE) for _ in range(3)}) == 3


def die(words: str) -> None:
    os.write(2, words.encode())
    os._exit(7)


def test_a_crash_costs_its_task_and_says_the_last_words() -> None:
    with MiraiExecutor(1, FORK, output=False) as executor:
        error = executor.submit(die, "last words").exception(PATIENCE)
        assert isinstance(error, DaemonLostError)
        assert (error.exitcode, error.stderr) == (7, "last words")
        assert executor.submit(abs, -1).result(PATIENCE) == 1
        runs = executor.with_options(run_timeout=0.05).submit(wait_for_ever)
        assert isinstance(runs.exception(PATIENCE), TimeoutError)
        assert executor.submit(abs, -2).result(PATIENCE) == 2


ENDS = {
    "its end": "os.kill(child, signal.SIGKILL)",  # which lives on after an orderly one
    "kill_workers": "executor.kill_workers()",
    "a Ctrl-C": "os.kill(os.getpid(), signal.SIGINT)",
    "its death": "os.kill(os.getpid(), signal.SIGKILL)",
}


@pytest.mark.parametrize("end", ENDS)
def test_nothing_is_left_behind_by(end: str) -> None:
    with script(
        FORKING
        + f"""
executor = MiraiExecutor(2, FORK)
executor.wait_ready()
child = executor.submit(lambda: __import__("subprocess").Popen(["sleep", "1000"]).pid).result()
waiting = executor.submit(wait_for_ever) if {end != "its end"} else None
{ENDS[end]}
"""
    ) as host:
        host.end()
        assert host.leaves_nothing(GONE)


def test_without_the_process_they_are_forked_from_daemons_go_on_and_none_follow() -> None:
    with MiraiExecutor(2, FORK) as executor:
        (daemon,) = {executor.submit(pid).result(PATIENCE)}
        parent = psutil.Process(daemon).parent()
        assert parent is not None
        parent.kill()
        assert executor.submit(pid).result(PATIENCE) == daemon
        executor.submit(die, "").exception(PATIENCE)
        with pytest.raises(LaunchError, match="has ended"):
            executor.submit(abs, -1).result(PATIENCE)


def nest() -> tuple[int, bool]:
    with MiraiExecutor(1, FORK, keep, (FORK.Lock(),)) as inner:
        return inner.submit(abs, -1).result(PATIENCE), inner.submit(is_kept_one_free).result()


def test_a_task_can_have_forked_daemons_of_its_own() -> None:
    with MiraiExecutor(1, FORK) as executor:
        assert executor.submit(nest).result(PATIENCE) == (1, True)


def test_a_child_of_the_host_keeps_no_forked_daemon_alive() -> None:
    with script(
        FORKING
        + """
executor = MiraiExecutor(1, FORK)
executor.wait_ready()
if (child := os.fork()) == 0:
    wait_for_ever()
say(*(row.pid for row in executor.status().rows))
wait_for_ever()
"""
    ) as host:
        assert host.takes_daemons_along()


def test_several_threads_that_submit_first_have_one_executor() -> None:
    with MiraiExecutor(1, FORK) as executor:
        found: list[Any] = []
        all_ = [
            threading.Thread(target=lambda: found.append(executor.submit(pid))) for _ in "1234"
        ]
        for each in all_:
            each.start()
        for each in all_:
            each.join()
        assert len({future.result(PATIENCE) for future in found}) == 1


def test_the_executable_that_multiprocessing_was_told_runs_the_daemons() -> None:
    ended = run(
        """
        import multiprocessing, tempfile
        with tempfile.TemporaryDirectory() as folder:
            mine = Path(folder, "mine")  # no name of a Python interpreter
            mine.symlink_to(sys.executable)
            multiprocessing.set_executable(str(mine))
            with MiraiExecutor(1) as executor:
                say(executor.submit(lambda: sys.orig_argv[0]).result() == str(mine))
        """
    )
    assert (ended.out, ended.err) == ("True\n", "")


@pytest.mark.parametrize("how", ["", "mp_context=multiprocessing.get_context('fork')"])
def test_a_frozen_application_is_never_started_as_if_it_were_python(how: str) -> None:
    ended = run(
        f"""
        import multiprocessing
        sys.frozen = True
        with MiraiExecutor(1, {how}) as executor:
            future = executor.submit(abs, -1)
            say(future.exception() or future.result())
        """
    )
    assert ended.out == "1\n" if how else "frozen" in ended.out and "python=" in ended.out
    assert ended.err == ""
