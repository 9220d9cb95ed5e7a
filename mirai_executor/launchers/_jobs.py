"""Daemons as jobs of an engine that is reached by calling it, not by a command or a request.

::

    JobRequest ── submit() ──► Jobs ── cancel(), failed(), add_done_callback() ──► the host

An engine runs each daemon once. What is lost, the host asks for again: two that replace the same
daemon would have two in its place.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from mirai_executor._texts import hide
from mirai_executor._waiting import Deadline
from mirai_executor.errors import LaunchError

if TYPE_CHECKING:
    from ._daemon import DaemonCommand

_LOG = logging.getLogger("mirai_executor")
_TO_CANCEL = 20.0  # seconds for engines to take jobs back


class Job(Protocol):
    """What an engine has accepted: one or more daemons that wait for their turn, or run.

    Any object with these methods is one. They are called on threads of the executor, and should
    return within seconds.

    Example:
        >>> class Nothing:
        ...     def cancel(self): ...
        ...     def failed(self): ...
        ...     def add_done_callback(self, callback): ...
    """

    def cancel(self) -> None:
        """Take back the daemons that wait, and end those that run; again is no error."""

    def failed(self) -> str | None:
        """Return why it has come to an end, in the engine's words; None if it did not fail."""

    def add_done_callback(self, callback: Callable[[], object]) -> None:
        """Have this called, once, on any thread, when none of its daemons waits or runs."""


@dataclass(frozen=True)
class JobRequest:
    """A call that submits daemons to an engine.

    Args:
        name: The engine, as messages call it.
        submit: What to call. It gets the seconds that it may take, and the arguments, and returns
            a :class:`Job`, or several, once the engine has accepted it.
        arguments: What it is called with.
        secret: A text that messages must not show.
        daemons: Those of the jobs, if each job is one daemon: the host then knows which of them
            has come, and cancels the others one by one when nobody needs them.

    Example:
        >>> from mirai_executor.launchers import JobRequest
        >>> JobRequest("my engine", print, ("hello",)).name
        'my engine'
    """

    name: str
    submit: Callable[..., Job | Sequence[Job]]
    arguments: tuple[Any, ...] = field(default=(), repr=False)
    secret: str = field(default="", repr=False)
    daemons: Sequence[DaemonCommand] = field(default=(), repr=False)


def submit(request: JobRequest, timeout: float) -> tuple[Job, ...]:
    """Submit daemons to an engine.

    Raises:
        LaunchError: The engine cannot be reached, or has refused.
    """
    try:
        jobs = request.submit(timeout, *request.arguments)
        return tuple(jobs) if isinstance(jobs, Sequence) else (jobs,)
    except Exception as error:
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        if isinstance(error, LaunchError):
            what = str(error)
        said = hide(what, [request.secret, *(one.secret for one in request.daemons)])
        raise LaunchError(
            f"{request.name} has not taken the daemons: {said}",
            command=(request.name,),
            stderr=getattr(error, "stderr", ""),
        ) from error


def cancel_at_engines(jobs: Sequence[Job]) -> None:
    """Take back jobs that nobody needs, side by side: engines take their time.

    What one of them fails in is logged, and keeps no other from being taken back.
    """
    threads = [threading.Thread(target=_cancel, args=(job,), daemon=True) for job in jobs]
    begun: list[threading.Thread] = []
    for job, thread in zip(jobs, threads, strict=True):
        try:
            thread.start()
            begun.append(thread)
        except RuntimeError:  # the system has no room for it
            _cancel(job)
    deadline = Deadline(_TO_CANCEL)
    for thread in begun:
        thread.join(deadline.left)


def _cancel(job: Job) -> None:
    try:
        job.cancel()
    except Exception as error:
        _LOG.warning("cannot cancel a job of an engine: %s: %s", type(error).__name__, error)
