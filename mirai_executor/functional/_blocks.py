"""Makes functions of all kinds run inside a block, for as long as their own code runs."""

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractContextManager
from typing import Any, TypeAlias, TypeVar

F = TypeVar("F", bound=Callable[..., Any])
_Block: TypeAlias = Callable[[], AbstractContextManager[object]]


def inside(block: _Block, fn: F) -> F:
    """Return a function that does as another one, but inside a block, a new one for each call.

    A coroutine is in its block until it ends. A generator is each time it goes on, and not while
    it waits to be asked again: that time belongs to the one that asks.

    Raises:
        TypeError: It cannot be called.
    """
    if not callable(fn):
        raise TypeError(f"only functions can be decorated, not {fn!r:.60}; put @classmethod above")
    wrap: Callable[[_Block, F], Any] = _call
    if inspect.iscoroutinefunction(fn):
        wrap = _coroutine
    elif inspect.isasyncgenfunction(fn):
        wrap = _async_generator
    elif inspect.isgeneratorfunction(fn):
        wrap = _generator
    wrapped: Any = functools.wraps(fn)(wrap(block, fn))
    return wrapped  # type: ignore[no-any-return]  # it can be called as fn can


def _call(block: _Block, fn: Callable[..., Any]) -> Any:
    def run(*args: Any, **kwargs: Any) -> Any:
        with block():
            return fn(*args, **kwargs)

    return run


def _coroutine(block: _Block, fn: Callable[..., Any]) -> Any:
    async def run(*args: Any, **kwargs: Any) -> Any:
        with block():
            return await fn(*args, **kwargs)

    return run


def _generator(block: _Block, fn: Callable[..., Generator[Any, Any, Any]]) -> Any:
    def run(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        generator = fn(*args, **kwargs)
        step: Callable[[], Any] = functools.partial(next, generator)
        while True:
            try:
                with block():
                    item = step()
            except StopIteration as stop:
                return stop.value
            try:
                step = functools.partial(generator.send, (yield item))
            except GeneratorExit:
                with block():
                    generator.close()
                raise
            except BaseException as error:  # it is for the generator, as with `yield from`
                step = functools.partial(generator.throw, error)

    return run


def _async_generator(block: _Block, fn: Callable[..., AsyncGenerator[Any, Any]]) -> Any:
    async def run(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        generator = fn(*args, **kwargs)
        step: Callable[[], Any] = functools.partial(anext, generator)
        while True:
            try:
                with block():
                    item = await step()
            except StopAsyncIteration:
                return
            try:
                step = functools.partial(generator.asend, (yield item))
            except GeneratorExit:
                with block():
                    await generator.aclose()
                raise
            except BaseException as error:  # as above
                step = functools.partial(generator.athrow, error)

    return run
