"""The daemon's side: the bytes of calls become calls to run, and outcomes bytes.

What came from the host goes back as itself: an instance of a class of the host's ``__main__`` by
that class's name, one of a class without a name by the id under which the class travelled.
"""

from mirai_executor._lazily import lazy_imports
from mirai_executor._payload.common import buffers as pickle
from mirai_executor._payload.common.buffers import (
    BRIEF,
    LARGE,
    Value,
    decode_plain,
    is_short,
)
from mirai_executor._payload.common.entries import PROTOCOL
from mirai_executor._payload.common.fast_pickle import dump_plainly
from mirai_executor._payload.common.preparation import LogLevels, Preparation, inherit
from mirai_executor._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mirai_executor._payload.daemon.failures import encode_error
    from mirai_executor._payload.daemon.mainimport import importing_main
    from mirai_executor._payload.daemon.namespace import Namespace
else:  # what only some tasks need, or a host that shares memory does not
    __getattr__ = lazy_imports(
        __name__,
        {
            "failures": ("encode_error",),
            "mainimport": ("importing_main",),
            "namespace": ("Namespace",),
        },
    )

__all__ = [
    "LogLevels",
    "Namespace",
    "Preparation",
    "Unawaited",
    "decode_plain",
    "encode_error",
    "encode_named",
    "encode_value",
    "importing_main",
    "inherit",
]

_NONE = Value(pickle.dumps(None, PROTOCOL))


class Unawaited(Exception):  # noqa: N818 - no error, if somebody awaits it
    """A task has returned this coroutine."""

    def __init__(self, coroutine: Any) -> None:
        super().__init__(coroutine)
        self.coroutine = coroutine


def encode_value(
    value: object, *, out_of_band: bool = False, apart: bool = False, awaited: bool = True
) -> Value:
    """Turn a result into bytes, and views of its large buffers in the user's own memory.

    Args:
        value: The result.
        out_of_band: Whether large buffers may travel beside the bytes.
        apart: Whether a large pickle may be one of them; only with ``out_of_band``.
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
    dumped = dump_plainly(value, out_of_band=out_of_band, apart=apart)
    if dumped is not None:
        return dumped
    from mirai_executor._payload.daemon.careful import (
        dump_carefully,
    )  # with cloudpickle, and much else

    return dump_carefully(value, out_of_band=out_of_band, apart=apart)


def encode_named(name: str, value: object) -> Value:
    """Do as :func:`encode_value`, out of band, for an object that an error calls by this name."""
    dumped = dump_plainly(value, out_of_band=True, apart=False)
    if dumped is not None:
        return dumped
    from mirai_executor._payload.daemon.careful import dump_carefully

    return dump_carefully(value, out_of_band=True, apart=False, name=name)
