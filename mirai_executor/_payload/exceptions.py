"""Takes exceptions apart so that they come back whole, whatever their ``__init__`` wants.

Pickle rebuilds an exception as ``cls(*args)``: a keyword-only ``__init__`` fails there, and
whatever else it computed is computed from the wrong arguments. Here the instance is made by the
first builtin class among its bases, without ``__init__``; then it gets its attributes.
"""

from types import MemberDescriptorType, WrapperDescriptorType
from typing import Any, NamedTuple

__all__ = ["State", "fill_exception", "loses_itself", "make_exception", "reduce_directly", "slots"]

_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE
# AttributeError.obj and NameError.obj hold the whole object that lacked the name.
_LEFT_OUT = frozenset({"obj", "__suppress_context__"})


class State(NamedTuple):
    """What an exception has beside its class and arguments."""

    args: tuple[Any, ...]
    slots: dict[str, Any]  # of the builtin classes: errno, code, value, lineno ...
    attributes: dict[str, Any]


def loses_itself(cls: type[BaseException]) -> bool:
    """Tell whether an exception class relies on ``cls(*args)`` though it has its own making."""
    own_init = not isinstance(cls.__init__, WrapperDescriptorType)
    own_new = cls.__new__ is not _builtin_base(cls).__new__
    return not reduces_itself(cls) and (own_init or own_new)


def reduces_itself(cls: type[BaseException]) -> bool:
    """Tell whether a class says itself how it is pickled."""
    for base in cls.__mro__:
        if not base.__flags__ & _HEAP_TYPE:
            return False
        if not vars(base).keys().isdisjoint({"__reduce__", "__reduce_ex__", "__getstate__"}):
            return True
    return False


def reduce_directly(error: BaseException) -> tuple[Any, ...]:
    """Reduce an exception without asking it, and without its causes and traceback."""
    state = State(error.args, slots(error), dict(error.__dict__))
    return make_exception, (type(error), *making(error)), state, None, None, fill_exception


def making(error: BaseException) -> tuple[Any, ...]:
    """Return the arguments with which the builtin base makes such an exception."""
    if isinstance(error, BaseExceptionGroup):
        return error.message, error.exceptions
    return ()


def slots(error: BaseException) -> dict[str, Any]:
    """Return what the builtin bases of an exception keep beside ``args``."""
    found = {}
    for base in type(error).__mro__:
        if base.__flags__ & _HEAP_TYPE:
            continue
        for name, descriptor in vars(base).items():
            if isinstance(descriptor, MemberDescriptorType) and name not in _LEFT_OUT:
                value = getattr(error, name, None)
                if value is not None:  # an explicit None would spoil the text of an OSError
                    found[name] = value
    return found


def make_exception(cls: type[BaseException], *arguments: Any) -> BaseException:
    """Make an exception without running any code of its class."""
    return _builtin_base(cls).__new__(cls, *arguments)


def fill_exception(error: BaseException, state: State) -> None:
    """Give an exception its arguments, slots and attributes."""
    args, builtin_slots, attributes = state
    error.args = args
    for name, value in builtin_slots.items():
        try:
            setattr(error, name, value)
        except (AttributeError, TypeError):  # read-only: a group's message and members
            continue
    error.__dict__.update(attributes)


def _builtin_base(cls: type[BaseException]) -> type[BaseException]:
    return next(base for base in cls.__mro__ if not base.__flags__ & _HEAP_TYPE)
