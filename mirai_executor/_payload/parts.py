"""Tells whether somebody has put another part into a function.

Its code cannot change, but everything else can be replaced, even the code as a whole. What its
dicts and cells hold is left to those who ask.
"""

from types import FunctionType
from typing import Any

__all__ = ["Parts"]

_HAS_TYPE_PARAMETERS = hasattr(FunctionType, "__type_params__")  # Python 3.12


class Parts:
    """The parts of a function at one moment. It keeps them alive."""

    def __init__(self, function: FunctionType) -> None:
        self.code, self.doc = function.__code__, function.__doc__
        self.defaults, self.kwdefaults = function.__defaults__, function.__kwdefaults__
        self.attributes, self.annotations = function.__dict__, function.__annotations__
        self.name, self.qualname = function.__name__, function.__qualname__
        self.module = function.__module__
        self.type_parameters: Any = getattr(function, "__type_params__", ())

    def are_those_of(self, function: FunctionType) -> bool:
        """Tell whether they still are its parts. On the path of every call: hence no loop."""
        return (
            function.__code__ is self.code
            and function.__defaults__ is self.defaults
            and function.__kwdefaults__ is self.kwdefaults
            and function.__dict__ is self.attributes
            and function.__annotations__ is self.annotations
            and function.__name__ is self.name
            and function.__qualname__ is self.qualname
            and function.__module__ is self.module
            and function.__doc__ is self.doc
            and not (
                _HAS_TYPE_PARAMETERS and function.__type_params__ is not self.type_parameters  # type: ignore[attr-defined]
            )
        )
