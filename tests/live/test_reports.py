"""What a task reports while it runs reaches its future, and holds nobody up."""

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from mirai_executor import MiraiExecutor, PayloadError, Progress, progress, report

PLACES = ["here", "elsewhere"]


class Listener:
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.has_come = threading.Event()

    def __call__(self, said: object) -> None:
        self.heard.append(said)
        self.has_come.set()


def say_and_wait(fifo: Path) -> str:
    report({"step": 1, "what": "x" * 10_000})
    for done in range(3):
        progress(done, 2, "steps")
    fifo.read_bytes()
    return "done"


def test_a_report_is_heard_while_its_task_runs_and_the_last_progress_before_its_end(
    executor: MiraiExecutor, tmp_path: Path
) -> None:
    os.mkfifo(fifo := tmp_path / "fifo")
    listener = Listener()
    future = executor.submit(say_and_wait, fifo)
    future.on_report(listener)
    assert listener.has_come.wait(60)
    assert not future.done()
    fifo.write_bytes(b"")
    at_the_end: list[Any] = []
    future.add_done_callback(lambda _: at_the_end.extend(listener.heard))
    assert future.result() == "done"
    executor.submit(abs, -1).result()  # so that the callback has been called
    assert at_the_end == [
        {"step": 1, "what": "x" * 10_000},
        Progress(0, 2, "steps"),
        Progress(2, 2, "steps"),
    ]


def flood(fifo: Path) -> None:
    for _ in range(3000):
        report("x" * 1000)
    fifo.write_bytes(b"over")


def test_a_host_that_is_slow_to_hear_holds_no_task_up(
    executor: MiraiExecutor, tmp_path: Path
) -> None:
    os.mkfifo(fifo := tmp_path / "fifo")
    is_over = threading.Event()
    future = executor.with_options(on_report=lambda _: is_over.wait(60)).submit(flood, fifo)
    assert fifo.read_bytes() == b"over"  # while the host hears the first one
    is_over.set()
    future.result()


def report_what_cannot_be() -> None:
    report(threading.Lock())


def test_what_cannot_be_pickled_is_an_error_of_the_task(executor: MiraiExecutor) -> None:
    with pytest.raises((PayloadError, TypeError), match="lock"):
        executor.submit(report_what_cannot_be).result()


def report_from_elsewhere() -> None:
    thread = threading.Thread(target=report, args=["thread"])
    thread.start()
    thread.join()
    if (child := os.fork()) == 0:
        report("child")
        os._exit(0)
    os.waitpid(child, 0)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_threads_of_a_task_may_report_and_its_children_say_nothing(
    executor: MiraiExecutor,
) -> None:
    listener = Listener()
    executor.with_options(on_report=listener).submit(report_from_elsewhere).result()
    assert listener.heard == ["thread"]


def say_until_stopped() -> None:
    report("begun")
    try:
        threading.Event().wait()
    finally:
        report("stopped")


def test_nobody_hears_what_a_cancelled_task_says(executor: MiraiExecutor) -> None:
    listener = Listener()
    future = executor.with_options(on_report=listener).submit(say_until_stopped)
    assert listener.has_come.wait(60)
    future.cancel()
    executor.submit(abs, -1).result()  # on the same daemon: what it had to say has come
    assert listener.heard == ["begun"]


def say_its_own(fifo: Path | None) -> None:
    if fifo is not None:
        progress(1, 2, str(fifo))
        report(fifo)
        fifo.read_bytes()


def test_elements_of_a_map_that_share_tasks_are_heard_each_by_itself(
    executor: MiraiExecutor, tmp_path: Path
) -> None:
    os.mkfifo(fifo := tmp_path / "fifo")
    listeners = [Listener() for _ in range(80)]
    elements = executor.mirai_map([None] * 79 + [fifo], say_its_own)
    for future, listener in zip(elements.futures, listeners, strict=True):
        future.on_report(listener)
    assert listeners[79].has_come.wait(60)
    fifo.write_bytes(b"")
    elements.collect()
    assert listeners[79].heard == [Progress(1, 2, str(fifo)), fifo]
    assert not any(listener.heard for listener in listeners[:79])
