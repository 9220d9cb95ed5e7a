"""Daemons as jobs of a real HTCondor on this machine."""

import sys
import textwrap
from collections.abc import Iterator

import pytest

from services import condor

# How each host begins; it runs as the user of the pool, who has no other files of the tests.
BEGIN = f"""
import os, subprocess, sys, time
from mirai_executor import MiraiExecutor, cluster_config

def jobs(*options, **more):
    python = ["/usr/bin/env", "PYTHONPATH=" + os.environ["PYTHONPATH"], {sys.executable!r}]
    return cluster_config("condor_submit", options, python=python, **more)

def queue():
    words = ["condor_q", "-af:j", "JobStatus"]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()

def wait_until(is_so):
    deadline = time.monotonic() + 40
    while not is_so():
        assert time.monotonic() < deadline, queue()
        time.sleep(0.2)  # nothing tells what is in a queue

URL = "tls+tcp://127.0.0.1:0"
"""


@pytest.fixture(scope="module")
def pool() -> Iterator[condor.Pool]:
    from services.conftest import require

    require("condor, which Debian has from 13 on", "condor_master", "condor_submit", "setpriv")
    if not condor.can_run_python():
        pytest.skip(f"{condor.USER}, as whom HTCondor runs jobs here, cannot run {sys.executable}")
    with condor.serve() as made:
        yield made


def said_by(pool: condor.Pool, code: str) -> list[str]:
    """Run a host as the user of the pool, and return the lines that it prints."""
    return pool.run(sys.executable, "-c", BEGIN + textwrap.dedent(code)).splitlines()


def test_one_submission_brings_all_daemons_and_each_knows_its_number(pool: condor.Pool) -> None:
    code = """
        launcher = jobs("output = {name}.out", prologue="export JOB={number}")
        with MiraiExecutor(3, url=URL, remote=launcher) as executor:
            executor.wait_ready(40)
            print(*sorted(it.result() for it in executor.everywhere(os.getenv, "JOB")))
            print(len({job.partition(".")[0] for job in queue()[::2]}), len(queue()[::2]))
            print(*executor.map(abs, range(-3, 0)))
        wait_until(lambda: not queue())
        print(*sorted(it.rpartition("-")[2] for it in os.listdir() if it.endswith(".out")))
    """
    assert said_by(pool, code) == ["1 2 3", "1 3", "3 2 1", "1.out 2.out 3.out"]


def test_no_more_jobs_than_the_maximum_wait_and_exactly_those_are_cancelled(
    pool: condor.Pool,
) -> None:
    code = """
        launcher = jobs("request_memory = 1000G")  # no machine has that
        mine = cluster_config("condor_submit", "request_memory = 1000G", on_exit="leave")
        with MiraiExecutor(1, url=URL, remote=mine) as other:
            other._finish_launch()
        (left, _) = queue()
        with MiraiExecutor(url=URL) as executor:
            executor.adapt(0, 2, remote=launcher, patience=0.01)
            futures = [executor.submit(abs, -1) for _ in range(5)]
            wait_until(lambda: len(queue()) > 2)
            loop = executor._host._loop
            asked = []
            unexpected = loop._elsewhere._requests.unexpected
            loop._elsewhere._requests.unexpected = lambda n: asked.append(n) or unexpected(n)
            wait_until(lambda: len(asked) > 2)  # whether these jobs are there still
            print(*queue()[3::2])
            executor.shutdown(cancel_futures=True)
        wait_until(lambda: len(queue()) == 2)
        print(queue()[0] == left)
        subprocess.run(["condor_rm", left], check=True, stdout=subprocess.DEVNULL)
        print(os.listdir(os.path.expanduser("~/.mirai-executor")))
    """
    assert said_by(pool, code) == ["1 1", "True", "[]"]


@pytest.mark.parametrize("leaves_at_once", [True, False])
def test_a_job_that_is_replaced_does_not_run_again(
    pool: condor.Pool, *, leaves_at_once: bool
) -> None:
    code = f"""
        folder = os.path.expanduser("~/.mirai-executor")
        with MiraiExecutor(1, url=URL, remote=jobs()) as executor:
            executor.wait_ready(40)
            wait_until(lambda: not os.listdir(folder))
            job, state = queue()
            held = executor.submit(time.sleep, 60)
            vacate = ["condor_vacate_job", *["-fast"] * {leaves_at_once}, job]
            subprocess.run(vacate, check=True, stdout=subprocess.DEVNULL)
            print(type(held.exception(40)).__name__)
            print(executor.submit(abs, -1).result(40))
            wait_until(lambda: job not in queue())  # neither again, nor held for its file
            print(executor.info().cumulative, executor.info().connections)
    """
    assert said_by(pool, code) == ["DaemonLostError", "1", "2 1"]
