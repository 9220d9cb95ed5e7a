"""Decides which tests are watched for leaks, and fails those that leave something behind.

A watched test (marked ``live``, as all of ``tests/live`` and ``tests/contract`` are) starts real
processes. When it has ended, its processes, threads, descriptors and shared memory must be gone::

    snapshot ── test, and teardown of its fixtures ── snapshot ── equal within 5 s, or failure

A fixture of a wider scope that holds daemons must start them all before it hands itself out.
"""

import contextlib
import functools
import gc
import importlib.util
import multiprocessing
import os
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Collection, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from hypothesis import given, settings, strategies

import budget as rounds
from budget import budget as budget
from budget import pytest_terminal_summary as pytest_terminal_summary

if TYPE_CHECKING:
    from live.mischief import Bell, Tally

WATCHED_FOLDERS = ("tests/live/", "tests/contract/")
# What .ci/run does on the oldest Python, and not on the others: docs, the
# core, which is logic alone, and what links, processes and the system decide, no interpreter.
FOR_ONCE = (
    *("tests/core/", "tests/docs/", "tests/unit/test_wire.py"),
    *("tests/live/test_adapting.py", "tests/live/test_arrays.py", "tests/live/test_cancelling.py"),
    *("tests/live/test_crashes.py", "tests/live/test_demo.py", "tests/live/test_acceptor.py"),
    *("tests/live/test_elsewhere.py", "tests/live/test_frames.py", "tests/live/test_launching.py"),
    *("tests/live/test_parity_defects.py", "tests/live/test_post_mortem.py"),
    *("tests/live/test_pytest.py", "tests/live/test_queued_bytes.py"),
    *("tests/live/test_resources.py", "tests/live/test_restarts.py"),
    *("tests/live/test_stand_ins.py", "tests/live/test_story.py", "tests/live/test_timeouts.py"),
    *(
        "tests/live/test_map_chunks.py",
        "tests/live/test_map_probes.py",
        "tests/live/test_memory.py",
        "tests/live/test_mirai_map.py",
    ),
    *("tests/live/test_serial.py", "tests/live/test_stream_map.py", "tests/live/test_tracing.py"),
    "tests/live/test_websockets.py",
)
# What no version of a library changes, as it uses none.
WITHOUT_LIBRARIES = tuple(
    f"tests/unit/test_{name}.py"
    for name in (
        *(
            "acceptor",
            "bursts",
            "cleanup",
            "cli",
            "launch_processes",
            "death_watch",
            "deaths",
            "forking",
            "handshake",
        ),
        *("http_answers", "dirty_flag", "fleet", "launch", "launchers", "local_links", "loop"),
        *("nameless", "page"),
        *("place", "reactor", "record", "secret_files", "session", "status", "stops", "texts"),
        *("tickets", "urls", "waiting"),
    )
)
SECONDS_TO_LET_GO = 5.0
# What a program of ours opens by itself; plain files belong to pytest and to the imports.
OWNED_DESCRIPTORS = ("socket:", "pipe:", "/memfd:", "anon_inode:")
# Every process that a test starts carries this in its environment, whoever is its parent by then.
TOKEN = f"MIRAI_TESTS_TOKEN={uuid.uuid4().hex}"

LISTS_CHILDREN = Path("/proc/thread-self/children").exists()  # where the kernel was built so

test_passed = pytest.StashKey[bool]()

# What holds for any input is tried with few in a plain run, and at length by tox -e chaos.
settings.register_profile("default", max_examples=25, deadline=None)
settings.register_profile("at_length", max_examples=100, deadline=None)
settings.load_profile("default")


# Those have what they are about in an environment of their own: tox -e ecosystem.
collect_ignore = [] if importlib.util.find_spec("joblib") else ["ecosystem"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--transport",
        choices=("tcp", "tls", "ipc"),
        help="have executors listen at such an address, and their daemons dial it "
        "(default: daemons inherit their link)",
    )
    parser.addoption(
        "--again",
        action="store_true",
        help="leave out what another interpreter would not change: see the marker once",
    )
    parser.addoption(
        "--libraries",
        action="store_true",
        help="leave out what no version of a library would change",
    )
    rounds.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    name, value = TOKEN.split("=")
    os.environ[name] = value
    if (transport := config.getoption("--transport")) is not None:
        import elsewhere  # and with it the package

        os.environ[elsewhere.VARIABLE] = transport
        elsewhere.use_transport()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        path = item.path.relative_to(config.rootpath).as_posix()
        if path.startswith(WATCHED_FOLDERS):
            item.add_marker("live")
        if path.startswith(FOR_ONCE):
            item.add_marker("once")
        if config.getoption("--transport") is not None:
            skip_if_the_same(item)
    left_out = set[pytest.Item]()
    if config.getoption("--again"):
        left_out.update(item for item in items if item.get_closest_marker("once") is not None)
    if config.getoption("--libraries"):
        files = {config.rootpath / name for name in WITHOUT_LIBRARIES}
        left_out.update(item for item in items if item.path in files)
    config.hook.pytest_deselected(items=list(left_out))
    items[:] = [item for item in items if item not in left_out]


def pytest_collection_finish() -> None:
    """Leave what has been collected out of all later searches for garbage.

    Many tests end with one, and each would look at thousands of tests again.
    """
    try_an_example()
    gc.collect()
    gc.freeze()


@settings(max_examples=1, database=None)
@given(strategies.none())
def try_an_example(_: None) -> None:
    """Have Hypothesis take note of its own generator of random numbers.

    It looks for what refers to it, which is not found among what is left out of searches.
    """


def skip_if_the_same(item: pytest.Item) -> None:
    """Skip a test that no transport can be chosen for."""
    if (mark := item.get_closest_marker("local_link")) is not None:
        item.add_marker(pytest.mark.skip(reason=f"local daemons only: {mark.args[0]}"))
    if item.get_closest_marker("own_url") is not None:
        item.add_marker(pytest.mark.skip(reason="has addresses of its own in any run"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call":
        item.stash[test_passed] = report.passed
    return report


@dataclass(frozen=True)
class Belongings:
    """What this process holds at one moment, named so that a failure can be read."""

    processes: frozenset[psutil.Process]
    threads: frozenset[threading.Thread]
    native_threads: frozenset[int]
    descriptors: Counter[str]
    shared_memory: frozenset[str]

    @classmethod
    def now(cls) -> "Belongings":
        return cls(
            processes=frozenset(alive({*descendants(os.getpid()), *orphans()})),
            threads=frozenset(threading.enumerate()),
            native_threads=frozenset(thread.id for thread in psutil.Process().threads()),
            descriptors=Counter(owned_descriptors()),
            # Not what a test names so, which removes it itself: others run at the same time.
            shared_memory=frozenset(
                str(path)
                for path in Path("/dev/shm").glob("*")
                if not path.name.startswith("of-a-test-")
            ),
        )

    def beyond(self, before: "Belongings") -> list[str]:
        """Name what is here now and was not there ``before``."""
        python_threads = self.threads - before.threads
        native = len(self.native_threads) - len(before.native_threads)
        return [
            *(f"process {describe(process)}" for process in self.processes - before.processes),
            *(f"thread {thread!r}" for thread in python_threads),
            *([f"{native} native threads"] if native > len(python_threads) else []),
            *(f"descriptor {name}" for name in self.descriptors - before.descriptors),
            *sorted(
                name
                for name in self.shared_memory - before.shared_memory
                if not is_of_another_program(name)
            ),
        ]


def alive(pids: Iterable[int]) -> Iterator[psutil.Process]:
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended meanwhile
            yield psutil.Process(pid)


def descendants(pid: int) -> Iterator[int]:
    """Find children and their children; psutil would look at every process of the machine."""
    if not LISTS_CHILDREN:
        yield from (child.pid for child in psutil.Process(pid).children(recursive=True))
        return
    try:
        for task in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - thousands of times
            with open(f"/proc/{pid}/task/{task}/children") as file:  # noqa: PTH123
                children = [int(child) for child in file.read().split()]
            yield from children
            for child in children:
                yield from descendants(child)
    except OSError:
        return  # it ended meanwhile


def orphans() -> Iterator[int]:
    """Find processes that carry our token, those included that have lost their parent."""
    token = TOKEN.encode()
    for name in os.listdir("/proc"):  # noqa: PTH208 - thousands of times
        if name.isdecimal():
            try:
                with open(f"/proc/{name}/environ", "rb") as file:  # noqa: PTH123
                    if token in file.read():
                        yield int(name)
            except OSError:
                continue  # it ended meanwhile, or it is another user's


def is_of_another_program(shared_memory: str) -> bool:
    """Say whether a process that we did not start maps it: all programs share that folder."""
    ours = {*orphans(), os.getpid()}
    try:
        # Not by its name: glibc maps a semaphore under another one and renames it then.
        inode = f" {Path(shared_memory).stat().st_ino} "
    except OSError:
        return True  # its owner has removed it meanwhile
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int(folder.name) not in ours and inode in (folder / "maps").read_text():
                return True
        except OSError:
            continue  # it ended meanwhile, or it is another user's
    # Where its owner was killed, the tracker of that program's resources removes it at its end.
    # So it does with a folder of joblib's, which nobody maps.
    names = ("/sem.mp-", "/sem.loky-", "/joblib_memmapping_folder_")
    is_tracked = any(name in shared_memory for name in names)
    return is_tracked and any(tracks_resources(pid) for pid in others(ours))


def others(ours: Collection[int]) -> Iterator[int]:
    for name in os.listdir("/proc"):  # noqa: PTH208 - as above
        if name.isdecimal() and int(name) not in ours:
            yield int(name)


def tracks_resources(pid: int) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False  # it ended meanwhile, or it is another user's
    return b".resource_tracker" in command  # multiprocessing's, or loky's


def owned_descriptors() -> Iterator[str]:
    for entry in Path("/proc/self/fd").glob("*"):
        try:
            target = str(entry.readlink())
        except OSError:
            continue  # the descriptor of this very listing
        if target.startswith(OWNED_DESCRIPTORS):
            yield target


def describe(process: psutil.Process) -> str:
    try:
        return f"{process.pid} ({process.status()}): {' '.join(process.cmdline())}"
    except psutil.NoSuchProcess:
        return f"{process.pid} (ended just now)"


@functools.cache
def warm_up() -> None:
    """Do once what a process does only once, so that no test is blamed for it.

    NNG starts its threads and opens its epoll and eventfd descriptors at first use; numpy starts
    the threads of its BLAS; multiprocessing starts its resource tracker.
    """
    for module in ("numpy", "mirai_executor"):
        try:
            __import__(module)
        except ImportError:
            continue
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()
    multiprocessing.get_context("spawn").Lock()
    if importlib.util.find_spec("pynng") is None:
        return  # as on Python 3.15
    import pynng

    with (
        pynng.Pair0(listen="inproc://warm-up", recv_timeout=5000) as one,
        pynng.Pair0(dial="inproc://warm-up", send_timeout=5000) as other,
    ):
        other.send(b"warm")
        one.recv()


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a ``live`` test that leaves a process, thread, descriptor or shared memory behind."""
    if request.node.get_closest_marker("live") is None:
        yield
        return
    warm_up()
    before = Belongings.now()
    yield
    # The traceback of a failed test holds its executor: its leaks would say nothing.
    passed = request.node.stash.get(test_passed, False)
    after = wait_until_let_go(before) if passed else Belongings.now()
    leaks = after.beyond(before) if passed else []
    kill_all(after.processes - before.processes)
    if leaks:
        pytest.fail("left behind by this test:\n  " + "\n  ".join(leaks), pytrace=False)


def wait_until_let_go(before: Belongings) -> Belongings:
    """Return what is held once all else is let go, or ``SECONDS_TO_LET_GO`` after the test."""
    deadline = time.monotonic() + SECONDS_TO_LET_GO
    after = Belongings.now()
    while after.beyond(before) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.02)  # neither the kernel nor other processes tell when they are done
        after = Belongings.now()
    return after


def kill_all(processes: frozenset[psutil.Process]) -> None:
    for process in processes:
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(processes, timeout=SECONDS_TO_LET_GO)


@pytest.fixture
def bell(tmp_path: Path) -> Iterator["Bell"]:
    """A FIFO on which tasks report to the test."""
    from live.mischief import Bell  # which most tests have no use for

    bell = Bell(tmp_path)
    yield bell
    bell.close()


@pytest.fixture
def tally(tmp_path: Path) -> "Tally":
    """A file in which tasks count how often they ran."""
    from live.mischief import Tally

    return Tally(tmp_path)
