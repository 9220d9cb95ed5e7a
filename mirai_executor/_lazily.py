"""Puts imports off: those of our own modules, and what we do with those of others.

A package imports a module of its own only when somebody asks for a name of it. What a program
never uses costs it nothing then: to import a small module takes a third of a millisecond, and some
bring others that take ten. Nor is a module of others imported only for a step to be taken with it.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any


def lazy_imports(
    door: str,
    rooms: "Mapping[str, str]",
    *,
    package: str = "",
    on_windows: "Container[str] | None" = None,
) -> "Callable[[str], Any]":
    """Return the ``__getattr__`` of a module in which the names of others are found.

    Args:
        door: The name of that module.
        rooms: The names that each of the others has; in one string, with spaces between them.
        package: Where the others are, if not in ``door``.
        on_windows: Those of them that Windows has all for; None for all of them.
    """
    room_of = {name: room for room, names in rooms.items() for name in names.split()}

    def __getattr__(name: str) -> "Any":  # noqa: N807 - it becomes that of a module
        room = room_of.get(name)
        if room is None:
            raise AttributeError(f"module {door!r} has no attribute {name!r}")
        if sys.platform == "win32" and on_windows is not None and room not in on_windows:
            message = "mirai_executor runs on Linux and macOS; on Windows, use WSL"
            raise ImportError(message, name=name)
        from importlib import import_module

        try:
            value = getattr(import_module(f"{package or door}.{room}"), name)
        except AttributeError as error:
            # As an AttributeError, it would only say that the name does not exist: `from ...
            # import` and hasattr() hide the cause.
            message = f"cannot import name {name!r} from {door!r}: {error}"
            raise ImportError(message, name=name) from error
        vars(sys.modules[door])[name] = value  # the next time, nobody asks here
        return value

    return __getattr__


def when_imported(steps: "dict[str, Callable[[Any], None]]") -> None:
    """Take a step with each of these modules: now, or as soon as it has been imported."""
    for name in [name for name in steps if name in sys.modules]:
        steps.pop(name)(sys.modules[name])
    if steps:
        sys.meta_path.insert(0, _WatchingFinder(steps))


class _WatchingFinder:
    """Finds some modules, as the usual finder does, for their loaders to tell of them."""

    def __init__(self, steps: "dict[str, Callable[[Any], None]]") -> None:
        self._steps = steps

    def find_spec(
        self, name: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        if name not in self._steps:
            return None
        from importlib.machinery import PathFinder

        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self._steps[name])  # type: ignore[assignment]  # as a loader is
        return spec


class _Loader:
    """Loads a module, takes a step with it, and leaves no trace of itself."""

    def __init__(self, loader: "Any", step: "Callable[[Any], None]") -> None:
        self._loader = loader
        self._step = step

    def __getattr__(self, name: str) -> "Any":
        return getattr(self._loader, name)

    def create_module(self, spec: "ModuleSpec") -> "ModuleType | None":
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: "ModuleType") -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._step(module)
