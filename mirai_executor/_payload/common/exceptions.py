"""Takes exceptions apart so that they come back whole, whatever their ``__init__`` wants.

Pickle rebuilds an exception as ``cls(*args)``: a keyword-only ``__init__`` fails there, and
whatever else it computed is computed from the wrong arguments. Here the instance is made by the
builtin class whose layout it has, without ``__init__``; then it gets its attributes.
"""

from types import MemberDescriptorType, WrapperDescriptorType
from typing import Any, NamedTuple

# An attribute: what was taken down of the frames of an exception, until it is pickled.
POST_MORTEM = "_mirai_post_mortem"

_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE
# AttributeError.obj and NameError.obj hold the whole object that lacked the name.
_LEFT_OUT = frozenset({"obj", "__suppress_context__"})
_NOTHING = object()


class State(NamedTuple):
    """What an exception has beside its class and arguments."""

    args: tuple[Any, ...]
    slots: dict[str, Any]  # of the builtin classes: errno, code, value, lineno ...
    attributes: dict[str, Any]


class Words(NamedTuple):
    """What an exception says of itself."""

    text: str  # str()
    shown: str  # repr()


def loses_itself(cls: type[BaseException]) -> bool:
    """Tell whether an exception class relies on ``cls(*args)`` though it has its own making."""
    own_init = not isinstance(cls.__init__, WrapperDescriptorType)
    own_new = cls.__new__ is not _builtin_base(cls).__new__
    own_slots = any("__slots__" in vars(base) for base in cls.__mro__)
    return not reduces_itself(cls) and (own_init or own_new or own_slots)


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
    """Return what an exception keeps beside ``args`` and its ``__dict__``."""
    found = {}
    for base in type(error).__mro__:
        is_builtin = not base.__flags__ & _HEAP_TYPE
        for name, descriptor in vars(base).items():
            if isinstance(descriptor, MemberDescriptorType) and name not in _LEFT_OUT:
                value = getattr(error, name, _NOTHING)
                # An explicit None would spoil the text of an OSError.
                if value is not _NOTHING and not (is_builtin and value is None):
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


def own_words(error: BaseException) -> Words | None:
    """Return what an exception says of itself by code of its own; None if that fails."""
    cls = type(error)
    if isinstance(cls.__str__, WrapperDescriptorType) and isinstance(
        cls.__repr__, WrapperDescriptorType
    ):
        return None  # it needs nothing but its arguments
    try:
        return Words(str(error), repr(error))
    except KeyboardInterrupt:
        raise
    except BaseException:  # the user's code may raise anything
        return None


def make_spoken_for(
    cls: type[BaseException], words: Words, state: State | None, *arguments: Any
) -> BaseException:
    """Make an exception that has lost what its own ``__str__`` or ``__repr__`` needs.

    It is of a subclass that looks like its class, and says what the whole one has said.
    """

    def __reduce__(error: BaseException) -> tuple[Any, ...]:  # noqa: N807 - it becomes one
        kept = State(error.args, slots(error), dict(error.__dict__))
        return make_spoken_for, (cls, words, kept, *making(error))

    names = {
        "__doc__": cls.__doc__,
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__reduce__": __reduce__,
        "__repr__": lambda _: words.shown,
        "__str__": lambda _: words.text,
    }
    metaclass: type = type(cls)
    made = make_exception(metaclass(cls.__name__, (cls,), names), *arguments)
    if state is not None:
        fill_exception(made, state)
    return made


def _builtin_base(cls: type[BaseException]) -> type[BaseException]:
    """Return the builtin class that makes instances: not always the first of several."""
    base: type = cls
    while base.__flags__ & _HEAP_TYPE:
        assert base.__base__ is not None  # noqa: S101 - for the type checker
        base = base.__base__
    return base
