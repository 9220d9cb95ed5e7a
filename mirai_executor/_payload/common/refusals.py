"""Decides whether what plain pickle refuses would be refused by the careful picklers as well.

Then nothing has to be pickled twice before its error is there.
"""

import copyreg
import io
import sys
from types import FunctionType, ModuleType

from mirai_executor._payload.common.reducers import is_inherited, reducer_of, registered_reducer
from mirai_executor._typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from mirai_executor._payload.common.fast_pickle import PlainPickler

# Where one of these is a class's own, its code decides how its instances are pickled.
_OWN_WAYS = frozenset(
    {
        "__getattr__",
        "__getattribute__",
        "__getnewargs__",
        "__getnewargs_ex__",
        "__getstate__",
        "__reduce__",
        "__reduce_ex__",
    }
)


class Refusal(NamedTuple):
    """An error that a careful pickler would end in as well, and the pickler that has met it."""

    pickler: "PlainPickler"
    error: Exception


def refusal_of(pickler: "PlainPickler", error: Exception) -> Refusal | None:
    """Return why an attempt to pickle has ended for good; None if careful picklers may do better.

    Args:
        pickler: What has made the attempt.
        error: What that has ended in.
    """
    if isinstance(error, RecursionError):  # a careful pickler goes deeper
        return Refusal(pickler, error)
    culprit: Any = pickler.culprit
    if not (is_as_it_looks(type(culprit)) or _is_open_file(culprit)):
        return None
    try:
        culprit.__reduce_ex__(2)  # in C; it is the same for all protocols from 2 on
    except TypeError as refused:
        refused.__context__ = None  # it is the same, in words that say less
        return Refusal(pickler, refused.with_traceback(None))
    except Exception:  # no refusal, whatever it is
        return None
    return None


def _is_open_file(obj: object) -> bool:
    if obj is sys.stdout or obj is sys.stderr:  # which have names
        return False
    kind = type(obj)
    return kind.__module__ == "_io" and isinstance(obj, io.IOBase) and not _is_registered(kind)


def is_as_it_looks(kind: type) -> bool:
    """Tell whether instances are pickled as their class and their attributes, by no code but ours.

    But for the hooks that users register at an executor.
    """
    return not (
        issubclass(kind, (type, FunctionType, ModuleType, BaseException))
        or not all(_OWN_WAYS.isdisjoint(vars(base)) for base in kind.__mro__[:-1])
        or reducer_of(kind) is not None
        or is_inherited(kind)
        or _is_registered(kind)
    )


def _is_registered(kind: type) -> bool:
    return kind in copyreg.dispatch_table or registered_reducer(kind) is not None
