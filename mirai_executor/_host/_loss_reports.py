"""Knows how daemons were lost and why none can be started, and turns that into errors."""

import collections
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from mirai_executor._core import DaemonId, ReportWait
from mirai_executor._local import another, describe_exit, last_words, memory_hint
from mirai_executor.errors import DaemonLostError, LaunchError

from ._daemon import Daemon

__all__ = ["LossReports"]

_LOG = logging.getLogger("mirai_executor")
_DEPARTURES = 5  # that are remembered: the last ones


class LossReports:
    """Those of one executor. For the host thread only.

    Attributes:
        why_none: Why no daemon can be started, as far as that is known.
        shortage: Why there were fewer than there should be, the last time.
        departures: Why the last ones of other machines have left, or were lost.
    """

    def __init__(self) -> None:
        self.why_none: LaunchError | None = None
        self.shortage = ""
        self.departures: collections.deque[str] = collections.deque(maxlen=_DEPARTURES)
        self._is_misfit = False
        self._now: dict[DaemonId, tuple[Daemon, str]] = {}  # with its last lines

    @contextmanager
    def reporting(self, id_: DaemonId, daemon: Daemon, stderr: str) -> Iterator[None]:
        """Know of a loss while it is reported, and how the last daemon ended also afterwards."""
        known = self.why_none
        says_more = self._is_misfit or (known is not None and known.__cause__ is not None)
        if not says_more:
            self.why_none = LaunchError(
                "daemons fail to start, or exit before they run a task; the last one "
                f"{_describe_end(daemon)}{_is_too_old(stderr)}{last_words(stderr)}",
                command=daemon.command,
                exitcode=daemon.exitcode,
                stderr=stderr,
            )
        if daemon.is_elsewhere and not daemon.dismissed:
            self.note_departure(daemon, _describe_end(daemon))
        self._now[id_] = (daemon, stderr)
        yield
        del self._now[id_]

    def note_initializer(self, cause: BaseException, daemon: Daemon) -> None:
        """Keep what an initializer has raised."""
        where = f" on {daemon.host}" if daemon.is_elsewhere else ""
        self.why_none = LaunchError(
            f"the initializer failed{where}: {type(cause).__name__}: {cause}",
            command=daemon.command,
        )
        self.why_none.__cause__ = cause

    def note_misfit(self, why: str, daemon: Daemon) -> None:
        """Keep why no daemon of this interpreter could work."""
        self.why_none = LaunchError(why, command=daemon.command)
        self._is_misfit = True

    def note_departure(self, daemon: Daemon, why: str) -> None:
        """Keep, and log, why a daemon of another machine leaves, or that it was lost."""
        text = f"pid {daemon.pid} on {daemon.host} has left: {why}"
        self.departures.append(text)
        _LOG.info("daemon with %s", text)

    def report_shortage(self, running: int) -> None:
        """Say that there are fewer daemons than there should be, and why."""
        self.shortage = str(self.why_none)
        _LOG.warning(
            "this executor goes on with %d daemons: the system has no room for another one now, "
            "which is tried again from time to time; %s",
            running,
            self.shortage,
        )

    def report_wait(self, report: ReportWait, asked_for: str) -> None:
        """Say that tasks wait, and for whom: who has forgotten to start daemons sees nothing."""
        _LOG.warning(
            "%d tasks have waited for %.3g s, and no daemon is connected: %s",
            report.tasks,
            report.seconds,
            asked_for,
        )

    def launch_error(self) -> LaunchError:
        """Return a fresh error that says why no daemon can be started."""
        return another(self.why_none or LaunchError())

    def is_lost(self, id_: DaemonId) -> bool:
        """Tell whether a daemon's loss is being reported."""
        return id_ in self._now

    def lost_error(self, id_: DaemonId, what: str) -> DaemonLostError:
        """Return the error of a task, or whatever else, that went down with a daemon."""
        if id_ not in self._now:
            return DaemonLostError(f"the daemon ended {what}")
        daemon, stderr = self._now[id_]
        return DaemonLostError(
            f"the daemon (pid {daemon.pid} on {daemon.host}) {_describe_end(daemon)} {what}"
            f"{last_words(stderr)}",
            pid=daemon.pid,
            host=daemon.host,
            exitcode=daemon.exitcode,
            stderr=stderr,
        )


def _is_too_old(stderr: str) -> str:
    return ", since its Python is older than 3.11" if "Unknown option: -P" in stderr else ""


def _describe_end(daemon: Daemon) -> str:
    if daemon.exitcode is None:
        return "lost its connection" if daemon.is_elsewhere else "ended"
    return describe_exit(daemon.exitcode) + memory_hint(daemon.has_run_out_of_memory)
