"""What tasks print appears where the host prints."""

import contextlib
import io
import os
from collections.abc import Iterator

import pytest

from live.hosts import PATIENCE, run
from mirai_executor import DaemonLostError, MiraiExecutor

pytestmark = pytest.mark.local_link("daemons elsewhere print where they were started")


@pytest.fixture(scope="module")
def executor() -> Iterator[MiraiExecutor]:
    with MiraiExecutor(1) as executor:
        executor.wait_ready()
        yield executor


def speak(words: str) -> None:
    print(words)
    os.write(1, words.encode())


@pytest.mark.parametrize("words", ["the first", "another"])
def test_an_executor_of_many_tests_prints_in_the_test_that_runs(
    words: str, executor: MiraiExecutor, capfd: pytest.CaptureFixture[str]
) -> None:
    executor.submit(speak, words).result(PATIENCE)
    assert capfd.readouterr().out.count(words) == 2


def test_what_a_task_has_printed_is_there_when_it_is_done(executor: MiraiExecutor) -> None:
    for number in range(20):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            executor.submit(print, number).result(PATIENCE)
            assert printed.getvalue() == f"{number}\n"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        for future in executor.everywhere(print, "here"):
            future.result(PATIENCE)
        assert printed.getvalue() == "here\n"


def print_and_die() -> None:
    os.write(1, b"the last\n")
    os._exit(1)


def test_what_a_daemon_printed_before_its_end_is_printed() -> None:
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        with MiraiExecutor(1) as executor:
            assert isinstance(executor.submit(print_and_die).exception(), DaemonLostError)
            executor.submit(print, "its successor").result(PATIENCE)
        assert printed.getvalue() == "the last\nits successor\n"


def test_lines_have_the_pids_of_their_daemons_on_request() -> None:
    ended = run(
        """
        def speak():
            print("out")
            print("err", file=sys.stderr)
            return os.getpid()

        with MiraiExecutor(1, output="tagged", max_tasks_per_child=1) as executor:
            pids = [executor.submit(speak).result() for _ in range(2)]
        say(*pids)
        """
    )
    *lines, pids = ended.out.splitlines()
    assert lines == [f"(pid={pid}) out" for pid in pids.split()]
    assert ended.err.splitlines() == [f"(pid={pid}) err" for pid in pids.split()]


def test_who_prints_to_descriptor_1_needs_nothing_of_this() -> None:
    ended = run(
        """
        def identity():
            status = os.fstat(1)
            return status.st_dev, status.st_ino

        def is_own(**options):
            with MiraiExecutor(1, **options) as executor:
                return executor.submit(identity).result() == identity()

        say(is_own(), is_own(output="inherit"), "mirai_executor._local._output" in sys.modules)
        say(is_own(output="relay"), is_own(output=False))
        """
    )
    assert (ended.out, ended.err) == ("True True False\nFalse False\n", "")


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_what_the_host_has_printed_before_comes_before_what_tasks_print(method: str) -> None:
    ended = run(
        f"""
        import multiprocessing
        print("before")  # into a pipe: it stays in the buffer of sys.stdout
        with MiraiExecutor(1, mp_context=multiprocessing.get_context("{method}")) as executor:
            executor.submit(print, "task").result()
        print("after")
        """
    )
    assert (ended.out, ended.err) == ("before\ntask\nafter\n", "")
