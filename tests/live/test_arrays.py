"""Large arrays travel through shared memory, and nobody can tell but by the time that it takes."""

import contextlib
import gc
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import elsewhere
from live import arrays, mischief
from live.hosts import script
from live.mischief import SOON, running
from mirai_executor import DaemonLostError, MiraiExecutor, PayloadError, _arena

pytestmark = pytest.mark.skipif(not _arena.available(), reason="no shared memory here")

MB = 1 << 20
BY_TCP, BY_TLS = (
    pytest.param(url, marks=pytest.mark.transports)
    for url in ("tcp://127.0.0.1:0", "tls+tcp://127.0.0.1:0")
)


def arenas_of(pid: int) -> set[int]:
    """Return the inodes of the arenas that a process has open or mapped."""
    # Since Python 3.13 a mapping keeps no descriptor.
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    found = {int(line.split()[4]) for line in lines if "mirai-arena" in line}
    for entry in Path(f"/proc/{pid}/fd").glob("*"):
        try:
            if "mirai-arena" in str(entry.readlink()):
                found.add(entry.stat().st_ino)
        except OSError:
            continue  # closed meanwhile
    return found


@pytest.fixture(autouse=True)
def arenas_before() -> set[int]:
    """Return what earlier tests have left to the garbage collector."""
    gc.collect()
    BEFORE[:] = [arenas_of(os.getpid())]
    return BEFORE[0]


BEFORE: list[set[int]] = []


def arenas_here() -> set[int]:
    """Return the inodes of the arenas that this test has open or mapped in this process."""
    return arenas_of(os.getpid()) - BEFORE[0]


def pid_in_status(executor: MiraiExecutor) -> int:
    return executor.status().rows[0].pid


@pytest.mark.parametrize("size", [MB, 100 * MB])
def test_an_array_comes_back_equal_and_writable(size: int) -> None:
    array = np.random.default_rng(1).integers(0, 256, size, dtype=np.uint8)
    with running(1) as executor:
        for _ in range(3):
            back = executor.submit(arrays.echo, array).result(SOON)
            if not elsewhere.is_chosen():  # first: what is free is kept for a second only
                assert len(arenas_of(pid_in_status(executor))) >= 2, "it took another way"
            assert np.array_equal(back, array)
            assert back.flags.writeable
            assert not np.shares_memory(back, array)
        made = executor.submit(arrays.make, size).result(SOON)
        assert made.nbytes == size
        assert (made == 7).all()


@pytest.mark.parametrize("order", ["C", "F"])
def test_shape_order_and_type_survive(order: Any) -> None:
    array = np.arange(120_000, dtype=np.complex128).reshape(100, 3, 400).copy(order=order)
    with running(1) as executor:
        back = executor.submit(arrays.echo, array).result(SOON)
    assert np.array_equal(back, array)
    assert (back.dtype, back.strides) == (array.dtype, array.strides)


def test_what_a_task_writes_to_its_argument_stays_there() -> None:
    array = np.zeros(MB, dtype=np.uint8)
    with running(1) as executor:
        for value in range(1, 4):
            assert executor.submit(arrays.fill_and_tell, array, value).result(SOON) == (0, True)
    assert not array.any()


def test_what_the_daemon_writes_later_does_not_reach_a_result() -> None:
    array = np.ones(MB, dtype=np.uint8)
    with running(1) as executor:
        back = executor.submit(arrays.keep, array).result(SOON)
        assert executor.submit(arrays.overwrite_kept, 5).result(SOON) == 1
        assert executor.submit(arrays.make, MB).result(SOON)[0] == 7
        assert (back == 1).all()


def test_what_the_user_writes_after_submit_does_not_reach_the_task(gate: Path) -> None:
    array = np.ones(MB, dtype=np.uint8)
    with running(1) as executor:
        first = executor.submit(arrays.wait_and_sum, gate, array)
        second = executor.submit(arrays.total, array)
        array[...] = 9
        gate.write_bytes(b"go")
        assert first.result(SOON) == MB
        assert second.result(SOON) == MB


def test_what_the_user_writes_to_a_result_stays_there() -> None:
    with running(1) as executor:
        results = []
        for _ in range(6):
            result = executor.submit(arrays.make, MB).result(SOON)
            assert (result == 7).all()
            result[...] = 3
            results.append(result)
        assert all((result == 3).all() for result in results)


def test_a_bytearray_may_change_its_size_after_submit(gate: Path) -> None:
    data = bytearray(MB)
    with running(1) as executor:
        first = executor.submit(mischief.block_until_open, gate)
        future = executor.submit(arrays.flip, arrays.Box(data))
        data.extend(b"more")
        gate.write_bytes(b"go")
        assert first.result(SOON) == b"go"
        assert len(future.result(SOON).data) == MB


def test_what_is_read_only_stays_so() -> None:
    array = np.ones(MB, dtype=np.uint8)
    array.flags.writeable = False
    with running(1) as executor:
        assert executor.submit(arrays.fill_and_tell, array, 2).result(SOON) == (1, False)
        assert not executor.submit(arrays.echo, array).result(SOON).flags.writeable


def test_more_arrays_than_there_are_arenas_arrive_all_the_same(gate: Path) -> None:
    with running(1) as executor:
        first = executor.submit(mischief.block_until_open, gate)
        sent = [np.full(300_000, n, dtype=np.uint8) for n in range(60)]
        futures = [executor.submit(arrays.echo, array) for array in sent]
        sums = [executor.submit(arrays.total, array) for array in sent]
        gate.write_bytes(b"go")
        assert first.result(SOON) == b"go"
        backs = [future.result(SOON) for future in futures]
        assert all(map(np.array_equal, backs, sent))
        assert [future.result(SOON) for future in sums] == [300_000 * n for n in range(60)]
        for back in backs:
            back[...] = 1


def test_arrays_in_map_keep_their_order() -> None:
    with running(2) as executor:
        sent = [np.full(400_000, n, dtype=np.uint8) for n in range(40)]
        for chunksize in (1, 7):
            for n, back in enumerate(executor.map(arrays.echo, sent, chunksize=chunksize)):
                assert (back == n).all()


def test_an_exception_keeps_its_array() -> None:
    array = np.arange(MB, dtype=np.uint8)
    with running(1) as executor:
        error = executor.submit(arrays.raise_with, array).exception(SOON)
        assert isinstance(error, arrays.ArrayError)
        assert np.array_equal(error.array, array)


def test_small_tasks_beside_large_ones_are_answered() -> None:
    array = np.ones(MB, dtype=np.uint8)
    with running(2) as executor:
        large = [executor.submit(arrays.total, array) for _ in range(50)]
        small = [executor.submit(mischief.give, n) for n in range(500)]
        assert [future.result(SOON) for future in small] == list(range(500))
        assert [future.result(SOON) for future in large] == [MB] * 50


def test_buffers_need_no_numpy() -> None:
    data = bytearray(os.urandom(MB))
    with running(1) as executor:
        back = executor.submit(arrays.flip, arrays.Box(data)).result(SOON)
        view = memoryview(back.data)
        assert view[0] == 255 - data[0]
        assert view[1:] == memoryview(data)[1:]
        view[0] = 1
        executor.submit(arrays.flip, arrays.Box(b"x" * MB)).exception(SOON)  # which is read-only


@pytest.mark.parametrize("size", [MB - 100, MB, 30 * MB])
def test_large_objects_without_buffers_come_back_equal(size: int) -> None:
    data = os.urandom(size)
    mixed = {"bytes": data, "nested": [data, (data[:5],)], "array": np.ones(MB)}
    with running(1) as executor:
        for view in (executor, executor.with_options(retries=1)):
            assert view.submit(arrays.echo, data).result(SOON) == data
            assert view.submit(arrays.echo, [data] * 2).result(SOON) == [data] * 2
            back = view.submit(arrays.echo, mixed).result(SOON)
            assert back["nested"] == mixed["nested"]
            assert back["array"].sum() == MB
            back["array"][0] = 5


@pytest.mark.own_url
@pytest.mark.parametrize("url", ["local", BY_TCP, BY_TLS])
def test_a_large_array_is_copied_once_on_each_side(url: str) -> None:
    growth = growth_with(url, "array")
    assert max(*growth["there"], *growth["back"]) < 1.3


@pytest.mark.own_url
@pytest.mark.parametrize("url", ["local", BY_TCP])
def test_nested_bytes_are_copied_once_on_each_side(url: str) -> None:
    """Where memory is shared, that is into it, and out of it; elsewhere, into a frame."""
    written = 0 if url == "local" else 1  # nobody has mapped what is written to a new arena
    growth = growth_with(url, "nested")
    most = [written, 2, 2, 1 + written]  # who receives has what it loads from, too
    found = [*growth["there"], *growth["back"]]  # the daemon has made what it sends back
    assert all(size < limit + 0.3 for size, limit in zip(found, most, strict=True)), found


def growth_with(url: str, kind: str) -> dict[str, list[float]]:
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("payloads.py"), url, kind, str(64 * MB)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=2 * SOON,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    growth: dict[str, list[float]] = json.loads(done.stdout)
    return growth


def test_memory_is_reused_and_given_back_once_nobody_needs_it() -> None:
    with running(1) as executor:
        pid = pid_in_status(executor)
        for _ in range(20):
            executor.submit(arrays.echo, np.ones(MB)).result(SOON)
        assert len(arenas_of(pid)) <= 4, "they are not used again"
        wait_until(lambda: not arenas_here() and not arenas_of(pid))


@pytest.mark.local_link("machines share no memory")
def test_a_kept_result_keeps_its_memory_and_gives_it_back_when_dropped() -> None:
    with running(1) as executor:
        pid = pid_in_status(executor)
        kept = [executor.submit(arrays.make, MB).result(SOON) for _ in range(5)]
        time.sleep(1.5)  # until free memory has been given back
        assert len(arenas_of(pid)) == 5
        assert all((array == 7).all() for array in kept)
        kept.clear()
        wait_until(lambda: not arenas_of(pid) and not arenas_here())


def wait_until(holds: Any) -> None:
    deadline = time.monotonic() + SOON
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)  # neither side tells when it lets go


def test_results_outlive_their_daemon_and_their_executor() -> None:
    with running(1, output=False) as executor:
        kept = executor.submit(arrays.make, MB).result(SOON)
        os.kill(pid_in_status(executor), 9)
        again = executor.with_options(retries=1).submit(arrays.make, MB).result(SOON)
    assert (kept == 7).all()
    assert (again == 7).all()
    kept[...] = again[...] = 1


def test_an_executor_may_be_dropped_with_arrays_on_their_way() -> None:
    executor = MiraiExecutor(1)
    future = executor.submit(arrays.echo, np.ones(MB))
    del executor
    assert future.result(SOON).sum() == MB


def test_a_retried_task_gets_the_array_as_it_was_submitted(tmp_path: Path) -> None:
    array = np.ones(MB, dtype=np.uint8)
    with running(2, output=False) as executor:
        view = executor.with_options(retries=1)
        future = view.submit(arrays.spoil_and_die_once, tmp_path / "flag", array)
        array[...] = 50
        assert future.result(SOON) == MB


def test_cancelled_tasks_give_their_memory_back(gate: Path) -> None:
    array = np.ones(MB, dtype=np.uint8)
    with running(1) as executor:
        # A cancel during imports would be another story.
        executor.submit(arrays.total, array).result(SOON)
        pid = pid_in_status(executor)
        running_one = executor.submit(arrays.wait_and_sum, gate, array)
        waiting = [executor.submit(arrays.total, array) for _ in range(20)]
        for future in waiting:
            assert future.cancel()
        assert running_one.cancel()
        assert executor.submit(arrays.total, array).result(SOON) == MB
        wait_until(lambda: not arenas_of(pid_in_status(executor)) and not arenas_here())
        assert pid_in_status(executor) == pid


def test_what_was_taken_back_from_a_slow_daemon_arrives_elsewhere(gate: Path) -> None:
    array = np.ones(MB, dtype=np.uint8)
    with running(2) as executor:
        for _ in range(20):  # it is quick, so several share a frame
            executor.submit(arrays.echo, 1).result(SOON)
        blocker = executor.submit(mischief.block_until_open, gate)
        assert [
            future.result(SOON)
            for future in [executor.submit(arrays.total, array) for _ in range(100)]
        ] == [MB] * 100
        gate.write_bytes(b"go")
        assert blocker.result(SOON) == b"go"


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has ended in the round before
        os.kill(pid, 9)


@pytest.mark.parametrize("kills", [6, pytest.param(20, marks=pytest.mark.chaos)])
def test_daemons_may_be_killed_while_arrays_travel(kills: int) -> None:
    array = np.random.default_rng(2).integers(0, 256, 4 * MB, dtype=np.uint8)
    chance = random.Random(3)
    with running(2, output=False) as executor:
        for _ in range(kills):
            futures = [executor.submit(arrays.echo, array) for _ in range(6)]
            timer = threading.Timer(chance.uniform(0, 0.03), kill, (pid_in_status(executor),))
            timer.start()
            for future in futures:
                error = future.exception(SOON)
                assert error is None or isinstance(error, DaemonLostError)
                assert error is not None or np.array_equal(future.result(), array)
            timer.join()
            del futures, future
            executor.wait_ready(SOON)
        assert np.array_equal(executor.submit(arrays.echo, array).result(SOON), array)


def test_a_child_of_a_task_cannot_write_to_what_others_see() -> None:
    with running(1) as executor:
        future = executor.submit(arrays.fork_child_that_writes, np.zeros(MB, dtype=np.uint8))
        first = future.result(SOON)
        copy = first.copy()
        for n in range(20):
            array = np.full(MB, n, dtype=np.uint8)
            assert executor.submit(arrays.total, array).result(SOON) == n * MB
        assert np.array_equal(first, copy)


def shared_memory() -> Iterator[Path]:
    """Yield what there is of it, but for the semaphores that other tests have meanwhile."""
    folder = Path("/dev/shm")
    yield from (file for file in folder.iterdir() if not file.name.startswith("sem."))


def test_a_killed_host_leaves_nothing() -> None:
    code = """
    import numpy as np
    from live import arrays
    executor = MiraiExecutor(2)
    executor.wait_ready()
    array = np.ones(20_000_000)
    executor.submit(arrays.echo, array).result()
    say("ready")
    while True:
        kept = [future.result() for future in [executor.submit(arrays.echo, array) for _ in "abc"]]
    """
    folder = str(Path(__file__).parents[1])
    before = set(shared_memory())
    with script(f"sys.path.insert(0, {folder!r})\n" + code.replace("\n    ", "\n")) as host:
        assert host.line() == "ready"
        time.sleep(0.1)  # anywhere
        host.kill()
        host.end()
        assert host.leaves_nothing()
    assert set(shared_memory()) <= before


def test_a_forked_child_of_the_host_keeps_its_arrays_and_leaves_ours_alone() -> None:
    with running(1) as executor:
        kept = executor.submit(arrays.make, MB).result(SOON)
        pid = os.fork()
        if pid == 0:
            ok = bool((kept == 7).all())
            kept[...] = 1
            os._exit(0 if ok else 1)
        assert os.waitpid(pid, 0)[1] == 0
        for _ in range(5):
            assert (executor.submit(arrays.make, MB).result(SOON) == 7).all()


def test_what_is_shared_travels_as_a_reference_and_stays_read_only() -> None:
    array = np.ones(8 * MB, dtype=np.uint8)
    with running(2) as executor:
        given: dict[str, Any] = {"large": array, "small": [1, 2]}
        shared = executor.share(given)
        array[...] = 5
        assert shared["small"] == [1, 2]
        assert not shared["large"].flags.writeable
        before = len(arenas_of(os.getpid()))
        futures = [executor.submit(arrays.total, shared["large"]) for _ in range(40)]
        futures += [executor.submit(arrays.total_of, shared, "large") for _ in range(40)]
        futures += [executor.submit(arrays.total, shared["large"][:MB]) for _ in range(4)]
        futures += [executor.submit(arrays.total, shared["large"][MB:]) for _ in range(4)]
        sums = [future.result(SOON) for future in futures]
        assert sums == [8 * MB] * 80 + [MB] * 4 + [7 * MB] * 4
        assert len(arenas_of(os.getpid())) <= before + 8, "it was copied for each task"
        fate = executor.submit(arrays.fill_and_tell, shared["large"], 3).result(SOON)
        assert fate == (1, False)
        back = executor.submit(arrays.echo, shared["large"]).result(SOON)
        assert np.array_equal(back, shared["large"])
        both = executor.submit(arrays.total_of_both, shared["large"], array).result(SOON)
        assert both == 6 * 8 * MB
        both = executor.submit(arrays.total_of_both, array, shared["large"]).result(SOON)
        assert both == 6 * 8 * MB


def test_what_is_shared_is_given_back_with_its_last_reference(gate: Path) -> None:
    with running(1) as executor:
        pid = pid_in_status(executor)
        shared = executor.share(np.ones(MB))
        first = executor.submit(arrays.wait_and_sum, gate, shared)
        second = executor.submit(arrays.total, shared)
        del shared
        executor.share(np.ones(MB))  # looks for what is not used any more
        gate.write_bytes(b"go")
        assert first.result(SOON) == MB
        assert second.result(SOON) == MB
        wait_until(lambda: not arenas_of(pid) and not arenas_here())


def test_what_is_shared_survives_crashes_and_the_executor(tmp_path: Path) -> None:
    with running(2, output=False) as executor:
        shared = executor.share(np.ones(MB, dtype=np.uint8))
        executor.submit(arrays.total, shared).result(SOON)
        for row in executor.status().rows:
            os.kill(row.pid, 9)
        view = executor.with_options(retries=2)
        assert [view.submit(arrays.total, shared).result(SOON) for _ in range(4)] == [MB] * 4
    assert (shared == 1).all()


def test_what_cannot_be_shared_is_named_as_the_argument_that_it_is() -> None:
    refused = pytest.raises(PayloadError, match=r"^cannot pickle obj\['x'\] \(a _thread.lock")
    with MiraiExecutor(1) as executor, refused:
        executor.share({"x": threading.Lock()})


def test_one_executor_copies_what_another_shares() -> None:
    with running(1) as one, running(1) as other:
        shared = one.share(np.ones(MB, dtype=np.uint8))
        assert other.submit(arrays.total, shared).result(SOON) == MB
