"""Has a package import a module of its own only when somebody asks for a name of it.

What a program never uses costs it nothing then: to import a small module takes a third of a
millisecond, and some bring others that take ten.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

__all__ = ["lazy_imports"]


def lazy_imports(package: str, rooms: "Mapping[str, Iterable[str]]") -> "Callable[[str], Any]":
    """Return the ``__getattr__`` of a package.

    Args:
        package: Its name.
        rooms: The names that each of its modules has, to be found in the package.
    """
    room_of = {name: room for room, names in rooms.items() for name in names}

    def __getattr__(name: str) -> "Any":  # noqa: N807 - it becomes that of a module
        room = room_of.get(name)
        if room is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        from importlib import import_module

        try:
            value = getattr(import_module(f"{package}.{room}"), name)
        except AttributeError as error:
            # As an AttributeError, it would only say that the name does not exist: `from ...
            # import` and hasattr() hide the cause.
            message = f"cannot import name {name!r} from {package!r}: {error}"
            raise ImportError(message, name=name) from error
        vars(import_module(package))[name] = value  # the next time, nobody asks here
        return value

    return __getattr__
