"""Finds the annotations of functions and classes as they were written, and evaluates none.

Python 3.14 evaluates them when somebody asks for ``__annotations__``: that runs code of the user,
which may need names that only type checkers import. What travels there is the function that does
it, ``__annotate__``.
"""

from types import CellType, FunctionType

from mirai_executor._typing import Any

_CLASS_SLOT = "__annotate_func__"  # of a class's namespace


def of_function(function: FunctionType) -> tuple[str, Any]:
    """Return the name of the attribute that says the annotations of a function, and its value."""
    annotate = getattr(function, "__annotate__", None)
    if annotate is None:  # or they were set, or are texts by "from __future__ import annotations"
        return "__annotations__", function.__annotations__
    return "__annotate__", _detached(annotate)


def of_class(cls: type) -> dict[str, Any]:
    """Return what has to be set in the namespace of a class."""
    annotate = vars(cls).get(_CLASS_SLOT)
    # That of a TypedDict is typing's, and would take what it sees of typing along, by value.
    if annotate is None or getattr(annotate, "__module__", None) != cls.__module__:
        return {}
    return {_CLASS_SLOT: _detached(annotate)}


def _detached(annotate: Any) -> Any:
    """Return a copy that travels without the function or class that it belongs to.

    It has no name, by which the other side would look for it before it is there; and of the
    namespace of its class it holds no more than what it looks up.
    """
    if type(annotate) is not FunctionType:
        return annotate
    cells = zip(annotate.__code__.co_freevars, annotate.__closure__ or (), strict=True)
    closure = tuple(
        _excerpt(annotate, cell) if name == "__classdict__" else cell for name, cell in cells
    )
    copy = FunctionType(
        annotate.__code__, annotate.__globals__, annotate.__name__, annotate.__defaults__, closure
    )
    copy.__qualname__ = "<annotate>"
    return copy


def _excerpt(annotate: FunctionType, cell: CellType) -> CellType:
    from mirai_executor._payload.common.names import names_of  # with dis, which takes milliseconds

    names: dict[str, Any] = cell.cell_contents
    return CellType({k: names[k] for k in names_of(annotate.__code__).globals if k in names})
