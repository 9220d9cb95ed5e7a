"""Pickles what holds nothing of ``__main__`` at the speed of C, and gives up on the rest.

Numbers, texts, containers and arrays never meet any Python here. What does meet it is looked at
once for each class. The first object that plain pickle would get wrong ends the attempt: the
careful picklers of ``pickler.py`` begin again, and a ``__reduce__`` before it runs a second time.
"""

import sys
from types import BuiltinFunctionType, FunctionType, ModuleType

from mirai_executor._payload import pickles as pickle
from mirai_executor._payload.buffers import Beside, Value, dump_value
from mirai_executor._payload.entries import PROTOCOL, WITH_CARE
from mirai_executor._payload.places import Kind, kind_of
from mirai_executor._typing import Any

__all__ = ["dump_plainly", "is_imported"]


class _NeedsCare(Exception):  # noqa: N818 - a way out, not an error
    """Plain pickle is not enough."""


class _PlainPickler(pickle.Pickler):
    """Pickles by name what a fresh interpreter imports, and nothing that has another home.

    Args:
        file: Takes the bytes.
        beside: Takes large buffers.
    """

    def __init__(self, file: Any, beside: Beside | None) -> None:
        super().__init__(file, PROTOCOL, buffer_callback=beside)
        self._good: set[type] = set()

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind in self._good:
            return NotImplemented
        if kind is BuiltinFunctionType:
            return NotImplemented
        if kind is FunctionType or issubclass(kind, type):
            if not is_imported(obj):
                raise _NeedsCare
        elif _needs_care(kind) or not is_imported(kind):
            raise _NeedsCare
        else:
            self._good.add(kind)
        return NotImplemented


def dump_plainly(obj: object, *, out_of_band: bool = False, apart: bool = False) -> Value | None:
    """Pickle an object; None if only a careful pickler gets it right."""
    try:
        return dump_value(_PlainPickler, obj, out_of_band=out_of_band, apart=apart)
    except Exception:  # of the user's code, too: the careful pickler says what is wrong
        return None


def _needs_care(kind: type) -> bool:
    """Tell whether instances of a type may be pickled here in a way of our own."""
    if kind.__module__ not in WITH_CARE:
        return issubclass(kind, (ModuleType, BaseException))
    from mirai_executor._payload.pickler import needs_care  # with cloudpickle, and much else

    return needs_care(kind)


def is_imported(obj: Any) -> bool:
    """Tell whether a fresh interpreter imports a function or class by its name.

    home_of() in short, for names without a dot: this is on the path of every call.
    """
    module = sys.modules.get(obj.__module__)
    if module is None or vars(module).get(obj.__qualname__) is not obj:
        return False
    return kind_of(obj.__module__) is Kind.IMPORTABLE
