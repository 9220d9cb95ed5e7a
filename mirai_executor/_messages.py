"""What a task says while it runs: how far it has come, and whatever else it wants to be known.

::

    progress, report ──► the messenger of this process, or of the inline task ──► the future
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar

from . import _place
from ._typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Protocol

    class Messenger(Protocol):
        """Carries what a task says to its host."""

        def report(self, obj: Any, *, is_progress: bool) -> None: ...


_inline: ContextVar[Messenger | None] = ContextVar("mirai messenger", default=None)


class Progress(NamedTuple):
    """How far a task has come, as callbacks of :meth:`MiraiFuture.on_report` get it.

    Attributes:
        done: How much is done.
        total: How much there is to do; None if the task does not know.
        text: What the task says about it.

    Example:
        >>> Progress(1, 4).done
        1
    """

    done: float
    total: float | None = None
    text: str = ""


def progress(done: float, total: float | None = None, text: str = "") -> None:
    """Say how far this task has come: :meth:`MiraiFuture.on_report` and progress bars show it.

    To be called as often as is convenient: it is passed on up to 20 times a second, and the last
    call before the task ends in any case, if the connection has room. It never waits for the host.
    Outside of a task, it does nothing. Safe from any thread; what another thread than the task's
    own says is passed on when that one says something, or ends. Bars of ``progress=`` show the
    part of a task that is done, and its text, whether anything listens or not.

    Args:
        done: How much is done, in any unit.
        total: How much there is to do, in the same one; None if that is not known.
        text: A few words for people.

    Raises:
        TypeError: ``done`` or ``total`` is not a number, or ``text`` is not a string.

    Example:
        >>> def work():
        ...     for n in range(4):
        ...         progress(n + 1, 4, "steps")
        >>> with MiraiExecutor(1) as executor:
        ...     future = executor.submit(work)
        ...     future.result()
        ...     future.on_report(print)
        Progress(done=4, total=4, text='steps')
    """
    if not isinstance(text, str):
        raise TypeError(f"text must be a string, not {text!r:.60}")
    done = _number("done", done)
    total = None if total is None else _number("total", total)
    if (messenger := current()) is not None:
        messenger.report((done, total, text), is_progress=True)


def report(obj: Any) -> None:
    """Send an object from this task to the callbacks of :meth:`MiraiFuture.on_report`.

    It never waits for the host: what comes faster than the connection or the callbacks take it,
    or more than a thousand times a second, is dropped. What must arrive is returned, or yielded
    by a stream. It does not overtake what :func:`progress` was told before. Outside of a task, it
    does nothing. Safe from any thread, as :func:`progress`. A short string is also shown by the
    bars of ``progress=``.

    Args:
        obj: What can be pickled, up to 1 MiB.

    Raises:
        PayloadError: It cannot be pickled.
        ValueError: It takes more than 1 MiB.

    Example:
        >>> def work():
        ...     report({"loss": 0.5})
        >>> with MiraiExecutor(1) as executor:
        ...     future = executor.submit(work)
        ...     future.on_report(print)
        {'loss': 0.5}
    """
    if (messenger := current()) is not None:
        messenger.report(obj, is_progress=False)


def current() -> Messenger | None:
    """Return what carries messages of the task that runs here; None outside of tasks."""
    inline = _inline.get()
    if inline is not None:
        return inline
    found: Any = None if _place.messenger is None else _place.messenger()
    return found  # type: ignore[no-any-return]  # that of a daemon


def run_stream(
    fn: Callable[..., Any], ahead: int, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Call a function on a daemon, and send what it yields; the task of a stream.

    Args:
        fn: Returns a generator, or another iterable.
        ahead: How many values may be sent before the first one has been taken.
        args: Its positional arguments.
        kwargs: Its keyword arguments.

    Returns:
        What the generator returns.
    """
    messenger: Any = current()
    stream = messenger.new_stream(ahead)
    values = iterator_of(fn(*args, **kwargs), messenger.iterate)
    try:
        while True:
            stream.wait_for_credit()
            try:
                value = next(values)
            except StopIteration as end:
                return end.value
            stream.put(value)
            del value
    finally:
        close_iterator(values)


def iterator_of(values: Any, iterate: Callable[[Any], Iterator[Any]]) -> Iterator[Any]:
    """Return an iterator over what the function of a stream has returned.

    Args:
        values: What it has returned.
        iterate: Makes one of an asynchronous generator.

    Raises:
        TypeError: ``values`` cannot be iterated over.
    """
    if hasattr(type(values), "__anext__"):
        return iterate(values)
    try:
        return iter(values)
    except TypeError:
        raise TypeError(
            f"stream() takes a generator function, or one that returns an iterable; this one "
            f"returned {values!r:.60}"
        ) from None


def close_iterator(values: Any) -> None:
    """Have a generator leave its blocks; what else is iterated over need not have such an end."""
    close = getattr(values, "close", None)
    if close is not None:
        close()


@contextmanager
def speaking_through(messenger: Messenger) -> Iterator[None]:
    """Have what a task says in this context, in this process, be carried by this messenger."""
    token = _inline.set(messenger)
    try:
        yield
    finally:
        _inline.reset(token)


def _number(name: str, value: Any) -> float:
    if type(value) is int or type(value) is float:
        return value
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, not {value!r:.60}") from None
