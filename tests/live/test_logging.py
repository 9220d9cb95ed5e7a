"""What tasks log reaches the loggers of the host: once, soon, and in nobody's way."""

import contextlib
import io
import logging
import logging.handlers
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mirai_executor import MiraiExecutor


class Collector(logging.Handler):
    """Keeps the records that the host handles of one logger."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.has_come = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self.has_come.set()

    def messages(self) -> list[str]:
        return [record.getMessage() for record in self.records]


@pytest.fixture
def collector() -> Iterator[Collector]:
    """The handler of ``job``, whose level is INFO."""
    job, collector = logging.getLogger("job"), Collector()
    job.addHandler(collector)
    job.setLevel(logging.INFO)
    yield collector
    job.setLevel(logging.NOTSET)
    job.removeHandler(collector)


def running(place: str = "here", **options: Any) -> MiraiExecutor:
    """Return an executor with one daemon, of this machine or as if of another."""
    if place == "here":
        return MiraiExecutor(1, **options)
    executor = MiraiExecutor(url="tcp://127.0.0.1:0", **options)
    executor.launch_local(1)
    return executor


def log_all_kinds() -> None:
    job = logging.getLogger("job")
    job.debug("below the level that the host has set")
    job.info("%d of %s", 1, "two", extra={"size": 3, "lock": threading.Lock()})
    try:
        int("no number")
    except ValueError:
        job.exception("x" * 10_000)


@pytest.mark.parametrize(
    "place", [pytest.param("here", marks=pytest.mark.local_link("is about one")), "elsewhere"]
)
def test_records_are_handled_before_their_task_is_done(place: str, collector: Collector) -> None:
    with running(place) as executor:
        future = executor.submit(log_all_kinds)
        future.result()
        first, second = collector.records
        pid = executor.submit(os.getpid).result()
    assert (first.levelname, first.getMessage()) == ("INFO", "1 of two")
    fields: dict[str, Any] = vars(first)
    assert (fields["mirai_daemon"], fields["mirai_task"]) == ("MiraiDaemon-1", future.id)
    assert (first.process, first.processName) == (pid, "MiraiDaemon-1")
    assert first.funcName == "log_all_kinds"
    assert fields["size"] == 3
    assert "lock" in fields["lock"]
    assert second.getMessage() == "x" * 10_000
    text = logging.Formatter().format(second)
    assert text.count("ValueError: invalid literal") == 1


def test_a_record_comes_while_its_task_still_runs(collector: Collector) -> None:
    def work() -> None:
        logging.getLogger("job").info("half way")
        time.sleep(3600)

    with running() as executor:
        future = executor.submit(work)
        assert collector.has_come.wait(60)
        assert future.cancel()
    assert collector.messages() == ["half way"]


@pytest.mark.parametrize(
    ("chosen", "handlers", "expected"),
    [
        (None, [], False),
        (None, [logging.NullHandler()], False),
        (None, [logging.StreamHandler(io.StringIO())], True),
        (False, [logging.StreamHandler(io.StringIO())], False),
        (True, [], True),
    ],
)
def test_the_default_is_whether_the_host_has_configured_logging(
    chosen: bool | None,
    handlers: list[logging.Handler],
    expected: bool,
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.root, "handlers", handlers)
    with running(logging=chosen) as executor:
        executor.submit(log_all_kinds).result()
    assert bool(collector.records) is expected


def test_a_daemon_whose_tasks_do_not_log_does_not_import_logging() -> None:
    with running(logging=True) as executor:
        loaded = executor.submit(eval, "'logging' in __import__('sys').modules").result()
    assert loaded is False


def test_what_is_neither_a_choice_nor_the_default_is_refused() -> None:
    with pytest.raises(TypeError, match="logging must be True, False or None, not 'INFO'"):
        MiraiExecutor(1, logging="INFO")  # type: ignore[arg-type] # on purpose


def configure() -> None:
    logging.basicConfig(format="own: %(message)s", stream=io.StringIO())


def add_handler() -> None:
    logging.root.addHandler(logging.StreamHandler(io.StringIO()))


def add_queue() -> None:
    class Queue(logging.handlers.QueueHandler):
        stream = io.StringIO()

        def enqueue(self, record: logging.LogRecord) -> None:
            self.stream.write(f"{record.message}\n")

    logging.getLogger("job").addHandler(Queue(None))  # type: ignore[arg-type]  # not used


@pytest.mark.parametrize("cleanup", [False, True])
@pytest.mark.parametrize("initializer", [configure, add_handler, add_queue])
def test_an_initializer_that_installs_a_handler_has_all_records(
    initializer: Callable[[], None], cleanup: bool, collector: Collector
) -> None:
    def work() -> str:
        logging.getLogger("job").info("hello")
        handler: Any = (logging.root.handlers + logging.getLogger("job").handlers)[-1]
        text: str = handler.stream.getvalue()
        return text

    with running(initializer=initializer, cleanup=cleanup) as executor:
        assert executor.submit(work).result().endswith("hello\n")
    assert collector.records == []


def test_cleanup_takes_back_what_a_task_has_configured_and_keeps_the_way_to_the_host(
    collector: Collector,
) -> None:
    with running(cleanup=True) as executor:
        executor.submit(configure).result()
        executor.submit(log_all_kinds).result()
    assert len(collector.records) == 2


def test_warnings_are_records_if_the_host_captures_its_own(collector: Collector) -> None:
    their = logging.getLogger("py.warnings")
    their.addHandler(collector)
    logging.captureWarnings(True)
    try:
        with running() as executor:
            executor.submit(warnings.warn, "mind the gap").result()
    finally:
        logging.captureWarnings(False)
        their.removeHandler(collector)
    assert ["UserWarning: mind the gap" in text for text in collector.messages()] == [True]


def test_records_of_threads_and_initializers_arrive_and_those_of_children_are_printed(
    collector: Collector, capfd: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        job = logging.getLogger("job")
        thread = threading.Thread(target=job.info, args=("thread",))
        thread.start()
        thread.join()
        if not (child := os.fork()):
            job.warning("child")
            os._exit(0)
        os.waitpid(child, 0)
        job.info("task")

    with running(initializer=lambda: logging.getLogger("job").info("hello")) as executor:
        executor.submit(work).result()
    assert collector.messages() == ["hello", "thread", "task"]
    assert capfd.readouterr().err == "child\n"


def test_a_signal_that_strikes_while_a_task_logs_breaks_no_frame(collector: Collector) -> None:
    class StruckError(BaseException):
        pass

    def strike(*_: object) -> None:
        raise StruckError

    def work() -> int:
        signal.signal(signal.SIGALRM, strike)
        struck = 0
        while struck < 60:
            with contextlib.suppress(StruckError):
                try:
                    signal.setitimer(signal.ITIMER_REAL, 20e-6 + struck * 5e-6)
                    for _ in range(100):
                        logging.getLogger("job").info("a")
                finally:
                    struck += 1
        return struck

    with running() as executor:
        assert executor.submit(work).result() == 60
        executor.submit(logging.getLogger, "job").result()
    assert set(collector.messages()) == {"a"}


def test_a_handler_that_waits_for_a_task_or_for_ever_holds_up_no_future(
    collector: Collector,
) -> None:
    class Waiting(logging.Handler):
        def emit(self, _: logging.LogRecord) -> None:
            going_on.wait()

    going_on = threading.Event()
    waiting = Waiting()
    logging.getLogger("job").addHandler(waiting)
    try:
        with running() as executor:
            for _ in range(3):
                executor.submit(log_all_kinds).result()
            going_on.set()
    finally:
        logging.getLogger("job").removeHandler(waiting)
    assert len(collector.records) == 6  # delivered before the end of the shutdown
