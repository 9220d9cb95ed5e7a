"""Turns results into bytes at a daemon.

What came from the host goes back as itself: an instance of a class of the host's ``__main__`` by
that class's name, one of a class without a name by the id under which the class travelled.
"""

from mirai_executor._payload.common import fast_pickle as pickle
from mirai_executor._payload.common.fast_pickle import (
    BRIEF,
    LARGE,
    PROTOCOL,
    Value,
    dump_plainly,
    is_short,
)
from mirai_executor._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mirai_executor._payload.common.serial import Hooks

_NONE = Value(pickle.dumps(None, PROTOCOL))


class Unawaited(Exception):  # noqa: N818 - no error, if somebody awaits it
    """A task has returned this coroutine."""

    def __init__(self, coroutine: Any) -> None:
        super().__init__(coroutine)
        self.coroutine = coroutine


def encode_value(
    value: object,
    *,
    out_of_band: bool = False,
    apart: bool = False,
    serial: "Hooks | None" = None,
    awaited: bool = True,
) -> Value:
    """Turn a result into bytes, and views of its large buffers in the user's own memory.

    Args:
        value: The result.
        out_of_band: Whether large buffers may travel beside the bytes.
        apart: Whether a large pickle may be one of them; only with ``out_of_band``.
        serial: What the user has for classes, if anything.
        awaited: False for what a task has returned, which may be a coroutine.

    Raises:
        Unawaited: It is one.
        PayloadError: It cannot be pickled; the message names the part.
        BaseException: What the user's own code raised while it was being pickled.
    """
    if value is None:
        return _NONE
    if type(value) in BRIEF or is_short(value):
        blob = pickle.dumps(value, PROTOCOL)
        if len(blob) < LARGE:
            # At half the cost of Value(...), for most results.
            return tuple.__new__(Value, (blob, ()))
    if not awaited and type(value).__name__ == "coroutine":
        raise Unawaited(value)
    plainly = dump_plainly if serial is None else serial.dump_plainly
    dumped = plainly(value, out_of_band=out_of_band, apart=apart)
    if isinstance(dumped, Value):
        return dumped
    from mirai_executor._payload.daemon.careful import (
        dump_carefully,
    )  # with cloudpickle, and much else

    return dump_carefully(value, dumped, out_of_band=out_of_band, apart=apart, serial=serial)


def encode_named(name: str, value: object, serial: "Hooks | None" = None) -> Value:
    """Do as :func:`encode_value`, out of band, for an object that an error calls by this name."""
    plainly = dump_plainly if serial is None else serial.dump_plainly
    dumped = plainly(value, out_of_band=True, apart=False)
    if isinstance(dumped, Value):
        return dumped
    from mirai_executor._payload.daemon.careful import dump_carefully

    return dump_carefully(value, dumped, out_of_band=True, apart=False, serial=serial, name=name)
