"""Serves a host, and others after it if it was asked to; its exit code says why it ended."""

import contextlib
import math
import os
import random
import signal
import socket
import time
from collections import deque
from dataclasses import replace

from mirai_executor._nameless import occupy_streams
from mirai_executor.credentials import DaemonCredentials
from mirai_executor.errors import LaunchError

from ._dial import NotConnectedError, connect
from ._options import HOST, ExitCode, KeeperOptions
from ._session import End, Session
from ._started import start

# Erlang's restart intensity: so many daemons in a row that came to nothing are enough.
_FAILURES, _WINDOW = 5, 60.0
_EARLY = 0.9  # of its wall time a daemon serves at least
_BACK_AGAIN = 2.0  # seconds to find a host again whose daemon has crashed


def keep(options: KeeperOptions, credentials: DaemonCredentials) -> ExitCode:
    """Serve the host. Returns when this daemon is to end; says why on standard error."""
    occupy_streams()
    # Who ignores it has its children collected by the kernel, and cannot learn how they ended.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # By which daemons of a machine that have no numbers know whose they are.
    os.environ[HOST] = " ".join(map(str, options.urls))
    end_at = math.inf
    if options.wall_time is not None:
        # Not all at once: who started together would leave the host alone together.
        end_at = time.monotonic() + options.wall_time * random.uniform(_EARLY, 1.0)  # noqa: S311 - to spread, not to hide
    keeper = _Keeper(options, credentials, end_at)
    for signum in (signal.SIGTERM, signal.SIGUSR1):  # as schedulers end a job, or announce it
        signal.signal(signum, keeper.on_signal)
    try:
        while keeper.serve():
            pass
    except NotConnectedError as error:
        if keeper.was_connected and error.code is ExitCode.UNREACHABLE:
            return ExitCode.DONE
        return _say(error.code, str(error))
    except (LaunchError, OSError) as error:
        return _say(ExitCode.BROKEN, f"cannot start a Python interpreter for tasks: {error}")
    if keeper.is_broken:
        return _say(
            ExitCode.BROKEN, "the Python interpreters that it starts exit before they run a task"
        )
    return ExitCode.TERMINATED if keeper.was_told else ExitCode.DONE


class _Keeper:
    """Knows what has become of the sessions so far."""

    def __init__(
        self, options: KeeperOptions, credentials: DaemonCredentials, end_at: float
    ) -> None:
        self._options = options
        self._credentials = credentials
        self._end_at = end_at
        self._stays = options.autoexit == "never"
        self._failures: deque[float] = deque(maxlen=_FAILURES)
        self._begun = 0  # tasks, of all daemons
        self.was_connected = False
        self.was_told = False  # by SIGTERM to end
        self._session: Session | None = None

    def on_signal(self, signum: int, _: object) -> None:
        """Begin no other task, and end after the one that runs; at a second SIGTERM, at once.

        Raises:
            SystemExit: There is no task to wait for.
        """
        is_last = signum == signal.SIGTERM
        if self._session is None or (is_last and self.was_told):
            signal.signal(signum, signal.SIG_IGN)  # once more is enough
            raise SystemExit(ExitCode.TERMINATED)
        self.was_told |= is_last
        self._end_at = time.monotonic()  # no other daemon follows
        why = f"its keeper has got {signal.Signals(signum).name}"
        self._session.drain(why, self._options.grace if is_last else math.inf)

    @property
    def is_broken(self) -> bool:
        """Whether daemons came to nothing, too many in a row."""
        times = self._failures
        return len(times) == times.maxlen and times[-1] - times[0] < _WINDOW

    def serve(self) -> bool:
        """Serve a host with one daemon; True if there may be a next one.

        Raises:
            NotConnectedError: There is no host, or not the right one.
            LaunchError: No daemon could be started, or it was not ready in time.
        """
        retry = self._options.retry
        if self.was_connected:
            retry = self._patience() if self._stays else _BACK_AGAIN
        link = connect(self._options.urls, self._credentials, retry, stays=self._stays)
        self.was_connected = True
        with contextlib.closing(link):
            options = self._rest_of_options()
            session = Session(link, options, self._end_at, start(options))
            self._session = session
            try:
                end = session.run(self._goes_on)
            finally:
                self._session = None
        self._options = replace(self._options, request="")  # it has come
        goes_on = self._goes_on(session, end)
        self._begun += session.begun
        if end is End.WRONG_MODE:
            raise _wrong_mode(self._options)
        if end is End.OVERDUE:
            raise LaunchError("it was not ready within the start_timeout of its host")
        if end is End.CRASHED and session.came_to_nothing:
            self._failures.append(time.monotonic())
        else:
            self._failures.clear()
        return goes_on and not self.is_broken

    def _goes_on(self, session: Session, end: End) -> bool:
        """Tell whether another daemon follows an end, unless too many have come to nothing."""
        if end in (End.LEFT, End.OVERDUE) or (end is End.CUT_OFF and not self._stays):
            return False
        limit = self._options.max_tasks_per_child
        is_done = limit is not None and limit <= self._begun + session.begun
        return not is_done and time.monotonic() < self._end_at

    def _patience(self) -> float:
        """Return for how many seconds to wait for the next host; nobody else ends this then."""
        idle = self._options.idle_time
        return min(math.inf if idle is None else idle, self._end_at - time.monotonic())

    def _rest_of_options(self) -> KeeperOptions:
        """Return the options without the tasks that have been begun already."""
        limit = self._options.max_tasks_per_child
        if limit is None:
            return self._options
        return replace(self._options, max_tasks_per_child=max(0, limit - self._begun))


def _wrong_mode(options: KeeperOptions) -> NotConnectedError:
    works, asks = ("without", "") if options.dispatcher else ("with", "no-")
    return NotConnectedError(
        ExitCode.WRONG_MODE,
        f"the host works {works} a dispatcher, but this daemon was started with "
        f"--{asks}dispatcher",
    )


def _say(code: ExitCode, why: str) -> ExitCode:
    where = f"mirai-executor daemon (pid {os.getpid()} on {socket.gethostname()})"
    with contextlib.suppress(OSError):  # who has started it may be gone
        os.write(2, f"{where}: {why}\n".encode(errors="replace"))
    return code
