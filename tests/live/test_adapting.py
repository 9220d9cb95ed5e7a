"""Daemons come as there is work for them, and go when there is none."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import wait

import pytest

from elsewhere import new_url
from mirai_executor import LaunchError, MiraiExecutor, remote_config
from mirai_executor._core import scaling

SECONDS = 30.0

pytestmark = pytest.mark.once


@pytest.fixture
def executor() -> Iterator[MiraiExecutor]:
    with MiraiExecutor(url=new_url()) as made:
        yield made


def wait_for_connections(executor: MiraiExecutor, count: int) -> None:
    deadline = time.monotonic() + SECONDS
    while executor.status().connections != count:
        assert time.monotonic() < deadline, executor.status()
        time.sleep(0.01)  # nothing tells when a daemon leaves


def test_daemons_come_with_the_work_and_go_after_it(executor: MiraiExecutor) -> None:
    executor.adapt(0, 2, release_after=1.0)
    assert executor.status().connections == 0
    done, _ = wait([executor.submit(abs, -n) for n in range(20)], SECONDS)
    assert sorted(future.result() for future in done) == list(range(20))
    assert executor.info().cumulative <= 2
    wait_for_connections(executor, 0)
    assert executor.submit(abs, -5).result(SECONDS) == 5


def test_a_daemon_leaves_by_its_own_idle_time_while_it_would_be_kept(
    executor: MiraiExecutor,
) -> None:
    executor.adapt(0, 1, release_after=3600.0, idle_time=0.2)
    assert executor.submit(abs, -5).result(SECONDS) == 5
    wait_for_connections(executor, 0)


def test_the_minimum_stays(executor: MiraiExecutor) -> None:
    executor.adapt(1, 2, release_after=0.5)
    executor.wait_ready(SECONDS, count=1)
    executor.launch_local(1)
    executor.wait_ready(SECONDS, count=2)
    wait_for_connections(executor, 1)


def test_a_launcher_that_refuses_is_not_asked_at_once_and_at_last_the_tasks_fail(
    executor: MiraiExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scaling, "_PATIENCE", 2.0)
    executor.adapt(0, 2, remote=remote_config("sh", ["-c", "echo no more >&2; exit 3 #", "."]))
    future = executor.submit(abs, -1)
    with pytest.raises(LaunchError, match="no more") as caught:
        future.result(SECONDS)
    assert caught.value.exitcode == 3
    executor.adapt(0, 1)
    assert executor.submit(abs, -5).result(SECONDS) == 5


@pytest.mark.local_link("is about an executor without a url")
def test_an_executor_without_a_url_adapts_by_itself() -> None:
    with MiraiExecutor(2) as local, pytest.raises(RuntimeError, match="max_workers"):
        local.adapt(0, 2)


def test_an_option_that_is_none_is_refused_before_anything_is_asked_for(
    executor: MiraiExecutor,
) -> None:
    with pytest.raises(TypeError, match="nap_time"):
        executor.adapt(0, 2, nap_time=3)  # type: ignore[call-arg]  # that is asked


def test_a_limit_of_threads_puts_off_a_request_and_breaks_nothing(
    executor: MiraiExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, refused = threading.Thread.start, list[threading.Thread]()

    def refuse_once(thread: threading.Thread) -> None:
        if thread.name == "mirai-launch" and not refused:
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        start(thread)

    executor.adapt(0, 1)
    monkeypatch.setattr(threading.Thread, "start", refuse_once)
    assert executor.submit(abs, -5).result(SECONDS) == 5
    assert refused
