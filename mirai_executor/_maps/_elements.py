"""Tells what the elements of a ``mirai_map`` are, and calls its function with one of them.

::

    what is given                   its elements     the call               keys
    a mapping                       its values       fn(value)              keys
    a frame (pandas, polars)        its rows         fn(column=value, ...)  index, if of strings
    an array of two dimensions      its rows         fn(*row)               none
    a series (pandas)               its items        fn(item)               index, if of strings
    any other iterable              its items        fn(item)               none

Frames are known by what they can do: nothing of another library is imported.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mirai_executor._typing import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable


class Elements(NamedTuple):
    """What a map goes over.

    Args:
        values: The elements.
        keys: One for each of them; None if they only have their places.
        call: Calls a function with one of them, and with what is the same for all.
    """

    values: list[Any]
    keys: list[Any] | None
    call: Callable[..., Any]

    def names(self) -> Sequence[Any]:
        """Return what each of them is called by: its key, or else its place."""
        return range(len(self.values)) if self.keys is None else self.keys


def call_with_value(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], value: Any
) -> Any:
    """Call a function with one thing."""
    return fn(value, *args, **kwargs)


def call_with_row(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], row: Iterable[Any]
) -> Any:
    """Call a function with the items of a row of an array."""
    return fn(*row, *args, **kwargs)


def call_with_columns(
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    row: Mapping[str, Any],
) -> Any:
    """Call a function with a row of a frame, by the names of its columns."""
    return fn(*args, **row, **kwargs)


def check_call(fn: object, args: object, kwargs: object) -> None:
    """Require a function, and what can be the same for all of its calls.

    Raises:
        TypeError: One of them is something else.
    """
    if not callable(fn):
        raise TypeError(
            "mirai_map() takes the elements, and then a function that is called with each: write "
            f"mirai_map(xs, f); got {fn!r:.60} as the function"
        )
    if isinstance(args, (str, bytes)) or not hasattr(type(args), "__iter__"):
        raise TypeError(f"args must be a tuple of arguments, not {args!r:.60}")
    if not (kwargs is None or isinstance(kwargs, Mapping)):
        raise TypeError(f"kwargs must be a dict of arguments, not {kwargs!r:.60}")
    if not all(isinstance(name, str) for name in kwargs or ()):
        raise TypeError(f"kwargs must have names of arguments as keys, not {kwargs!r:.60}")


def function_of(
    fn: Callable[..., Any], elements: Elements, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Callable[[Any], Any]:
    """Return what calls a function with an element, and with what is the same for all."""
    if elements.call is call_with_value and not args and not kwargs:
        return fn
    return functools.partial(elements.call, fn, args, kwargs)


def elements_of(xs: Any) -> Elements:
    """Return the elements of what a map goes over.

    Raises:
        TypeError: It has none, or a frame has columns that cannot be names of arguments.
    """
    if isinstance(xs, Mapping):
        return Elements(list(xs.values()), list(xs), call_with_value)
    if hasattr(xs, "columns") and hasattr(xs, "itertuples"):  # pandas
        rows = _rows(xs.columns, xs.itertuples(index=False, name=None))
        return Elements(rows, _labels(xs.index), call_with_columns)
    if hasattr(xs, "columns") and hasattr(xs, "iter_rows"):  # polars
        return Elements(_rows(xs.columns, xs.iter_rows()), None, call_with_columns)
    if getattr(xs, "ndim", None) == 2:
        return Elements(list(xs), None, call_with_row)
    if hasattr(xs, "index") and hasattr(xs, "to_frame"):  # a series of pandas
        return Elements(list(xs), _labels(xs.index), call_with_value)
    try:
        return Elements(list(xs), None, call_with_value)
    except TypeError as error:
        if hasattr(type(xs), "__iter__"):  # it is its own
            raise
        hint = "; the function comes second" if callable(xs) else ""
        raise TypeError(
            "mirai_map() takes an iterable, a mapping, a frame or an array of elements, "
            f"not {xs!r:.60}{hint}"
        ) from error


def _rows(columns: Iterable[Any], rows: Iterable[tuple[Any, ...]]) -> list[dict[str, Any]]:
    names = list(columns)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(
                "the columns of a frame become names of arguments, and must be strings, not "
                f"{name!r:.60}: rename them, or map over its rows, as frame.itertuples() has them"
            )
    if len(set(names)) < len(names):
        raise TypeError("the columns of a frame become names of arguments: no two may be the same")
    return [dict(zip(names, row, strict=True)) for row in rows]


def _labels(index: Iterable[Hashable]) -> list[Any] | None:
    """Return what rows or items are called by; None if it is no more than their numbers."""
    labels = list(index)
    are_names = bool(labels) and all(isinstance(label, str) for label in labels)
    return labels if are_names and len(set(labels)) == len(labels) else None
