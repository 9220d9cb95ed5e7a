"""What a keeper does about where it was started: as process 1, or for a reader that stalls."""

import os
import subprocess
import sys

import pytest

from mirai_executor._waiting import Reactor
from mirai_executor.keeper import _output
from mirai_executor.keeper._output import Output

FIRST = """
import os, signal, sys
from mirai_executor.keeper import leave_first_place

first = os.getpid()
libc = __import__("ctypes").CDLL(None)
assert libc.prctl(36, 1) == 0  # PR_SET_CHILD_SUBREAPER: orphans come here, as to process 1
leave_first_place(first)
assert os.getppid() == first
if os.fork() == 0:
    if os.fork() == 0:
        os.close(1)
        os._exit(0)  # an orphan, for process 1 to collect
    os._exit(0)
os.wait()
{end}
"""


@pytest.mark.skipif(sys.platform != "linux", reason="process 1 is that of a container of Linux")
@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("sys.exit(13)", 13),
        ("os.kill(os.getpid(), 9)", 137),
        (
            "signal.pthread_sigmask(signal.SIG_BLOCK, [15]); os.kill(first, 15); "
            "signal.sigwait([15]); sys.exit(3)",
            3,
        ),
    ],
)
def test_process_1_passes_signals_on_collects_orphans_and_ends_as_the_keeper(
    end: str, code: int
) -> None:
    program = [sys.executable, "-c", FIRST.format(end=end)]
    done = subprocess.run(program, timeout=60, check=False, capture_output=True)
    assert (done.returncode, done.stderr) == (code, b"")


def test_another_process_stays_what_it_is() -> None:
    code = "from mirai_executor.keeper import leave_first_place; leave_first_place(); print(6)"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, timeout=60
    )
    assert done.stdout == b"6\n"


def test_output_is_dropped_while_its_reader_has_stalled_and_no_task_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reads, writes = os.pipe()
    monkeypatch.setattr(_output, "_STDOUT", writes)
    reactor = Reactor()
    output = Output(reactor)
    assert output.fd is not None
    size = 1 << 20  # far more than all the pipes between hold
    child = subprocess.Popen(
        [sys.executable, "-c", f"import os; os.write(1, b'x' * {size}); os.write(1, b'y')"],
        stdout=output.fd,
    )
    output.hand_over()
    reactor.call_in(0.0, lambda: _stop_at_end(reactor, child))
    reactor.run()  # nobody reads
    assert child.wait() == 0
    first = os.read(reads, size)
    assert 0 < len(first) < size
    output.close()
    reactor.close()
    os.close(reads)
    os.close(writes)


def _stop_at_end(reactor: Reactor, child: "subprocess.Popen[bytes]") -> None:
    if child.poll() is None:
        reactor.call_in(0.05, lambda: _stop_at_end(reactor, child))
    else:
        reactor.stop()


def test_a_keeper_learns_how_its_daemons_end_though_it_was_started_to_ignore_that() -> None:
    code = """
import signal, sys
from mirai_executor.credentials import DaemonCredentials, Secret
from mirai_executor.keeper import KeeperOptions, keep
from mirai_executor.urls import Url

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
url = Url.parse("tcp://127.0.0.1:9")
assert keep(KeeperOptions(urls=(url,), retry=0.0), DaemonCredentials(Secret(bytes(32)))) == 10
assert signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)
