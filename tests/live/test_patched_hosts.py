"""Live: hosts in which a library has replaced what the standard library waits with.

As eventlet does; gevent itself is tried in ``tests/ecosystem/test_green_threads.py``.
"""

import pytest

from live.hosts import run

# What eventlet takes away, as it has no such thing that lets others run; and what it puts into
# the place of os.read and os.write, which wait also for a descriptor that does not block.
PATCHED = """
import os, select, selectors

for name in ("poll", "epoll"):
    if hasattr(select, name):
        delattr(select, name)
for name in ("EpollSelector", "PollSelector"):
    if hasattr(selectors, name):
        delattr(selectors, name)
selectors.DefaultSelector = selectors.SelectSelector

def patiently(call, reads):
    def wait_for(fd, data):
        while True:
            try:
                return call(fd, data)
            except BlockingIOError:
                select.select([fd] if reads else [], [] if reads else [fd], [])
    return wait_for

os.read, os.write = patiently(os.read, True), patiently(os.write, False)
"""
PROGRAM = """
from concurrent.futures import CancelledError
from mirai_executor import DaemonLostError, MiraiExecutor, TaskTimeoutError

def spin():
    while True:
        sum(range(1000))

def is_error_of(future, error):
    return isinstance(future.exception(), error)

with MiraiExecutor(2) as executor:
    print(list(executor.map(abs, range(-5, 0))))
    future = executor.submit(spin)
    try:
        future.result(timeout=0.1)
    except TimeoutError:
        print(future.cancel(), future.cancelled())
    limited = executor.with_options(run_timeout=0.1)
    print(is_error_of(limited.submit(spin), TaskTimeoutError))
    print(is_error_of(executor.submit(os._exit, 3), DaemonLostError))
    print(is_error_of(executor.submit(int, "x"), ValueError))
    print(len(executor.submit(bytes, 3_000_000).result()))
    print(executor.submit(len, bytes(3_000_000)).result())
print("ended", flush=True)
"""


@pytest.mark.parametrize("patched", ["before the import", "after the import"])
def test_a_host_in_which_polls_are_gone_and_reads_wait_works(patched: str) -> None:
    first = "import mirai_executor\n" if patched == "after the import" else ""
    ended = run(PROGRAM, prelude=first + PATCHED)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines() == [
        "[5, 4, 3, 2, 1]",
        "True True",
        *["True"] * 3,
        *["3000000"] * 2,
        "ended",
    ]


def test_a_daemon_that_a_task_has_patched_goes_on() -> None:
    program = f"""
PATCH = {PATCHED!r}
with MiraiExecutor(1, cleanup=True) as executor:
    executor.submit(exec, PATCH, {{}}).result()
    print(list(executor.map(abs, range(-5, 0))))
    print(executor.submit(len, bytes(3_000_000)).result())
    print(executor.submit(lambda: hasattr(__import__("select"), "poll")).result())
"""
    ended = run(program)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines() == ["[5, 4, 3, 2, 1]", "3000000", "False"]
