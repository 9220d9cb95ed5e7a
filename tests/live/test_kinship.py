"""To multiprocessing, a daemon is a child of its host's process."""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import pytest

from live.hosts import PACKAGE, PATIENCE, TESTS, run
from live.mischief import leave_open, running
from mirai_executor import DaemonLostError, MiraiExecutor

pytestmark = pytest.mark.local_link("is about daemons on the machine of their host")


def tracker() -> int:
    """Return what the tracker's pipe is to the system, whoever asks."""
    fd: Any = resource_tracker.getfd()
    return os.fstat(fd).st_ino


@pytest.fixture
def memory() -> Iterator[Callable[[str], Any]]:
    opened = []

    def open_(name: str) -> Any:
        opened.append(SharedMemory(name))
        return opened[-1]

    yield open_
    for one in opened:
        one.close()
        one.unlink()


def make_memory(content: int) -> str:
    made: Any = SharedMemory(f"of-a-test-{os.getpid()}", create=True, size=1)
    made.buf[0] = content
    made.close()
    name: str = made.name
    return name


def read_memory(name: str) -> int:
    shared: Any = SharedMemory(name)
    first: int = shared.buf[0]
    shared.close()
    return first


def test_shared_memory_that_a_task_has_made_outlives_its_daemon(
    memory: Callable[[str], Any],
) -> None:
    with MiraiExecutor(1) as executor:
        assert executor.submit(tracker).result(PATIENCE) == tracker()
        name = executor.submit(make_memory, 7).result(PATIENCE)
    assert memory(name).buf[0] == 7  # and this process may remove it


def test_shared_memory_outlives_daemons_that_have_looked_at_it(
    memory: Callable[[str], Any],
) -> None:
    name = make_memory(7)
    with MiraiExecutor(1, max_tasks_per_child=1) as executor:  # the others are forked
        assert list(executor.map(read_memory, [name] * 3)) == [7, 7, 7]
        assert list(executor.map(lambda _: tracker(), range(3))) == [tracker()] * 3
    assert memory(name).buf[0] == 7


def test_who_has_no_shared_memory_has_no_tracker_and_a_later_daemon_has_that_of_its_host() -> None:
    ended = run(
        """
        def tracker():
            from multiprocessing import resource_tracker
            return os.fstat(resource_tracker.getfd()).st_ino

        with MiraiExecutor(1, max_tasks_per_child=2) as executor:
            executor.submit(abs, -1).result()
            own = executor.submit(tracker).result()
            say("multiprocessing.resource_tracker" in sys.modules)
            import multiprocessing.shared_memory
            later = executor.submit(tracker).result()
            say(own != tracker(), later == tracker())
        """
    )
    assert (ended.out, ended.err) == ("False\nTrue True\n", "")


def who() -> tuple[str, tuple[int, ...], str, int | None, bool, int]:
    this, parent = multiprocessing.current_process(), multiprocessing.parent_process()
    assert parent is not None
    identity: tuple[int, ...] = this._identity  # what libraries ask for
    return this.name, identity, parent.name, parent.pid, parent.is_alive(), os.getpid()


def named(slot: int) -> tuple[object, ...]:
    return f"MiraiDaemon-{slot}", (slot,), "MainProcess", os.getpid(), True


def test_daemons_are_numbered_children_of_the_host() -> None:
    with running(3) as executor:
        found = [future.result(PATIENCE) for future in executor.everywhere(who)]
    assert sorted(each[:-1] for each in found) == [named(slot) for slot in (1, 2, 3)]
    assert len({each[-1] for each in found}) == 3


def test_who_takes_the_place_of_another_daemon_has_its_number() -> None:
    with running(2) as executor:
        before = {future.result(PATIENCE) for future in executor.everywhere(who)}
        assert isinstance(executor.submit(os._exit, 1).exception(PATIENCE), DaemonLostError)
        executor.wait_ready(PATIENCE)
        after = {future.result(PATIENCE) for future in executor.everywhere(who)}
    assert len(before & after) == 1
    assert sorted(each[:-1] for each in after) == [named(1), named(2)]
    with MiraiExecutor(1, max_tasks_per_child=1) as executor:
        found = [executor.submit(who).result(PATIENCE) for _ in range(3)]
    assert [each[:-1] for each in found] == [named(1)] * 3
    assert len({each[-1] for each in found}) == 3


def test_to_the_system_a_daemon_is_the_child_of_a_server_and_to_multiprocessing_of_the_host() -> (
    None
):
    def parents() -> tuple[int, int]:
        parent = multiprocessing.parent_process()
        assert parent is not None
        assert parent.pid is not None
        return os.getppid(), parent.pid

    with running(2) as executor:
        found = {future.result(PATIENCE) for future in executor.everywhere(parents)}
    servers, hosts = {server for server, _ in found}, {host for _, host in found}
    assert hosts == {os.getpid()}
    assert len(servers) == 1
    assert servers != hosts


def test_multiprocessing_counts_daemons_among_the_active_children_of_the_host() -> None:
    with running(2) as executor:
        executor.everywhere(abs, -1)
        children = sorted(multiprocessing.active_children(), key=lambda child: child.name)
        assert [child.name for child in children] == ["MiraiDaemon-1", "MiraiDaemon-2"]
        assert {child.pid for child in children} == set(executor._processes)
        assert all(child.is_alive() for child in children)
        first, second = children
        first.join(0)  # it lives
        assert (first.exitcode, first.daemon) == (None, False)
        first.terminate()
        first.join(PATIENCE)
        assert (first.is_alive(), first.exitcode) == (False, -signal.SIGTERM)
        assert first not in multiprocessing.active_children()
        second.kill()
        second.join(PATIENCE)
        assert second.exitcode == -signal.SIGKILL
        executor.wait_ready(PATIENCE)
        assert len(multiprocessing.active_children()) == 2
    assert multiprocessing.active_children() == []


def test_an_executor_that_is_left_open_does_not_hold_up_the_end_of_its_program() -> None:
    ended = run(
        """
        import atexit, multiprocessing
        atexit.register(lambda: say(*[child.exitcode for child in children]))
        executor = MiraiExecutor(1)
        executor.submit(abs, -1).result()
        children = multiprocessing.active_children()
        if os.fork() == 0:  # to which they belong as little as processes do
            say(multiprocessing.active_children())
            os._exit(0)
        os.wait()
        say(len(children))
        """
    )
    assert (ended.code, ended.out, ended.err) == (0, "[]\n1\n0\n", "")


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_an_executor_that_is_left_open_does_not_hold_up_the_end_of_a_child(method: str) -> None:
    context = multiprocessing.get_context(method)
    here, there = context.Pipe()
    child = context.Process(target=leave_open, args=(there,))  # type: ignore[attr-defined]  # both have it
    child.start()
    there.close()
    assert [here.recv(), here.recv()] == [1, "the last"]
    child.join(PATIENCE)
    assert child.exitcode == 0
    child.close()
    here.close()


def test_processes_and_daemons_that_a_task_starts_are_named_after_its_daemon() -> None:
    def name_a_child() -> str:
        return multiprocessing.Process(target=abs).name

    def nest() -> tuple[str, str]:
        with MiraiExecutor(1) as inner:
            name, _, parent, *_ = inner.submit(who).result(PATIENCE)
        return name, parent

    with MiraiExecutor(1) as executor:
        assert executor.submit(name_a_child).result(PATIENCE) == "Process-1:1"
        assert executor.submit(nest).result(PATIENCE) == ("MiraiDaemon-1:1", "MiraiDaemon-1")


TOOL = """
import multiprocessing
from mirai_executor import MiraiExecutor
{imports} import square

def task():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.map(square, [2, 3])

if {guard}:
    with MiraiExecutor(1) as executor:
        print(executor.submit(task).result())
"""


@pytest.mark.parametrize(
    ("file", "words", "imports", "guard"),
    [
        ("tool.py", ["-m", "pack.tool"], "from .numbers", "__name__ == '__main__'"),
        ("__main__.py", ["-m", "pack"], "from .numbers", "True"),
        ("__main__.py", ["pack"], "from numbers", "True"),
    ],
    ids=["module", "package", "folder"],
)
def test_a_task_of_any_program_may_have_a_pool_of_spawned_processes(
    file: str, words: list[str], imports: str, guard: str, tmp_path: Path
) -> None:
    pack = tmp_path / "pack"
    pack.mkdir()
    (pack / "numbers.py").write_text("def square(n): return n * n\n")
    (pack / file).write_text(TOOL.format(imports=imports, guard=guard))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (PACKAGE, TESTS)))}
    command = [sys.executable, *words]
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PATIENCE
    )
    assert (ended.stdout, ended.stderr) == ("[4, 9]\n", "")
