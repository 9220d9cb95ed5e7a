"""Executors that submit a call only if there is room for it, or tell when there is."""

from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

if TYPE_CHECKING:
    import asyncio

    from ._host import BoundedHost, Host
    from ._lifetime import HostOwner
    from .futures import MiraiFuture

__all__ = ["AdmittingExecutor"]

P = ParamSpec("P")
T = TypeVar("T")


class AdmittingExecutor(Executor):
    """What executors and views have in common, as far as their queue may have a bound."""

    _host: "Host"

    def _root(self) -> "HostOwner":
        raise NotImplementedError

    def submit_source(self, source: str, /, **variables: Any) -> "MiraiFuture[Any]":
        """Schedule Python code, given as a string, to run on a daemon."""
        raise NotImplementedError

    def try_submit(
        self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> "MiraiFuture[T] | None":
        """Do as :meth:`submit`, unless the queue has no room: then return None at once.

        Without the executor's ``memory``, there always is room. Safe from any thread. A call that
        is turned away takes no random numbers of a ``seed``.

        Args:
            fn: The function.
            *args: Its positional arguments.
            **kwargs: Its keyword arguments.

        Returns:
            The future of the call, or None.

        Raises:
            TypeError: ``fn`` is not callable; so with all errors of :meth:`submit`.

        Example:
            >>> with MiraiExecutor(1, memory=10_000_000) as executor:
            ...     future = executor.try_submit(pow, 2, 10)
            ...     None if future is None else future.result()
            1024
        """
        future: MiraiFuture[T] | None
        future = self._try_to(partial(self.submit, fn, *args, **kwargs))
        return future

    def try_submit_source(self, source: str, /, **variables: Any) -> "MiraiFuture[Any] | None":
        """Do as :meth:`submit_source`, unless the queue has no room: then return None at once.

        Args:
            source: The code.
            **variables: The names that the code can use, and their values.

        Returns:
            The future of the value, or None.

        Raises:
            TypeError: ``source`` is not a string; so with all errors of :meth:`submit_source`.

        Example:
            >>> with MiraiExecutor(1, memory=10_000_000) as executor:
            ...     future = executor.try_submit_source("x + 1", x=41)
            ...     None if future is None else future.result()
            42
        """
        future: MiraiFuture[Any] | None
        future = self._try_to(partial(self.submit_source, source, **variables))
        return future

    def _try_to(self, submit: Callable[..., Any]) -> Any:
        gate, streams = self._host.gate, self._root()._streams
        if gate is None:
            return submit()
        if streams is None:
            return gate.try_to(submit)
        stream = streams.next()
        future = None
        try:
            future = gate.try_to(partial(submit, **streams.beside(stream)))
        finally:
            if future is None:
                streams.put_back(stream)
        return future

    async def room(self) -> None:
        """Wait, in a coroutine of asyncio, until the queue has room.

        After a call that :meth:`try_submit` has turned away, this waits until there is room for
        one of that size. Others may be faster, so try again in a loop. Returns at once if the
        executor has no ``memory``.

        Raises:
            RuntimeError: The executor has been shut down, before or meanwhile.

        Example:
            >>> import asyncio
            >>> async def submit(executor, fn, *args):
            ...     while (future := executor.try_submit(fn, *args)) is None:
            ...         await executor.room()
            ...     return await asyncio.wrap_future(future)
            >>> with MiraiExecutor(1, memory=10_000_000) as executor:
            ...     asyncio.run(submit(executor, pow, 2, 10))
            1024
        """
        self._root()._check_open()
        if self._host.gate is None:
            return
        import asyncio

        host = cast("BoundedHost", self._host)
        waits = asyncio.get_running_loop().create_future()
        id_ = host.next_id()
        try:
            host.call_when_room(id_, partial(_settle_soon, waits))
            await waits
        finally:
            host.give_up_room(id_)
        self._root()._check_open()


def _settle_soon(waits: "asyncio.Future[None]") -> None:
    """From any thread, let go of a coroutine."""
    loop = waits.get_loop()
    if not loop.is_closed():
        loop.call_soon_threadsafe(lambda: None if waits.done() else waits.set_result(None))
