"""Jobs of APScheduler that crash or take too long, on daemons."""

import logging
import os
import queue
import time
from collections.abc import Iterator
from typing import Any

import pytest
from apscheduler.events import EVENT_JOB_EXECUTED
from apscheduler.executors.pool import BasePoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from mirai_executor import DaemonLostError, MiraiExecutor, TaskTimeoutError

LIMIT = 4.0  # seconds; enough to import APScheduler on a busy machine


class OnDaemons(BasePoolExecutor):  # type: ignore[misc]  # without types
    def __init__(self, executor: Any) -> None:
        super().__init__(executor)


@pytest.fixture
def scheduler() -> Iterator[BackgroundScheduler]:
    with MiraiExecutor(1) as executor:
        executor.wait_ready()
        limited = OnDaemons(executor.with_options(run_timeout=LIMIT))
        scheduler = BackgroundScheduler(executors={"default": limited}, timezone="UTC")
        scheduler.start()
        yield scheduler
        scheduler.shutdown()
        assert executor.submit(abs, -1).result() == 1, "a view leaves its executor open"


def add(scheduler: BackgroundScheduler, fn: Any, *args: object) -> None:
    """Add a job that runs once, however late."""
    scheduler.add_job(fn, args=args, misfire_grace_time=60)


def test_what_befalls_a_job_is_logged_and_the_next_one_runs(
    scheduler: BackgroundScheduler, caplog: pytest.LogCaptureFixture
) -> None:
    ended: queue.Queue[Any] = queue.Queue()
    scheduler.add_listener(ended.put, EVENT_JOB_EXECUTED)
    with caplog.at_level(logging.ERROR, "apscheduler.executors.default"):
        add(scheduler, os._exit, 3)
        add(scheduler, time.sleep, 3600)
        add(scheduler, abs, -4)
        assert ended.get(timeout=50).retval == 4
    errors = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert sorted(type(error).__name__ for error in errors) == sorted(
        kind.__name__ for kind in (DaemonLostError, TaskTimeoutError)
    )
