"""What the code of daemons needs of ``typing`` and ``dataclasses``, without their import.

That of ``typing`` takes milliseconds, with ``re`` and others, and each new daemon would wait for
it. Type checkers see the real names; at run time, annotations may say what they like, as nobody
reads them. Named tuples are true ones, made without compiling anything before there are
some.

Records are classes that are little more than their fields. A dataclass with slots takes about half
a millisecond to come into being: the text of six methods is written and compiled, and the class is
made twice. There are more than forty on the way to the first task. Here they share all methods but
``__init__``, whose text is compiled once a class has some instances; most never do in a short
program.

::

    class Seen(Record):             Seen(3) == Seen(count=3, where="")
        count: int                  repr: Seen(count=3, where='')
        where: str = ""             case Seen(count): ...

Type checkers take a ``Record`` for a frozen dataclass; nothing else keeps it from being changed.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any as Any
    from typing import Final as Final
    from typing import Generic as Generic
    from typing import NamedTuple as NamedTuple
    from typing import NoReturn as NoReturn
    from typing import Protocol as Protocol
    from typing import Self as Self
    from typing import TypeAlias as TypeAlias
    from typing import TypeVar as TypeVar
    from typing import dataclass_transform
    from typing import get_args as get_args

    T = TypeVar("T")
else:
    try:
        from _collections import _tuplegetter
    except ImportError:  # it is CPython's own
        from operator import itemgetter

        def _tuplegetter(index, doc):
            return property(itemgetter(index), doc=doc)

    class Generic:
        """Can be given parameters, and does nothing with them."""

        __slots__ = ()

        def __class_getitem__(cls, _):
            return cls

    class _Form:
        def __getitem__(self, _):
            return object

    Any = NoReturn = Self = TypeAlias = object
    Protocol = Generic
    Final = _Form()

    def TypeVar(name):  # noqa: N802 - as it is called there
        """Return nothing of interest."""
        return object

    def dataclass_transform(**_):
        """Return what leaves a class as it is."""
        return lambda cls: cls

    def get_args(union):
        """Return the members of a union."""
        return union.__args__

    class _Tuple(tuple):
        """What all named tuples can do, and how one learns to be called."""

        __slots__ = ()
        _fields = ()
        _field_defaults = {}  # noqa: RUF012 - never changed

        def __new__(cls, *args, **kwargs):
            owner = next(base for base in cls.__mro__ if "_fields" in vars(base))
            if _is_rare(owner):
                values = _bound(owner, owner._fields, owner._field_defaults, args, kwargs)
                return tuple.__new__(cls, values)
            names = {f"_{field}": value for field, value in owner._field_defaults.items()}
            names["_new"] = tuple.__new__
            parameters = [f"{f}=_{f}" if f"_{f}" in names else f for f in owner._fields]
            values = "".join(f"{field}, " for field in owner._fields)
            text = f"lambda cls, {', '.join(parameters)}: _new(cls, ({values}))"
            # Compiled first: see _compiled_init.
            made = eval(compile(text, "<tuple>", "eval"), names)  # noqa: S307 - our own words
            made.__name__ = made.__qualname__ = "__new__"
            owner.__new__ = staticmethod(made)
            return made(cls, *args, **kwargs)

        def __repr__(self):
            fields = zip(self._fields, self, strict=True)
            return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in fields)})"

        def __getnewargs__(self):
            return tuple(self)

        @classmethod
        def _make(cls, values):
            return tuple.__new__(cls, values)

        def _asdict(self):
            return dict(zip(self._fields, self, strict=True))

        def _replace(self, **changes):
            values = [changes.pop(k, v) for k, v in zip(self._fields, self, strict=True)]
            if changes:
                raise ValueError(f"Got unexpected field names: {list(changes)}")
            return self._make(values)

    class _TupleType(type):
        def __new__(cls, name, bases, namespace):
            if (annotate := namespace.get("__annotate_func__")) is not None:  # Python 3.14
                annotations = annotate(1)
            else:
                annotations = namespace.get("__annotations__", {})
            fields = tuple(annotations)
            namespace["_field_defaults"] = {f: namespace[f] for f in fields if f in namespace}
            for index, field in enumerate(fields):
                namespace[field] = _tuplegetter(index, f"Alias for field number {index}")
            namespace.update(__slots__=(), __match_args__=fields, _fields=fields)
            return type(name, (_Tuple,), namespace)

    # Of no class of its own: what is derived from it is a tuple, and nothing else.
    NamedTuple = type.__new__(_TupleType, "NamedTuple", (), {})


__all__ = [
    "TYPE_CHECKING",
    "Any",
    "Final",
    "Generic",
    "Mutable",
    "NamedTuple",
    "NoReturn",
    "Protocol",
    "Record",
    "Self",
    "TypeAlias",
    "TypeVar",
    "get_args",
    "made_by",
]


class _MadeBy:
    def __init__(self, make: Callable[[], object]) -> None:
        self.make = make


def made_by(*, factory: Callable[[], T]) -> T:
    """Say that a field begins with what this returns, anew for each instance."""
    made: Any = _MadeBy(factory)
    return made  # type: ignore[no-any-return]  # the class takes it away


# The first text that a process compiles takes it 2 ms, in which Python makes the types of its ast.
# Short programs make no more than a few instances of each class: they do without.
_RARE = 8
_made: dict[type, int] = {}


def _is_rare(cls: type) -> bool:
    """Count the instances of a class; True for the first few."""
    _made[cls] = count = _made.get(cls, 0) + 1
    return count <= _RARE


def _bound(
    cls: type,
    fields: tuple[str, ...],
    defaults: dict[str, Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> list[Any]:
    """Return the value of each field, as a call with these arguments sets them."""
    given = dict(zip(fields, args, strict=False)) | kwargs
    lacking = [field for field in fields if field not in given and field not in defaults]
    if lacking or len(given) < len(args) + len(kwargs) or not given.keys() <= set(fields):
        raise TypeError(
            f"{cls.__qualname__} has the fields {', '.join(fields)}, and was called with "
            f"{len(args)} values and the names {', '.join(kwargs) or '-'}"
        )
    values = []
    for field in fields:
        default = defaults.get(field)
        value = given.get(field, default)
        if isinstance(default, _MadeBy) and (value is None or value is default):
            value = default.make()
        values.append(value)
    return values


def _begin(self: Any, *args: Any, **kwargs: Any) -> None:
    """Set the fields of an instance; when one after the other comes, compile what does that."""
    cls: Any = type(self)
    if _is_rare(cls):
        values = _bound(cls, cls._fields, cls._defaults, args, kwargs)
        for field, value in zip(cls._fields, values, strict=True):
            setattr(self, field, value)
        if hasattr(cls, "__post_init__"):
            self.__post_init__()
        return
    cls.__init__ = _compiled_init(cls)
    cls.__init__(self, *args, **kwargs)


def _compiled_init(cls: RecordType) -> Any:
    names: dict[str, Any] = {}
    parameters, body = [], []
    for field in cls._fields:
        default = cls._defaults.get(field, _NOTHING)
        value = field
        if isinstance(default, _MadeBy):
            names[f"_make_{field}"] = default.make
            value = f"_make_{field}() if {field} is None else {field}"
            default = None
        if default is not _NOTHING:
            names[f"_{field}"] = default
        parameters.append(field if default is _NOTHING else f"{field}=_{field}")
        body.append(f" self.{field} = {value}")
    if hasattr(cls, "__post_init__"):
        body.append(" self.__post_init__()")
    text = f"def __init__(self, {', '.join(parameters)}):\n" + ("\n".join(body) or " pass")
    # Not the text itself: to run that makes Python forget that a KeyboardInterrupt has ended the
    # process, if one has (run_eval_code_obj in CPython's pythonrun.c).
    exec(compile(text, "<record>", "exec"), names)  # noqa: S102 - our own words
    return names["__init__"]


_NOTHING: Any = object()


def _values(record: Any) -> tuple[Any, ...]:
    return tuple([getattr(record, field) for field in type(record)._fields])


def _shown(record: Any) -> str:
    fields = zip(type(record)._fields, _values(record), strict=True)
    return f"{type(record).__qualname__}({', '.join([f'{k}={v!r}' for k, v in fields])})"


@dataclass_transform(frozen_default=True, field_specifiers=(made_by,))
class RecordType(type):
    """Turns annotations into slots, and what they are set to into defaults."""

    _fields: tuple[str, ...]
    _defaults: dict[str, Any]

    def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> RecordType:
        if "__annotate_func__" in namespace or "__annotate__" in namespace:  # Python 3.14
            raise TypeError(f"{name} needs `from __future__ import annotations` in its module")
        fields = tuple(namespace.get("__annotations__", ()))
        defaults = {field: namespace.pop(field) for field in fields if field in namespace}
        parents = [vars(base) for base in bases if isinstance(base, RecordType)]
        for parent in reversed(parents):
            fields = parent["_fields"] + fields
            defaults = parent["_defaults"] | defaults
        namespace.update(
            __slots__=namespace.get("__annotations__", ()),
            __match_args__=fields,
            _fields=fields,
            _defaults=defaults,
        )
        namespace.setdefault("__init__", _begin)
        return super().__new__(cls, name, bases, namespace)


@dataclass_transform(frozen_default=False, eq_default=False, field_specifiers=(made_by,))
class _MutableType(RecordType):
    """The same; type checkers let fields be set."""


class Mutable(metaclass=_MutableType):
    """Base of what has fields that change, and is equal to itself alone."""

    def __repr__(self) -> str:
        return _shown(self)


class Record(metaclass=RecordType):
    """Base of what is its values, and equal to another of its class with the same ones."""

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return _values(self) == _values(other)

    def __hash__(self) -> int:
        return hash(_values(self))

    def __repr__(self) -> str:
        return _shown(self)

    def changed(self, **changes: Any) -> Self:
        """Return another one with these fields instead; TypeError if there is no such field."""
        return type(self)(**dict(zip(type(self)._fields, _values(self), strict=True)) | changes)
