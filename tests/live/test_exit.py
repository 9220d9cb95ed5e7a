"""The end of the interpreter: what was accepted is done, nothing is said, nothing is left."""

import random
import signal

import pytest

from live.hosts import GONE, Ended, run, script

MANY = 3000

ENDINGS = {
    "falling off the end": ("", 0),
    "sys.exit": ("sys.exit(3)", 3),
    "shutdown(wait=False)": ("executor.shutdown(wait=False)", 0),
    "shutdown(wait=False), then sys.exit": ("executor.shutdown(wait=False); sys.exit(3)", 3),
    "shutdown": ("executor.shutdown()", 0),
    "dropping the executor": ("del executor", 0),
    "sys.exit on another thread": ("threading.Thread(target=sys.exit, args=(3,)).start()", 0),
}


def numbers(ended: Ended) -> list[int]:
    return sorted(map(int, ended.out.split()))


@pytest.mark.parametrize(("ending", "code"), ENDINGS.values(), ids=ENDINGS)
def test_accepted_tasks_finish_and_what_they_print_appears(ending: str, code: int) -> None:
    ended = run(f"""
        executor = MiraiExecutor(2)
        futures = [executor.submit(print, n) for n in range(20)]
        {ending}
    """)
    assert (ended.code, ended.err) == (code, "")
    assert numbers(ended) == list(range(20))


def test_thousands_of_queued_tasks_finish() -> None:
    ended = run(f"""
        executor = MiraiExecutor(2)
        for n in range({MANY}):
            executor.submit(say, n)
        sys.exit(3)
    """)
    assert (ended.code, ended.err) == (3, "")
    assert numbers(ended) == list(range(MANY))


def test_an_unhandled_error_is_the_only_thing_that_is_said() -> None:
    ended = run("""
        executor = MiraiExecutor(1)
        future = executor.submit(say, 1)
        raise ValueError("mine")
    """)
    assert (ended.code, ended.out) == (1, "1\n")
    assert ended.tracebacks == 1
    assert ended.err.endswith("ValueError: mine\n")


def test_an_unhandled_keyboard_interrupt_drops_what_is_queued() -> None:
    with script(f"""
        executor = MiraiExecutor(1)
        futures = [executor.submit(say_and, wait_for_ever)]
        futures += [executor.submit(say, n) for n in range({MANY})]
        sys.stdin.readline()
        raise KeyboardInterrupt
    """) as host:
        assert host.line() == "runs"
        host.go_on()
        ended = host.end()
        assert (ended.code, ended.out) == (-signal.SIGINT, "")
        assert ended.tracebacks == 1
        assert host.leaves_nothing()


def test_a_handled_keyboard_interrupt_drops_nothing() -> None:
    ended = run("""
        executor = MiraiExecutor(1)
        futures = [executor.submit(say, n) for n in range(50)]
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            pass
    """)
    assert (ended.code, ended.err) == (0, "")
    assert numbers(ended) == list(range(50))


def test_sys_exit_in_a_callback_ends_neither_the_process_nor_the_other_tasks() -> None:
    ended = run("""
        import logging
        logging.getLogger("concurrent.futures").addHandler(logging.NullHandler())
        executor = MiraiExecutor(1)
        for n in range(20):
            executor.submit(say, n).add_done_callback(lambda _: sys.exit(9))
    """)
    assert (ended.code, ended.err) == (0, "")
    assert numbers(ended) == list(range(20))


@pytest.mark.parametrize("shutdown", ["", "executor.shutdown(wait=False)"])
def test_callbacks_run_at_the_exit_too(shutdown: str) -> None:
    ended = run(f"""
        executor = MiraiExecutor(1)
        for n in range(20):
            executor.submit(abs, -n).add_done_callback(lambda future: say(future.result()))
        {shutdown}
    """)
    assert (ended.code, ended.err) == (0, "")
    assert numbers(ended) == list(range(20))


def test_a_callback_that_shuts_down_at_the_exit_does_no_harm() -> None:
    ended = run("""
        executor = MiraiExecutor(1)
        for n in range(20):
            executor.submit(say, n).add_done_callback(lambda _: executor.shutdown(wait=True))
    """)
    assert (ended.code, ended.err) == (0, "")
    assert numbers(ended) == list(range(20))


@pytest.mark.parametrize("started", [False, True], ids=["never started", "started"])
def test_submit_in_an_atexit_hook_is_a_runtime_error(started: bool) -> None:
    ended = run(f"""
        import atexit
        executor = MiraiExecutor(1)
        if {started}:
            executor.submit(abs, -1)

        @atexit.register
        def hook():
            try:
                executor.submit(abs, -1)
            except RuntimeError as error:
                say(error)
    """)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == "cannot schedule new futures after interpreter shutdown\n"


def test_an_executor_used_in_an_atexit_hook_shuts_down_there() -> None:
    ended = run("""
        import atexit
        executor = MiraiExecutor(1)
        executor.submit(say, "done")
        atexit.register(executor.shutdown)
    """)
    assert (ended.code, ended.err, ended.out) == (0, "", "done\n")


@pytest.mark.parametrize("started", [False, True], ids=["never started", "started"])
@pytest.mark.parametrize(
    "end",
    [
        "shutdown()",
        "shutdown(wait=False, cancel_futures=True)",
        "__exit__(None, None, None)",
        "cancel_all()",
        "kill_workers()",
    ],
)
def test_an_object_that_the_end_of_the_program_deletes_may_end_its_executor(
    end: str, started: bool
) -> None:
    ended = run(f"""
        class Service:
            def __init__(self):
                self.executor = MiraiExecutor(1)
                self.itself = self  # nobody deletes it sooner
                if {started}:
                    self.executor.submit(abs, -1).result()

            def __del__(self):
                self.executor.{end}
                print("ended")

        service = Service()
    """)
    assert (ended.code, ended.err, ended.out) == (0, "", "ended\n")


def test_a_daemon_thread_that_waits_for_a_result_does_not_hold_up_the_exit() -> None:
    ended = run("""
        executor = MiraiExecutor(1)
        future = executor.submit(say, "done")
        threading.Thread(target=future.result, daemon=True).start()
    """)
    assert (ended.code, ended.err, ended.out) == (0, "", "done\n")


@pytest.mark.local_link("daemons elsewhere do not start by themselves")
def test_tasks_that_no_daemon_can_take_do_not_hold_up_the_exit() -> None:
    ended = run("""
        executor = MiraiExecutor(1, python="/bin/false")
        for n in range(100):
            executor.submit(say, n)
        sys.exit(3)
    """)
    assert (ended.code, ended.err, ended.out) == (3, "", "")


@pytest.mark.local_link("daemons elsewhere do not start by themselves")
def test_an_executor_that_was_never_used_does_not_show_at_the_exit() -> None:
    ended = run(
        "executor = MiraiExecutor(1); say(threading.active_count(), 'pynng' in sys.modules)"
    )
    assert (ended.code, ended.err, ended.out) == (0, "", "1 False\n")


def test_two_executors_end_side_by_side() -> None:
    ended = run("""
        executors = [MiraiExecutor(1) for _ in range(3)]
        for n, executor in enumerate(executors):
            executor.submit(say, n)
    """)
    assert (ended.code, ended.err) == (0, "")
    assert numbers(ended) == [0, 1, 2]


def test_a_task_that_uses_an_executor_of_its_own_needs_not_shut_it_down() -> None:
    ended = run("""
        def nest(n):
            inner = MiraiExecutor(1)
            return inner.submit(abs, -n).result()

        with MiraiExecutor(1) as executor:
            say(sorted(executor.map(nest, (1, 2))))
    """)
    assert (ended.code, ended.err, ended.out) == (0, "", "[1, 2]\n")


@pytest.mark.parametrize("how", ["os._exit(5)", "os.kill(os.getpid(), signal.SIGTERM)"])
def test_an_end_without_any_cleanup_takes_the_daemons_along(how: str) -> None:
    with script(f"""
        executor = MiraiExecutor(2)
        futures = [executor.submit(say_and, wait_for_ever) for _ in range(2)]
        sys.stdin.readline()
        {how}
    """) as host:
        assert [host.line(), host.line()] == ["runs", "runs"]
        host.go_on()
        ended = host.end()
        assert ended.code in (5, -signal.SIGTERM)
        assert host.leaves_nothing()


# SIGKILL of the host

MOMENTS = {
    "right after the first submit": """
        executor = MiraiExecutor(4)
        futures = [executor.submit(abs, -1) for _ in range(4)]
        say("now")
        """,
    "when its daemons have just been started": """
        executor = MiraiExecutor(4)
        futures = [executor.submit(abs, -1) for _ in range(4)]
        while len(executor.status().rows) < 4:
            pass
        say("now")
        """,
    "while an initializer runs": """
        executor = MiraiExecutor(2, None, say_and, (wait_for_ever,))
        futures = [executor.submit(abs, -1) for _ in range(2)]
        """,
    "idle": """
        executor = MiraiExecutor(2)
        executor.wait_ready()
        say("now")
        """,
    "with thousands queued": """
        executor = MiraiExecutor(2)
        executor.wait_ready()
        futures = [executor.submit(abs, -n) for n in range(20_000)]
        say("now")
        """,
    "while a C loop holds the GIL, with a forked child": """
        def fork_and_hold():
            if os.fork() == 0:
                wait_for_ever()
            say("now")
            hold_the_gil()

        executor = MiraiExecutor(1)
        future = executor.submit(fork_and_hold)
        """,
    "while a task refuses every interrupt, with a subprocess": """
        import subprocess

        def refuse():
            subprocess.Popen([sys.executable, "-c", "import threading; threading.Event().wait()"])
            say("now")
            swallow_interrupts()

        executor = MiraiExecutor(1)
        future = executor.submit(refuse)
        """,
    "while a large frame is on its way": """
        executor = MiraiExecutor(1)
        executor.wait_ready()
        future = executor.submit(len, bytes(200_000_000))
        say("now")
        """,
    "during a shutdown": """
        executor = MiraiExecutor(2)
        futures = [executor.submit(say_and, wait_for_ever) for _ in range(2)]
        executor.shutdown(wait=False)
        """,
}


@pytest.mark.parametrize("code", MOMENTS.values(), ids=MOMENTS)
def test_a_host_that_is_killed_takes_its_daemons_and_their_children_along(code: str) -> None:
    with script(code + "\n        wait_for_ever()\n") as host:
        host.line()
        host.kill()
        assert host.leaves_nothing(GONE), host.processes()
        assert host.end().code == -signal.SIGKILL


@pytest.mark.parametrize("rounds", [8, pytest.param(200, marks=pytest.mark.chaos)])
def test_a_host_that_is_killed_while_it_starts_daemons_leaves_none(rounds: int) -> None:
    for _ in range(rounds):
        with script("""
            say("now")
            executor = MiraiExecutor(3)
            executor.submit(abs, -1)
            executor.wait_ready()
            say("ready")
            wait_for_ever()
        """) as host:
            assert host.line() == "now"
            host.is_quiet_for(random.uniform(0.0, 0.7))  # until it is ready, about
            host.kill()
            assert host.leaves_nothing(GONE), host.processes()
            host.end()
