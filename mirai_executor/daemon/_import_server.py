"""Has the main module imported once, in a fork of the fork server, for the daemons to come.

::

    the fork server ──┬── the candidate ── imports ──┬── a daemon that has the main module
    (never imports)   │                              └── another one
                      └── a daemon that imports it for itself: before that, and if it fails

The fork server stays what the host talks to. It hands requests on to the candidate once that has
said that it can be forked; until then, and if it never says so or has ended, it forks by itself.
So whatever a script does, daemons come. What the candidate must not be is in ``_fitness``.

The candidate is a process group of its own, which the kernel ends with the fork server. What the
script prints there is seen by nobody: the first daemon, which does not wait, imports it, too.
"""

from __future__ import annotations

import _socket
import array
import atexit
import contextlib
import os
import select
import signal
import sys

from mirai_executor import _nameless, _place
from mirai_executor._payload import daemon as _payload
from mirai_executor._private import check
from mirai_executor._shared import ANSWER, FORK, IMPORTED, QUESTION, REAP, UNKNOWN
from mirai_executor._typing import TYPE_CHECKING, Any

from . import _child

if TYPE_CHECKING:
    from ._child import Answering, Question
    from ._fitness import Fitness

check("daemon._import_server")

_LONGEST = 4096  # bytes of what a candidate says
_PATIENCE = 1.5  # seconds for its answers; the host has a little more


def go_on(end: Answering, request: int, verdict: int) -> list[int]:
    """Go on as the fork server, with a candidate. Returns in each daemon, once.

    Args:
        end: Where the host asks.
        request: The descriptor of the file that says what to import.
        verdict: That of a pipe, for how it has ended.

    Returns:
        The descriptors of the daemon that this process is now.
    """
    here, there = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    tie, hold = os.pipe()
    pid = _child.fork()
    if pid == 0:
        end.close()
        here.close()
        for fd in (hold, verdict):
            os.close(fd)
        return _Candidate(request, there, tie).serve()
    there.close()
    for fd in (request, tie):
        os.close(fd)
    return _ImportServer(end, _CandidateLink(pid, here, hold, verdict)).serve()


def _flaw_of(text: bytes) -> str:
    from importlib.util import decode_source

    from ._once import flaw_of

    return flaw_of(decode_source(text))


def _finish() -> None:
    """Do what is to be done at the end of a process that has imported, and is of no use."""
    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()  # noqa: SLF001 - see _private.py
    tracker: Any = getattr(
        sys.modules.get("multiprocessing.resource_tracker"), "_resource_tracker", None
    )
    with contextlib.suppress(Exception):  # it is private
        if tracker is not None and tracker._pid is not None:  # noqa: SLF001 - it was started here
            tracker._stop()  # noqa: SLF001 - as above


class _CandidateLink:
    """What the fork server has of its candidate.

    Args:
        pid: Its process id; it could not be forked if that is negative.
        end: A socket to it.
        hold: What the candidate does not outlive.
        verdict: Where the host is told what has become of it.
    """

    def __init__(self, pid: int, end: _socket.socket, hold: int, verdict: int) -> None:
        self._pid = pid
        self._socket = end
        self._socket.settimeout(_PATIENCE)
        self._hold = hold
        self._verdict = verdict
        self._fds = [end.fileno(), hold, verdict]
        self.is_fit = False
        self.has_ended = False
        self.events: list[int] = []  # descriptors that are readable when there is news
        if pid < 0:
            self._tell(b"-" + os.strerror(-pid).encode())
            self.end()
            return
        ended = os.pidfd_open(pid)
        self._fds.append(ended)
        self.events = [end.fileno(), ended]

    def hear(self) -> None:
        """Take in that there is news of it: it is ready, cannot be forked, or has ended."""
        said = b"-it has ended meanwhile"
        if not self.is_fit:
            with contextlib.suppress(OSError):
                self._socket.setblocking(False)
                said = self._socket.recv(_LONGEST) or said
                self._socket.settimeout(_PATIENCE)
            self._tell(said)
        if said == IMPORTED:
            self.is_fit = True
            self.events = self.events[1:]
        else:
            self.end()

    def ask(self, question: Question) -> int:
        """Hand a question on; the server ends if there is no answer."""
        fds = array.array("i", question.fds)
        rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fds)] if fds else []
        packed = QUESTION.pack(question.what, question.pid)
        try:
            self._socket.sendmsg([packed], rights, _socket.MSG_NOSIGNAL)
            (answer,) = ANSWER.unpack(self._socket.recv(ANSWER.size))
        except Exception:  # it may have forked a daemon: the host must not use this one again
            os._exit(1)
        return int(answer)

    def forget(self) -> None:
        """In a daemon that the server has forked: close all that is its own."""
        self._socket.close()
        for fd in self._fds[1:]:
            with contextlib.suppress(OSError):  # closed already
                os.close(fd)

    def _tell(self, what: bytes) -> None:
        with contextlib.suppress(OSError):  # the host waits no longer
            os.write(self._verdict, what[: select.PIPE_BUF])
        os.close(self._verdict)
        self._fds.remove(self._verdict)

    def end(self) -> None:
        """Leave nothing of it."""
        if self._pid > 0 and not self.has_ended:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):  # it may not have come so far
                os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        self.is_fit, self.has_ended = False, True
        self.forget()
        self._fds, self.events = self._fds[:1], []


class _ImportServer:
    """The fork server, from the moment at which it has a candidate.

    Args:
        end: Where the host asks.
        candidate: What it has of that one.
    """

    def __init__(self, end: Answering, candidate: _CandidateLink) -> None:
        self._end = end
        self._candidate = candidate

    def serve(self) -> list[int]:
        """Answer the host until it asks no more. Returns in each daemon, with its descriptors."""
        while (question := self._next()) is not None:
            if question.what == FORK:
                child = self._fork(question)
                if not child:
                    self._candidate.forget()
                    return question.fds
                self._end.answer(child)
            elif question.what == REAP:
                self._end.answer(self._reap(question))
            for fd in question.fds:
                os.close(fd)
        self._candidate.end()  # else nobody might collect it
        os._exit(0)

    def _next(self) -> Question | None:
        """Wait for a question; see to the candidate meanwhile."""
        while True:
            poll = _nameless.new_poll()
            for fd in (self._end.fileno(), *self._candidate.events):
                poll.register(fd, select.POLLIN)
            ready = {fd for fd, _ in poll.poll()}
            if ready.isdisjoint(self._candidate.events):
                return self._end.next()
            self._candidate.hear()

    def _fork(self, question: Question) -> int:
        return self._candidate.ask(question) if self._candidate.is_fit else _child.fork()

    def _reap(self, question: Question) -> int:
        try:
            _, status = os.waitpid(question.pid, 0)
        except ChildProcessError:  # it was the candidate's
            return self._candidate.ask(question) if self._candidate.is_fit else UNKNOWN
        return os.waitstatus_to_exitcode(status)


class _Candidate:
    """The process that imports the main module, and is forked then.

    Args:
        request: The descriptor of the file that says what to import.
        end: The socket at which the fork server asks.
        tie: The descriptor that closes with that one.
    """

    def __init__(self, request: int, end: _socket.socket, tie: int) -> None:
        self._request = request
        self._socket = end
        self._tie = tie
        self._pid = os.getpid()
        self._fitness: Fitness

    def serve(self) -> list[int]:
        """Import, and fork daemons. Returns in each of them, with its descriptors."""
        try:
            os.setpgid(0, 0)
            _child.hold_lifeline(self._tie)
            why = self._import()
            if os.getpid() != self._pid:  # the script has forked, and comes here twice
                os._exit(0)
            _nameless.flush_streams()
            if why:
                _finish()
                self._socket.send(b"-" + why.encode(errors="replace")[: _LONGEST - 1])
                os._exit(0)
            fds = self._fork_daemons()
        except BaseException:  # whatever it was: daemons do without
            os._exit(1)
        self._fitness.restore()
        sys.argv = list(sys.argv)  # the script may have kept that
        return fds

    def _import(self) -> str:
        """Import the main module; return why this process cannot be forked, if it cannot."""
        from ._fitness import Fitness  # with random: the fork server does without

        self._fitness = Fitness()
        for number in (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU):  # as a daemon begins
            signal.signal(number, signal.SIG_IGN)
        _child.prepare_streams()
        _place.enter_daemon()
        if (flags := sys.modules.get(f"{__package__}._dirty_flag")) is not None:
            flags.watch_early()
        os.lseek(self._request, 0, os.SEEK_SET)
        with open(self._request, "rb") as file:  # noqa: PTH123 - a descriptor
            preparation, blob = _payload.decode_plain(file.read())
        _child.Child(self._tie).introduce(preparation._replace(shows_state=False))
        _place.show_as("mirai-imports")
        main = _payload.MainImport(_payload.Namespace(preparation).module, preparation)
        self._fitness.begin()
        return main.come_first(blob, _flaw_of) or self._fitness.flaw()

    def _fork_daemons(self) -> list[int]:
        self._socket.send(IMPORTED)
        _place.show_as("mirai-server")
        end = _child.Answering(self._socket.detach())
        fds, child = _child.next_daemon(end, self._fitness.fork)
        while child:
            for fd in fds:
                os.close(fd)
            end.answer(child)
            fds, child = _child.next_daemon(end, self._fitness.fork)
        end.close()
        os.close(self._tie)
        return fds
