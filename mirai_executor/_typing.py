"""What the code of daemons needs of ``typing`` when it runs, without the import of it.

That takes milliseconds, with ``re`` and others, and each new daemon would wait for them. Type
checkers see the real ones; at run time, annotations may say what they like, as nobody reads them.
Named tuples are true ones, made without compiling anything until the first is made by a call.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any as Any
    from typing import Final as Final
    from typing import Generic as Generic
    from typing import NamedTuple as NamedTuple
    from typing import NoReturn as NoReturn
    from typing import Protocol as Protocol
    from typing import Self as Self
    from typing import TypeAlias as TypeAlias
    from typing import TypeVar as TypeVar
    from typing import get_args as get_args
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
            names = {f"_{field}": value for field, value in owner._field_defaults.items()}
            names["_new"] = tuple.__new__
            parameters = [f"{f}=_{f}" if f"_{f}" in names else f for f in owner._fields]
            values = "".join(f"{field}, " for field in owner._fields)
            text = f"lambda cls, {', '.join(parameters)}: _new(cls, ({values}))"
            # Compiled first: see _record.
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
    "NamedTuple",
    "NoReturn",
    "Protocol",
    "Self",
    "TypeAlias",
    "TypeVar",
    "get_args",
]
