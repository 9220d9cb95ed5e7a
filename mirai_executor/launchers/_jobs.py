"""Daemons as jobs of an engine that is reached by calling it, not by a command or a request.

::

    JobRequest ── submit() ──► Job ── cancel(), failed(), add_done_callback() ──► the host
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from mirai_executor.errors import LaunchError


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
        """Return why it has come to an end, in the engine's words; None if that is no failure."""

    def add_done_callback(self, callback: Callable[[], object]) -> None:
        """Have this called, once, on any thread, when none of its daemons waits or runs."""


@dataclass(frozen=True)
class JobRequest:
    """A call that submits daemons to an engine.

    Args:
        name: The engine, as messages call it.
        submit: What to call. It gets the seconds that it may take, and the arguments, and returns
            a :class:`Job` once the engine has accepted it.
        arguments: What it is called with.
        secret: A text that messages must not show.

    Example:
        >>> from mirai_executor.launchers import JobRequest
        >>> JobRequest("my engine", print, ("hello",)).name
        'my engine'
    """

    name: str
    submit: Callable[..., Job]
    arguments: tuple[Any, ...] = field(default=(), repr=False)
    secret: str = field(default="", repr=False)


def submit(request: JobRequest, timeout: float) -> Job:
    """Submit daemons to an engine.

    Raises:
        LaunchError: The engine cannot be reached, or has refused.
    """
    try:
        return request.submit(timeout, *request.arguments)
    except Exception as error:
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        if isinstance(error, LaunchError):
            what = str(error)
        said = what.replace(request.secret, "***") if request.secret else what
        raise LaunchError(
            f"{request.name} has not taken the daemons: {said}",
            command=(request.name,),
            stderr=getattr(error, "stderr", ""),
        ) from error
