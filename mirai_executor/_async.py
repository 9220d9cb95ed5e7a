"""What coroutines can do with an executor or a view; what that takes is imported when used."""

from concurrent.futures import Executor
from types import TracebackType
from typing import Self

__all__ = ["AsyncFace"]


class AsyncFace(Executor):
    """Of an executor, or of a view of one, the methods for coroutines."""

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
