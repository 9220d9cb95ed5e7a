"""Looks after commands and jobs that have started daemons elsewhere, and run as long."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import selectors
import signal
import subprocess
from collections.abc import Callable, Iterable
from functools import partial

from mirai_executor._local import Relay, RelayedStream, describe_exit, last_words, watch
from mirai_executor._typing import Record
from mirai_executor._waiting import Deadline, Reactor
from mirai_executor.errors import LaunchError
from mirai_executor.launchers import Job

from ._jobs import Jobs

_LOG = logging.getLogger("mirai_executor")
# What SSH says of a daemon that dials through a tunnel when this host has just ended.
_NOISE = re.compile(rb"connect_to \S+ port \d+: failed\.\r?\n")
# And what such a daemon says itself: no news to a host that ends.
_NOISE_AT_END = re.compile(
    _NOISE.pattern + rb"|mirai-executor daemon \(pid [^\n]*\): cannot reach the host: [^\n]*\n"
)
_LET_GO = 1.0  # seconds for commands to end by themselves, once their daemons have been let go


class _Command(Record):
    process: subprocess.Popen[bytes]
    stream: RelayedStream | None  # its standard error
    on_end: Callable[[LaunchError], None]
    end_fd: int  # readable once it has ended; -1 where nothing can tell
    stays: bool  # when this host ends


class LaunchProcesses:
    """Those of one executor. For the host thread only.

    Args:
        reactor: Tells when a descriptor is readable.
        relay: Passes on what commands write to their standard error.
        on_failure: Is called when the last of them has ended, and has failed.

    Attributes:
        error: How the last of them has ended, if badly; None once a daemon has come since.
    """

    def __init__(
        self,
        reactor: Reactor,
        relay: Relay,
        on_failure: Callable[[LaunchError], None],
    ) -> None:
        self._reactor = reactor
        self._relay = relay
        self._on_failure = on_failure
        self.error: LaunchError | None = None
        self._commands: dict[int, _Command] = {}  # by process id
        self._jobs = Jobs(reactor)

    def __bool__(self) -> bool:
        """Whether one runs whose daemons may still come, or come again after a crash."""
        return bool(self._commands or self._jobs)

    def keep(
        self,
        started: Iterable[subprocess.Popen[bytes] | Job],
        on_end: Callable[[LaunchError], None],
        *,
        stay: bool,
    ) -> None:
        """Pass on what they say, until they end, or are left alone by :meth:`close`.

        A job of an engine is kept in the same way. ``on_end`` is called for each that ends,
        however it does, with what may be said of it.
        """
        self.error = None
        for one in started:
            if isinstance(one, subprocess.Popen):
                self._keep_process(one, on_end, stay)
            else:
                self._jobs.keep(one, partial(self._on_job_end, on_end), stay=stay)

    def _keep_process(
        self, process: subprocess.Popen[bytes], on_end: Callable[[LaunchError], None], stay: bool
    ) -> None:
        stream = None
        if process.stderr is not None:
            stream = self._relay.add(os.dup(process.stderr.fileno()), process.pid, _NOISE)
            process.stderr.close()
        end_fd = watch(process)
        self._commands[process.pid] = _Command(process, stream, on_end, end_fd, stay)
        if end_fd >= 0:
            self._watch(end_fd, process.pid)

    def _watch(self, end_fd: int, pid: int) -> None:
        self._reactor.register(end_fd, selectors.EVENT_READ, lambda: self._on_end(pid))

    def _on_end(self, pid: int) -> None:
        command = self._commands.pop(pid)
        self._reactor.unregister(command.end_fd)
        code, said = command.process.wait(), self._let_go(command)
        words = tuple(map(str, command.process.args))  # type: ignore[arg-type]  # ours is a sequence of strings
        end = f"{words[0]} {describe_exit(code)}{last_words(said)}"
        message = f"no daemon is connected: {end}"
        error = LaunchError(message, command=words, exitcode=code, stderr=said)
        if code != 0:
            _LOG.warning("%s", end)
            self._fail(error)
        command.on_end(error)

    def _on_job_end(self, on_end: Callable[[LaunchError], None], failure: str | None) -> None:
        said = failure or "a job of an engine has ended"
        error = LaunchError(f"no daemon is connected: {said}", stderr=failure or "")
        if failure is not None:
            self._fail(error)
        on_end(error)

    def _fail(self, error: LaunchError) -> None:
        if not self:  # else others may still bring some
            self.error = error
            self._on_failure(error)

    def _let_go(self, command: _Command) -> str:
        if command.end_fd >= 0:
            os.close(command.end_fd)
        return "" if command.stream is None else self._relay.finish(command.stream)

    def close(self) -> None:
        """Wait for them to end, which they do as their daemons leave; or end them.

        Those that are to stay are left alone.
        """
        deadline = Deadline(_LET_GO)
        for command in self._commands.values():
            if command.stream is not None:
                command.stream.noise = _NOISE_AT_END
        for command in self._commands.values():
            process = command.process
            if command.stays and process.poll() is None:
                process.returncode = 0  # for Popen, who complains of what it leaves behind
            try:
                process.wait(deadline.left)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            self._let_go(command)
        self._commands.clear()
        self._jobs.close()
