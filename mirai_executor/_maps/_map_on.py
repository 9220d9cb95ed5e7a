"""What a ``map`` needs to go on after errors: each call of a chunk has an end of its own."""

from collections.abc import Callable, Iterator
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from mirai_executor._progress import Counts

T = TypeVar("T")


class Failed:
    """How a call has ended that has raised something; it is among the results of its chunk.

    Args:
        blob: The error, with its traceback.
    """

    def __init__(self, blob: bytes) -> None:
        self.blob = blob

    def error(self) -> BaseException:
        """Return what was raised."""
        from mirai_executor._payload.host import decode_error

        return decode_error(self.blob)


def attempt(fn: Callable[..., Any], /, *args: Any) -> Any:
    """Call a function of a chunk; what it raises ends no other call."""
    try:
        result = fn(*args)
    except Exception as error:
        return _failed(error)
    return _attempt_to_await(result) if type(result) is CoroutineType else result


async def _attempt_to_await(coroutine: Any) -> Any:
    try:
        return await coroutine
    except Exception as error:
        return _failed(error)


def _failed(error: Exception) -> Failed:
    from mirai_executor._payload.daemon import encode_error  # hosts have no use for it

    return Failed(encode_error(error))


class Flattened(Iterator[T], Generic[T]):
    """Yields the items of lists one by one, or raises them; keeps no reference to those before.

    Args:
        results: The lists.
    """

    def __init__(self, results: Iterator[list[Any]]) -> None:
        self._results = results
        self._items: list[Any] = []  # the next one last

    def __next__(self) -> T:
        while not self._items:
            self._items = next(self._results)[::-1]
        item = self._items.pop()
        if not isinstance(item, Failed):
            value: T = item
            return value
        try:
            raise item.error()
        except StopIteration as error:
            raise RuntimeError("generator raised StopIteration") from error

    def close(self) -> None:
        """Cancel the tasks that have not started."""
        self._items.clear()
        _close(self._results)


class Watched(Iterator[T], Generic[T]):
    """Yields results, each of which is counted on a bar; an error counts as well.

    Args:
        results: The results.
        counter: What counts them.
    """

    def __init__(self, results: Iterator[T], counter: "Counts") -> None:
        self._results = results
        self._counter = counter

    def __next__(self) -> T:
        try:
            result = next(self._results)
        except StopIteration:
            self._counter.close()
            raise
        except Exception:
            self._counter.count()
            raise
        self._counter.count()
        return result

    def close(self) -> None:
        """Cancel the tasks that have not started."""
        self._counter.close()
        _close(self._results)

    def __del__(self) -> None:
        if "_counter" in self.__dict__:
            self.close()


def _close(results: Any) -> None:
    if (close := getattr(results, "close", None)) is not None:
        close()
