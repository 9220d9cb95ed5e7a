"""What an executor takes of a machine: memory for each task, a processor only for work."""

import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import pytest

from live.mischief import SOON, give, running

BYTES_PER_TASK = 1000  # its future included; what it carries is next to nothing here


def test_a_task_in_the_queue_takes_less_than_a_kilobyte_with_its_future() -> None:
    count = 5000
    with running(1) as executor:
        busy = executor.submit(time.sleep, 2 * SOON)
        first = [executor.submit(give, n) for n in range(1000)]
        assert executor.status().awaiting >= 1000
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            futures = [executor.submit(give, n) for n in range(count)]
            assert executor.status().awaiting >= count  # the host thread has taken all in
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert busy.cancel()
        assert [future.result(SOON) for future in first + futures] == [
            *range(1000),
            *range(count),
        ]
    assert (after - before) / count < BYTES_PER_TASK


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_a_million_tasks_leave_no_memory_behind() -> None:
    def work(tasks: int) -> None:
        for start in range(0, tasks, 20_000):
            numbers = range(start, start + 20_000)
            futures = [executor.submit(give, [n]) for n in numbers]
            assert [future.result(SOON) for future in futures] == [[n] for n in numbers]

    with running(2) as executor:
        work(200_000)  # what is kept and reused has been made
        processes = [Path("/proc/self"), *(Path(f"/proc/{r.pid}") for r in executor.status().rows)]
        before = [_status(process, "VmRSS") for process in processes]
        work(1_000_000)
        after = [_status(process, "VmRSS") for process in processes]
    # In kB: allocators do not give all back, but eight bytes that each task left would be more.
    assert max(now - then for then, now in zip(before, after, strict=True)) < 8000


def test_a_host_sleeps_while_a_single_task_takes_long() -> None:
    with running(1) as executor:
        for _ in range(50):  # their results are awaited without sleeping
            executor.submit(give, 1).result(SOON)
        before = time.process_time()
        executor.submit(time.sleep, 1).result(SOON)
        assert time.process_time() - before < 0.3


@pytest.mark.local_link("daemons elsewhere and their hosts tell each other that they live")
def test_an_idle_executor_wakes_up_less_than_once_a_second() -> None:
    with running(2) as executor:
        assert list(executor.map(give, range(100))) == list(range(100))
        threads = [
            Path(f"/proc/self/task/{thread.native_id}")
            for thread in threading.enumerate()
            if thread.name.startswith("mirai-")
        ]
        for row in executor.status().rows:
            threads += Path(f"/proc/{row.pid}/task").iterdir()
        assert len(threads) >= 3
        # There is no event to wait for: nothing is to happen. At first, what was warm is let go.
        time.sleep(1.5)
        before = [_status(thread, "voluntary_ctxt_switches") for thread in threads]
        time.sleep(3)
        after = [_status(thread, "voluntary_ctxt_switches") for thread in threads]
    wake_ups = [now - then for then, now in zip(before, after, strict=True)]
    assert max(wake_ups) <= 3, dict(zip(threads, wake_ups, strict=True))


@pytest.mark.local_link("a host has one descriptor for each daemon elsewhere")
def test_a_daemon_costs_its_host_five_descriptors() -> None:
    few, many = 2, 6
    # Where its output is relayed, as under pytest, it has one more.
    with running(few, output="inherit") as executor:
        before = _descriptors()
        executor.launch_local(many - few)
        executor.wait_ready(SOON)
        while executor.status().connections < many:
            executor.submit(give, 1).result(SOON)
        assert _descriptors() - before == 5 * (many - few)


CROWD = """
import resource
from mirai_executor import MiraiExecutor
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
with MiraiExecutor(128) as executor:
    executor.wait_ready()
    futures = [executor.submit(abs, -n) for n in range(128)]
    print(sum(future.result() for future in futures))
"""


@pytest.mark.chaos
@pytest.mark.local_link("a host has one descriptor for each daemon elsewhere")
def test_128_daemons_fit_into_the_usual_limit_of_descriptors() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CROWD], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == (f"{sum(range(128))}\n", "")


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _status(process: Path, name: str) -> int:
    lines = (process / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


@pytest.mark.parametrize(
    "use",
    ["", "; mirai_executor.MiraiExecutor(2, name='x', idle_time=3).with_options(timeout=3)"],
)
def test_the_import_brings_nothing_that_is_not_needed_yet(use: str) -> None:
    program = (
        "import sys; from concurrent.futures import ProcessPoolExecutor\n"
        "before = set(sys.modules)\n"
        f"import mirai_executor{use}\n"
        "heavy = {'pynng', 'asyncio', 'cryptography', 'cloudpickle', 'ctypes', 'ssl'}\n"
        "print(sorted(heavy & (set(sys.modules) - before)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
