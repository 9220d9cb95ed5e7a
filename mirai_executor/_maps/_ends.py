"""How the elements of a map have ended, as the futures of tasks; see ``_late_futures``, too."""

from __future__ import annotations

from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_EXCEPTION,
    CancelledError,
    Future,
    as_completed,
    wait,
)
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator


T = TypeVar("T")


class Futures(list["Future[T]"]):
    """The futures of elements, each of which is there. For any thread."""

    @property
    def cancels_on_interrupt(self) -> bool:
        """Whether they are cancelled when who waits is interrupted."""
        return any(getattr(future, "_cancels_on_interrupt", False) for future in self)

    def wait(self, *, stop: bool) -> bool:
        """Wait until all have ended, or with ``stop`` one has failed; return whether all have."""
        # Nobody is woken before that, while as_completed would be by each of them.
        how = FIRST_EXCEPTION if stop else ALL_COMPLETED
        return not wait(self, return_when=how).not_done

    async def waited(self) -> None:
        """Wait in a coroutine of asyncio until all have ended, or one has failed."""
        import asyncio

        ends = [asyncio.wrap_future(future) for future in self]
        try:
            if ends:
                await asyncio.wait(ends, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for end in ends:  # else asyncio complains of errors that nobody has asked for
                if end.done() and not end.cancelled():
                    end.exception()

    def ended(self) -> Iterator[int]:
        """Yield the places of elements as they end."""
        places = {future: place for place, future in enumerate(self)}
        for future in as_completed(self):
            yield places[future]

    def is_done(self, place: int) -> bool:
        """Tell whether an element has ended, or was cancelled."""
        return self[place].done()

    def has_value(self, _: int) -> bool:
        """Tell whether a value is there without any future, so that nobody need wait for it."""
        return False

    def error_of(self, place: int) -> BaseException | None:
        """Return the error of an element that has ended."""
        return error_of(self[place])

    def value(self, place: int) -> T:
        """Wait for an element; return its value, or raise its error."""
        return self[place].result()

    def values(self) -> list[T] | None:
        """Return the values of all, if they are there without any future."""
        return None

    def cancel(self) -> int:
        """Cancel all that have not ended; return how many are cancelled."""
        # From last to first: to stop one that runs is not to start another one.
        return sum([future.cancel() for future in reversed(self)])


def error_of(future: Future[Any]) -> BaseException | None:
    """Return the error of a future that has ended."""
    if future.cancelled():
        return CancelledError()
    return future.exception()


def in_its_place(face: Any, error: TypeError) -> Future[Any]:
    """Return the future of an element that is a future itself: it fails, among others that go on.

    Args:
        face: The executor, or a view of one.
        error: What ``submit`` has raised.

    Raises:
        TypeError: The same, if it says something else.
    """
    refusal = getattr(error, "_refusal", None)  # see raise_if_misuse
    if refusal is None:
        raise error
    future: Future[Any] = face._new_future()
    future.set_exception(refusal)
    return future


def flattened(values: list[Any]) -> list[Any]:
    """Return values, with those that are lists or the like put one behind the other."""
    flat: list[Any] = []
    for value in values:
        many = isinstance(value, (list, tuple, range, set, frozenset))
        if many or (getattr(value, "ndim", 0) >= 1 and not hasattr(value, "columns")):
            flat.extend(value)
        else:
            flat.append(value)
    return flat
