"""What stands around the function of a task where that is to run in a way of its own."""

from collections.abc import Callable

from mirai_executor._typing import Any

__all__ = ["Around", "innermost"]


class Around:
    """A function that is called by another one. Subclasses say how."""

    def __init__(self, fn: Callable[..., object]) -> None:
        self.__wrapped__ = fn

    def __call__(self, *args: Any, **kwargs: Any) -> object:
        raise NotImplementedError


def innermost(fn: Any) -> Any:
    """Return what all others stand around."""
    while isinstance(fn, Around):
        fn = fn.__wrapped__
    return fn
