"""Daemons on a second host, and all that may happen to the cable in between."""

import time
import warnings
from collections.abc import Iterator

import psutil
import pytest

from live.afar import hold, listening, pids, python_words
from live.mischief import SOON, Bell
from mirai_executor import DaemonLostError, MiraiExecutor, remote_config
from mirai_executor.launchers import RemoteConfig
from services.network import Cable, second_host

SECONDS = 30.0
BEAT = 0.5  # seconds: a daemon that is silent for 2 is lost, a host for 6


@pytest.fixture
def cable() -> Iterator[Cable]:
    from services.conftest import require

    require("iproute2", "ip")
    with second_host() as made:
        yield made


def over_there(cable: Cable) -> RemoteConfig:
    return remote_config(
        "ip", ["netns", "exec", cable.far, "."], python=python_words(), stays=True
    )


def doze(seconds: float) -> str:
    time.sleep(seconds)
    return "awake"


@pytest.fixture
def executor(cable: Cable) -> Iterator[MiraiExecutor]:
    with listening(f"tls+tcp://{cable.address}:0", heartbeat=BEAT) as made:
        made.launch_remote(1, over_there(cable))
        made.wait_ready(SECONDS, count=1)
        yield made
        made.shutdown(cancel_futures=True)  # nobody waits for daemons that a failed test has lost


def test_tasks_run_on_the_second_host(executor: MiraiExecutor) -> None:
    assert list(executor.map(abs, range(-200, 0))) == list(range(200, 0, -1))


def test_a_cable_that_is_cut_for_a_moment_costs_nothing(cable: Cable) -> None:
    with listening(f"tls+tcp://{cable.address}:0", heartbeat=2.0) as executor:
        executor.launch_remote(1, over_there(cable))
        executor.wait_ready(SECONDS, count=1)
        future = executor.submit(doze, 1.0)
        cable.cut()
        assert executor.submit(abs, -1).running() is False
        time.sleep(2.0)  # that long the cable is cut
        cable.mend()
        assert future.result(SECONDS) == "awake"
        assert executor.info().cumulative == 1


def test_a_cable_that_stays_cut_costs_the_task_and_those_that_wait_go_on_elsewhere(
    executor: MiraiExecutor, cable: Cable, bell: Bell
) -> None:
    future = hold(executor, bell)
    waiting = executor.submit(abs, -3)
    cable.cut()
    begin = time.monotonic()
    with pytest.raises(DaemonLostError, match="lost its connection"):
        future.result(SECONDS)
    assert time.monotonic() - begin < SOON
    assert not waiting.done()
    cable.mend()
    executor.launch_remote(1, over_there(cable))
    assert waiting.result(SECONDS) == 3


def test_a_daemon_that_comes_back_after_ten_seconds_is_a_new_one(cable: Cable, bell: Bell) -> None:
    with listening(f"tls+tcp://{cable.address}:0", heartbeat=BEAT) as executor:
        executor.launch_remote(1, over_there(cable), autoexit="never", retry=SECONDS)
        executor.wait_ready(SECONDS, count=1)
        lost, waiting = hold(executor, bell), executor.submit(abs, -3)
        cable.cut()
        cut_at = time.monotonic()
        with pytest.raises(DaemonLostError):
            lost.result(SECONDS)
        time.sleep(cut_at + 10.0 - time.monotonic())  # that long the cable is cut
        cable.mend()
        assert waiting.result(SECONDS) == 3
        assert executor.info().cumulative == 2
        assert isinstance(lost.exception(), DaemonLostError)
        children = psutil.Process().children(recursive=True)
        stays = [child for child in children if executor.url in child.cmdline()]
    for child in stays:
        child.terminate()  # else it would wait for the next host
    assert psutil.wait_procs(stays, timeout=SECONDS)[1] == []


def test_a_cable_that_is_taken_away_ends_the_daemons_of_the_other_side(
    executor: MiraiExecutor, cable: Cable, bell: Bell
) -> None:
    future = hold(executor, bell)
    cable.remove()
    with pytest.raises(DaemonLostError):
        future.result(SECONDS)
    # That the daemon over there ends by itself, its task with it, is what the fixture looks at.


def test_version_6_works_as_well(cable: Cable) -> None:
    with listening(f"tls+tcp://[{cable.address_6}]:0") as executor:
        executor.launch_remote(2, over_there(cable))
        assert len(pids(executor, 2)) == 2


def test_daemons_find_the_address_that_they_can_reach(cable: Cable) -> None:
    urls = ["tcp://127.0.0.1:0", f"tcp://{cable.address}:0"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is not encrypted
        executor = MiraiExecutor(url=urls)
    with executor:
        executor.launch_remote(1, over_there(cable))
        assert executor.submit(abs, -3).result(SECONDS) == 3
