"""Forks: the host's children let go of its daemons, and can neither use nor harm them."""

import signal
import textwrap

import pytest

from live.hosts import PATIENCE, Ended, run, script

# Forks, and returns the exit status of the child: minus the signal if one has ended it.
FORK = """
def fork(what):
    pid = os.fork()
    if pid == 0:
        what()
        sys.exit(0)
    return pid

def status_of(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""

STARTED = (
    FORK
    + """
executor = MiraiExecutor(2)
executor.wait_ready()
"""
)


def forking(code: str, setup: str = STARTED) -> Ended:
    return run(setup + textwrap.dedent(code))


def test_a_child_that_exits_keeps_its_code_and_the_parent_its_daemons() -> None:
    ended = forking("""
        for n in range(20):
            code = status_of(fork(lambda: sys.exit(n)))
            say(code == n, executor.submit(abs, -n).result())
    """)
    assert ended.out.splitlines() == [f"True {n}" for n in range(20)]
    assert (ended.code, ended.err) == (0, "")


def test_a_child_may_exit_while_the_executor_is_busy_and_full() -> None:
    ended = forking("""
        futures = [executor.submit(abs, -n) for n in range(2000)]
        children = [fork(lambda: None) for _ in range(10)]
        say([status_of(child) for child in children] == [0] * 10)
        say([future.result() for future in futures] == list(range(2000)))
    """)
    assert (ended.out, ended.code, ended.err) == ("True\nTrue\n", 0, "")


def test_a_child_may_exit_while_daemons_are_starting() -> None:
    ended = forking(
        """
        executor = MiraiExecutor(3)
        futures = [executor.submit(abs, -n) for n in range(3)]
        children = []
        while not all(future.done() for future in futures):
            children.append(fork(lambda: None))
        say(not any(status_of(child) for child in children))
        """,
        FORK,
    )
    assert (ended.out, ended.code, ended.err) == ("True\n", 0, "")


def test_a_child_may_exit_while_daemons_are_leaving() -> None:
    ended = forking(
        """
        for _ in range(3):
            executor = MiraiExecutor(2)
            executor.wait_ready()
            executor.shutdown(wait=False)
            children = []
            while executor.status().rows:
                children.append(fork(lambda: None))
            executor.shutdown()
            say(not any(status_of(child) for child in children))
        """,
        FORK,
    )
    assert (ended.out, ended.code, ended.err) == ("True\n" * 3, 0, "")


USES = {
    "submit": "executor.submit(abs, -1)",
    "map": "list(executor.map(abs, [-1]))",
    "a view": "executor.with_options(timeout=9).submit(abs, -1)",
    "everywhere": "executor.everywhere(abs, -1)",
    "status": "executor.status()",
    "wait_ready": "executor.wait_ready()",
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_child_that_uses_a_started_executor_gets_an_error_at_once(use: str) -> None:
    ended = forking(f"""
        def child():
            try:
                {use}
            except ForkedExecutorError as error:
                say("refused:", "forked" in str(error))

        say(status_of(fork(child)), executor.submit(abs, -1).result())
    """)
    assert ended.out == "refused: True\n0 1\n"
    assert (ended.code, ended.err) == (0, "")


PARENTS = {
    "works": "",
    "is starting": "executor = MiraiExecutor(2); executor.submit(abs, -1)",
    "is busy": "for _ in range(100): executor.submit(time.sleep, 0.01)",
    "is shutting down": "executor.shutdown(wait=False)",
    "has ended": "executor.shutdown(); del executor",
}


@pytest.mark.parametrize("state", PARENTS)
def test_a_child_can_have_executors_of_its_own_while_that_of_its_parent(state: str) -> None:
    ended = forking(f"""
        {PARENTS[state]}

        def child():
            with MiraiExecutor(2) as own:
                say(own.submit(abs, -5).result(), sum(own.map(abs, range(100))))

        say(*(status_of(fork(child)) for _ in range(2)))
    """)
    assert (ended.out, ended.err) == ("5 4950\n" * 2 + "0 0\n", "")


def test_children_of_children_can_have_executors_of_their_own() -> None:
    ended = forking("""
        def grandchild():
            say(MiraiExecutor(1).submit(abs, -7).result())

        def child():
            own = MiraiExecutor(1)
            say(own.submit(abs, -6).result(), status_of(fork(grandchild)))

        say(status_of(fork(child)), executor.submit(abs, -5).result())
    """)
    assert (ended.out, ended.err) == ("7\n6 0\n0 5\n", "")


def test_a_child_that_is_forked_as_soon_as_an_executor_starts_can_have_its_own() -> None:
    # Its thread imports then: what is half imported in the child, can never be imported there.
    ended = forking(
        """
        executor = MiraiExecutor(1)
        future = executor.submit(abs, -5)

        def child():
            say(MiraiExecutor(1).submit(abs, -6).result())

        say(status_of(fork(child)), future.result())
        """,
        FORK,
    )
    assert (ended.out, ended.err) == ("6\n0 5\n", "")


def test_a_worker_of_a_fork_pool_can_have_an_executor_of_its_own() -> None:
    ended = forking("""
        import multiprocessing

        def work(n):
            with MiraiExecutor(1) as own:
                return own.submit(abs, -n).result()

        with multiprocessing.get_context("fork").Pool(2) as pool:
            say(pool.map(work, range(4)))
    """)
    assert (ended.out, ended.err) == ("[0, 1, 2, 3]\n", "")


ENDS = {
    "shutdown": "executor.shutdown()",
    "kill_workers": "executor.kill_workers()",
    "with": "executor.__exit__(None, None, None)",
    "an interrupted with": "executor.__exit__(KeyboardInterrupt, None, None)",
    "del": "global executor; del executor",
    "cancel": "future.cancel()",
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_child_cannot_end_the_executor_of_its_parent(end: str) -> None:
    ended = forking(f"""
        future = executor.submit(say, "runs")

        def child():
            {end}

        say(status_of(fork(child)))
        future.result()
        say(executor.submit(abs, -1).result())
    """)
    assert sorted(ended.out.splitlines()) == ["0", "1", "runs"]
    assert (ended.code, ended.err) == (0, "")


@pytest.mark.local_link("daemons elsewhere do not start by themselves")
def test_an_executor_that_had_started_nothing_works_in_forked_workers() -> None:
    # gunicorn --preload: the application is imported, then its workers are forked.
    ended = forking(
        """
        executor = MiraiExecutor(1)

        def serve():
            say(executor.submit(abs, -5).result())

        workers = [fork(serve) for _ in range(4)]
        say([status_of(worker) for worker in workers])
        say(executor.submit(abs, -6).result())
        """,
        FORK,
    )
    assert ended.out == "5\n" * 4 + "[0, 0, 0, 0]\n6\n"
    assert (ended.code, ended.err) == (0, "")


def test_a_fork_pool_of_multiprocessing_works_beside_an_executor() -> None:
    ended = forking("""
        import multiprocessing
        futures = [executor.submit(abs, -n) for n in range(200)]
        with multiprocessing.get_context("fork").Pool(2) as pool:
            say(pool.map(abs, range(-3, 0)))
        with multiprocessing.get_context("fork").Pool(2) as pool:
            say(pool.map(abs, range(-3, 0)))
            pool.close()
            pool.join()
        say(sum(future.result() for future in futures))
    """)
    assert ended.out == "[3, 2, 1]\n[3, 2, 1]\n19900\n"
    assert (ended.code, ended.err) == (0, "")


def test_subprocesses_keep_no_daemon_alive() -> None:
    with script(
        STARTED
        + """
import subprocess
subprocess.Popen(["sleep", "1000"], close_fds=False)
say(*[row.pid for row in executor.status().rows])
wait_for_ever()
"""
    ) as host:
        assert host.takes_daemons_along()


@pytest.mark.parametrize("when", ["idle", "starting"])
def test_a_forked_child_that_lives_on_keeps_no_daemon_of_a_killed_host(when: str) -> None:
    # At whatever moment it was forked: while daemons start, too.
    wait_ready = "executor.wait_ready()" if when == "idle" else ""
    with script(
        FORK
        + f"""
executor = MiraiExecutor(3)
futures = [executor.submit(abs, -1) for _ in range(3)]
{wait_ready}
children = []
while not all(future.done() for future in futures) or not children:
    children.append(fork(wait_for_ever))
executor.wait_ready()
say(*[row.pid for row in executor.status().rows])
wait_for_ever()
"""
    ) as host:
        assert host.takes_daemons_along()


@pytest.mark.own_url
def test_a_child_that_is_forked_as_a_daemon_connects_keeps_no_connection_to_it() -> None:
    with script(
        FORK
        + """
from mirai_executor._transport._sockets import Listener
accept = Listener.accept
def accept_and_let_others_run(self):
    connection = accept(self)
    if connection is not None:
        accepted.set()
        forked.wait(0.5)  # not now
    return connection
Listener.accept = accept_and_let_others_run
accepted, forked = threading.Event(), threading.Event()
executor = MiraiExecutor(url="tcp://127.0.0.1:0")
executor.launch_local(1)
accepted.wait()
fork(wait_for_ever)
forked.set()
executor.wait_ready()
say(*[row.pid for row in executor.status().rows])
wait_for_ever()
"""
    ) as host:
        assert host.takes_daemons_along()


def test_a_task_may_fork_and_its_child_exit() -> None:
    ended = run(
        FORK
        + """
def task():
    return status_of(fork(lambda: sys.exit(5))), status_of(fork(lambda: os._exit(6)))

def pool():
    import multiprocessing
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.map(abs, [-1, -2])

with MiraiExecutor(1) as executor:
    say(*executor.submit(task).result(), executor.submit(pool).result())
    say(executor.submit(abs, -1).result())
"""
    )
    assert (ended.out, ended.code, ended.err) == ("5 6 [1, 2]\n1\n", 0, "")


def test_a_child_of_a_task_can_have_daemons_of_its_own() -> None:
    ended = run(
        FORK
        + """
def use_in_child():
    def child():
        with MiraiExecutor(1) as executor:
            say(executor.submit(abs, -1).result(20))
    return status_of(fork(child))

with MiraiExecutor(1) as executor:
    say(executor.submit(use_in_child).result())
"""
    )
    assert (ended.out, ended.code, ended.err) == ("1\n0\n", 0, "")


def test_a_child_of_a_task_that_returns_answers_nothing() -> None:
    ended = run("""
def both():
    return os.fork() == 0

with MiraiExecutor(1) as executor:
    say(executor.submit(both).result(), executor.submit(abs, -1).result())
    """)
    assert (ended.out, ended.code, ended.err) == ("False 1\n", 0, "")


def test_a_fork_in_a_callback_does_no_harm() -> None:
    ended = forking("""
        def fork_and_wait(future):
            say(status_of(fork(lambda: os._exit(4))), future.result())

        for n in range(3):
            executor.submit(abs, -n).add_done_callback(fork_and_wait)
        executor.shutdown()
    """)
    assert sorted(ended.out.splitlines()) == ["4 0", "4 1", "4 2"]
    assert (ended.code, ended.err) == (0, "")


def test_ctrl_c_reaches_host_and_forked_child_alike() -> None:
    with script(
        STARTED
        + """
child = fork(lambda: say_and(wait_for_ever))
try:
    executor.submit(say_and, wait_for_ever).result()
finally:
    os.kill(child, signal.SIGINT)
    say(status_of(child))
""",
    ) as host:
        assert [host.line(), host.line()] == ["runs", "runs"]
        host.kill(signal.SIGINT)
        assert host.line() == str(-signal.SIGINT)
        assert host.end().code == -signal.SIGINT
        assert host.leaves_nothing(PATIENCE)
