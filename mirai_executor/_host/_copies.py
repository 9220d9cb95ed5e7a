"""Copies what tasks of this process are given and return, as if it had travelled to a daemon."""

from __future__ import annotations

from functools import partial
from types import FunctionType
from typing import TYPE_CHECKING, TypeVar

from mirai_executor._arena import whole
from mirai_executor._event_loop import EventLoop
from mirai_executor._payload.common.around import inside, take_around
from mirai_executor._payload.common.source import run_source
from mirai_executor._payload.daemon import Unawaited, encode_value
from mirai_executor._payload.host import CallEncoder, decode_value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from mirai_executor._payload.common.fast_pickle import Value
    from mirai_executor._payload.common.serial import Hooks

T = TypeVar("T")

# They run as themselves: to a debugger, a copy would be another one.
_FUNCTIONS = (FunctionType, type)


class Copies:
    """Makes calls of copies; what could not be sent to a daemon raises the same error.

    Args:
        serial: What the user has for classes, if anything.
    """

    def __init__(self, serial: Hooks | None) -> None:
        self._serial = serial

    def of_call(
        self, fn: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Callable[[], object]:
        """Return a call with copies of its arguments."""
        encoder = CallEncoder(serial=self._serial)
        encoder.encode(fn, args, kwargs, lasting=True, out_of_band=True)
        if isinstance(fn, _FUNCTIONS):
            args, kwargs = self.of((args, kwargs))
        else:
            fn, args, kwargs = self.of((fn, args, kwargs))
        around = take_around(kwargs)
        return partial(inside(around, fn), *args, **kwargs)

    def of_source(self, source: str, variables: Mapping[str, object]) -> Callable[..., object]:
        """Return what runs code with copies of its variables."""
        CallEncoder(serial=self._serial).encode_checked(source, variables)
        names = self.of(dict(variables))
        return partial(inside(take_around(names), run_source), source, names)

    def of(self, obj: T) -> T:
        """Return a copy of an object."""
        copied: T = decoded(self.encode(obj))
        return copied

    def run(self, prepare: Callable[[], Callable[[], object]]) -> Value:
        """Run a call, and return what it returns as it would travel."""
        try:
            return encode_value(prepare()(), out_of_band=True, serial=self._serial, awaited=False)
        except Unawaited as found:
            coroutine = found.coroutine
        loop = EventLoop()
        try:
            return self.encode(loop.run(coroutine))
        finally:
            loop.close()

    def encode(self, obj: object, *, out_of_band: bool = True) -> Value:
        """Return an object as it would travel."""
        return encode_value(obj, out_of_band=out_of_band, serial=self._serial)


def decoded(value: Value) -> Any:
    """Return the object, which shares no memory with the one that was encoded."""
    views: Any = value.buffers  # no lists: nothing is apart
    return decode_value(
        value.blob, [whole(view) if view.readonly else bytearray(view) for view in views]
    )
