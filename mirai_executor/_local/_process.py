"""One daemon process of this machine: what it shares with who has started it, and its end.

A task of it that was asked to stop is asked again: a signal that comes between Python's last look
for signals and a system call that blocks is not noticed before that call returns, perhaps never.
Measured: twice in 18,000 cancels of a task that waits for a lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys
import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Generic, TypeAlias, TypeVar

from mirai_executor._core import TaskId
from mirai_executor._nameless import create_pipe, occupy_streams
from mirai_executor._place import oom_kills
from mirai_executor._shared import STOP_SIGNAL
from mirai_executor._transport import Link, Pipes
from mirai_executor._waiting import OneShotEvent, Reactor, Timer

from ._ends import has_ended, take_terminal_back, watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mirai_executor._arena import LateExchange

    from ._launcher import Forked
    from ._output import OutputRelay
    from ._relay import Relay, RelayedStream
    from ._spawner import Process, Spawner, StandardPipes

# Bytes in a pipe of the link. While the host's other threads hold the GIL, a daemon lives on what
# waits there: 10 tasks with 100 kB. Linux grants a user 64 MiB of pipes, and then makes others
# tiny, also those of other programs; so only the first daemons get so much.
_WIDE, _MOST_WIDE = 1 << 20, 8
_CAPACITY = 1 << 18
_wide: weakref.WeakSet[Pipes] = weakref.WeakSet()


# Returns an exchange with a new daemon and the descriptor that the daemon inherits; or None. The
# daemon is known by the number of the pipe that it writes to.
OpenExchange: TypeAlias = "Callable[[int], tuple[LateExchange, int] | None]"


class DaemonProcess:
    """A daemon process of this machine.

    Args:
        spawner: Starts the process.
        relay: Takes over its standard error.
        open_exchange: Lets it share memory with this process; None where it shares none.

    Attributes:
        link: Carries its frames.
        exchange: Shares memory with it; None where nothing can.
        is_dead: It has ended; what it had sent may still come.
        link_is_closed: Nothing more will come.
        has_greeted: Before that, it can have sent nothing that counts.
        dismissed: It was told to leave.
        ended: Comes when its exit status has been collected.
        is_relayed: This process passes on what it prints.
        command: What has started it.
        end_fd: A descriptor that is readable once it has ended; -1 where nothing can tell.

    Raises:
        LaunchError: It could not be started; nothing is left behind.
        ServerLostError: The fork server is gone: without it, the daemon can perhaps be started.
    """

    command: tuple[str, ...]
    exchange: LateExchange | None
    is_relayed = False
    has_greeted: bool
    is_dead: bool
    link: Link
    link_is_closed: bool
    last_element = 0  # of a chunk, that it had begun when it ended

    def __init__(
        self, spawner: Spawner, relay: Relay, open_exchange: OpenExchange | None = None
    ) -> None:
        occupy_streams()  # once more: the program may have closed them meanwhile
        self.is_dead = self.link_is_closed = self.has_greeted = False
        self.dismissed: bool = False
        self.ended = OneShotEvent()
        self._ends_badly = False
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            here, link_fds = _open_link(ours, theirs)
            lifeline_fd = spawner.lifeline.tie()
            theirs.callback(os.close, lifeline_fd)
            self._pages = spawner.pages
            self.page, self._tickets, page_fd = self._pages.create()
            ours.callback(self._pages.release, self.page)
            theirs.callback(os.close, page_fd)
            self.exchange, channel_fds = _exchange(open_exchange, here, ours, theirs)
            if self.exchange is not None:
                channel_fds = (*channel_fds, *_tracker(theirs))
            streams = spawner.streams()
            for fd in streams.ends(0):
                ours.callback(os.close, fd)
            for fd in streams.ends(1):
                theirs.callback(os.close, fd)
            fds = (*link_fds, lifeline_fd, page_fd, *channel_fds)
            self._start(spawner, fds, streams, ours)
            self.link = Link(here, blocking=False)
            ours.pop_all()
        self.command = tuple(map(str, self.process.args))  # type: ignore[arg-type]  # ours is a sequence of strings
        self._relay, self._stderr = relay, relay.add(streams.stderr[0], self.pid)
        self._printing = _add(spawner.output, streams.stdout[0], self.pid)
        self.is_relayed = self._printing is not None

    def _start(
        self,
        spawner: Spawner,
        fds: Sequence[int],
        streams: StandardPipes,
        ours: contextlib.ExitStack,
    ) -> None:
        self._is_reaped = False
        self.process: Process = spawner.start(fds, streams)
        self._oom_kills = oom_kills()  # while it comes into being
        ours.callback(spawner.confirm_start, self.process)  # or others would wait for a server
        ours.callback(self.reap)
        self.end_fd = watch(self.process)
        if self.end_fd >= 0:
            ours.callback(os.close, self.end_fd)

    @property
    def pid(self) -> int:
        """The process id, which is also that of its process group."""
        return self.process.pid

    def issue(self, tasks: Sequence[TaskId], without: Collection[int] = ()) -> None:
        """Let the daemon begin the tasks of the next frame, but for some of them."""
        self._tickets.issue(tasks, without)

    @property
    def exitcode(self) -> int | None:
        """How it has ended, as ``subprocess`` says it; None while it lives."""
        return self.process.returncode

    @property
    def has_run_out_of_memory(self) -> bool:
        """Whether it seems that the kernel has ended it, since its control group lacked memory."""
        return self.exitcode == -signal.SIGKILL and oom_kills() > self._oom_kills

    def has_ended(self) -> bool:
        """Tell whether it has ended; its number stays its own."""
        return has_ended(self.process)

    def resend_stop(self) -> None:
        """Have it look once more at what has to stop, and send the results that it has in hand."""
        self._signal(os.kill, STOP_SIGNAL)

    def take_back(self) -> tuple[TaskId, ...]:
        """Return the tasks that it has not begun, and never will."""
        return tuple(TaskId(task) for task in self._tickets.take_back())

    def interrupt(self, task: TaskId) -> None:
        """Ask the daemon to stop this task, and no other."""
        self._ends_badly = True
        self.page.stop(task)
        self.resend_stop()

    def kill(self, signum: int = signal.SIGKILL) -> None:
        """End the daemon, and all that its tasks have started."""
        self._ends_badly = True
        self._signal(end_group, signum)

    def _signal(self, send: Callable[[int, int], None], signum: int) -> None:
        if self.process.returncode is None and not self._is_reaped:  # the number is still its own
            with contextlib.suppress(ProcessLookupError, PermissionError):
                send(self.pid, signum)

    def replace(self, process: Forked) -> None:
        """Take another process for the daemon's: the one that was started has forked it.

        Raises:
            OSError: This process has no descriptor free; the daemon has none to be watched by.
        """
        self.process = process
        self._stderr.pid = process.pid
        if self._printing is not None:
            self._printing[1].pid = process.pid
        os.close(self.end_fd)
        self.end_fd = -1
        self.end_fd = os.pidfd_open(self.pid)  # without them, nothing is forked

    def reap(self) -> None:
        """Collect the exit status of a daemon that has ended.

        What its tasks have left running ends with it, unless it was dismissed and none of them
        had been stopped: a worker of ProcessPoolExecutor leaves that alone, too.
        """
        if self._ends_badly or not self.dismissed:
            self.kill()
            take_terminal_back(self.pid)
        self.process.wait()
        self._is_reaped = True
        self.ended.come()

    def close(self) -> str:
        """Let go of everything, and return the last lines that its last task led to on stderr."""
        begun, self.last_element = self.page.begun[0], self.page.element[0]
        self.link.close()
        self._pages.release(self.page)
        if self.exchange is not None:
            self.exchange.close()
        if self.end_fd >= 0:
            os.close(self.end_fd)
        if self._printing is not None:
            relay, stream = self._printing
            relay.finish(stream)
        return self._relay.finish(self._stderr, begun)

    def drain_output(self) -> None:
        """Wait a little until what it has printed is passed on."""
        if self._printing is not None:
            relay, stream = self._printing
            relay.drain(stream)

    def forget(self) -> None:
        """In a forked child: let go of what would keep the daemon from noticing its host's end."""
        if self.exchange is not None:
            self.exchange.forget()
        self.process.returncode = 0  # it is no child of this process: nothing to wait for


def _open_link(
    ours: contextlib.ExitStack, theirs: contextlib.ExitStack
) -> tuple[Pipes, tuple[int, int]]:
    """Return this end of two pipes, and the descriptors of the other one."""
    their_reads, writes, spare = create_pipe()
    theirs.callback(os.close, their_reads)
    with contextlib.ExitStack() as kept:
        for fd in {writes, spare}:
            kept.callback(os.close, fd)
        reads, their_writes = os.pipe()
        kept.pop_all()
    theirs.callback(os.close, their_writes)
    here = Pipes(reads, writes, spare)
    ours.callback(here.close)
    capacity = _CAPACITY
    if len(_wide) < _MOST_WIDE:
        _wide.add(here)
        capacity = _WIDE
    for fd in (reads, writes):
        # Linux only; or the user's quota of pipe memory is used up.
        with contextlib.suppress(AttributeError, OSError):
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, capacity)
    return here, (their_reads, their_writes)


def _add(
    output: OutputRelay | None, stdout: int | None, pid: int
) -> tuple[OutputRelay, RelayedStream] | None:
    """Have what a daemon prints passed on, if it has a pipe for that."""
    if output is None or stdout is None:
        return None
    return output, output.add(stdout, pid)


def _exchange(
    open_exchange: OpenExchange | None,
    here: Pipes,
    ours: contextlib.ExitStack,
    theirs: contextlib.ExitStack,
) -> tuple[LateExchange | None, Sequence[int]]:
    if open_exchange is None:
        return None, ()
    if (made := open_exchange(os.fstat(here.fileno()).st_ino)) is None:
        return None, ()
    exchange, fd = made
    ours.callback(exchange.close)
    theirs.callback(os.close, fd)
    return exchange, (fd,)


def _tracker(theirs: contextlib.ExitStack) -> Iterator[int]:
    """Yield a descriptor of the tracker of multiprocessing's resources, if the program has one.

    It is started if need be, as multiprocessing does for its own children: but it costs a process,
    so not for a program that has imported nothing of which it would hear.
    """
    if (module := sys.modules.get("multiprocessing.resource_tracker")) is None:
        return
    # There may be no process or descriptor left, or another thread is importing it.
    with contextlib.suppress(OSError, RuntimeError, AttributeError):
        fd = os.dup(module.getfd())
        theirs.callback(os.close, fd)
        yield fd


def end_group(pid: int, signum: int) -> None:
    """Send a signal to the process group of a daemon.

    Raises:
        ProcessLookupError: It has ended.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):  # it may have left the group
        os.killpg(pid, signum)
    # One that was forked a moment ago may not have a group of its own yet, nor any children; and
    # one whose task reads from the terminal is in that of its host, at the latest when it dies.
    if signum == signal.SIGKILL or os.getpgid(pid) != pid:
        os.kill(pid, signum)


_INSIST = 0.02  # seconds until a task is asked again; then twice as many

K = TypeVar("K")


class Stops(Generic[K]):
    """Tasks that were asked to stop, and have not been heard of since.

    Args:
        reactor: Tells when it is time.
        ask: Asks a task once more; False if it is there no more.

    Attributes:
        asked: For each, when it is asked the next time.
    """

    def __init__(self, reactor: Reactor, ask: Callable[[K], bool]) -> None:
        self._reactor = reactor
        self._ask = ask
        self.asked: dict[K, Timer] = {}

    def add(self, task: K) -> None:
        """Note that a task was asked to stop."""
        self.discard(task)
        self._wait(task, _INSIST)

    def discard(self, task: K) -> None:
        """Note that a task has ended."""
        if (timer := self.asked.pop(task, None)) is not None:
            timer.cancel()

    def _wait(self, task: K, pause: float) -> None:
        self.asked[task] = self._reactor.call_in(pause, lambda: self._resend_stop(task, pause))

    def _resend_stop(self, task: K, pause: float) -> None:
        if self._ask(task):
            self._wait(task, 2 * pause)
        else:
            del self.asked[task]
