"""What takes its time: streams, and what coroutines can do; what that takes is imported then."""

from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from types import TracebackType
from typing import TYPE_CHECKING, ParamSpec, Self, TypeVar

from ._arguments import check_callable
from ._host import Host, Limits

if TYPE_CHECKING:
    from ._lifetime import HostOwner
    from ._streams import Stream

__all__ = ["AsyncFace"]

P = ParamSpec("P")
T = TypeVar("T")


class AsyncFace(Executor):
    """Of an executor, or of a view of one, the methods for streams and for coroutines."""

    _host: Host
    _limits: Limits

    def _root(self) -> "HostOwner":
        raise NotImplementedError

    def stream(
        self, fn: Callable[P, Iterable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> "Stream[T]":
        """Run a generator on a daemon, and return an iterator over its values as they come.

        The generator is never more than 16 values ahead of those that have been taken; set another
        number with ``with_options(buffer=4)``. Whoever leaves the loop over it early, or calls
        ``close()``, cancels the task. At the end of the executor's ``with`` block, streams that
        are open are cancelled. Safe from any thread, and every keyword argument belongs to ``fn``.

        Args:
            fn: A generator function, or a function that returns another iterable.
            *args: Its positional arguments.
            **kwargs: Its keyword arguments.

        Returns:
            An iterator, and an asynchronous one. It raises what the generator raises, behind the
            values that came before. ``retries`` have no effect.

        Raises:
            TypeError: ``fn`` is not callable.
            RuntimeError: The executor has been shut down.
            LaunchError: No daemon can be started.

        Example:
            >>> def squares(n):
            ...     for i in range(n):
            ...         yield i * i
            >>> with MiraiExecutor(1) as executor:
            ...     for square in executor.stream(squares, 3):
            ...         print(square)
            0
            1
            4
        """
        from ._streams import open_stream  # few programs have any

        root = self._root()
        root._check_open()  # noqa: SLF001 - this is a part of it
        check_callable("stream", fn)
        return open_stream(root, self._host, self._limits, fn, args, kwargs)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Do as at the end of a ``with`` block, while the event loop goes on.

        If the block is cancelled, or the wait at its end, queued and running tasks are cancelled.
        """
        from ._awaiting import leave  # with asyncio

        await leave(self.__exit__, self._abort, exc_type)

    def _abort(self) -> None:
        """Stop queued and running work; the one of an executor that this is a view of goes on."""
