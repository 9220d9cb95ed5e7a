"""Takes a step with a module once it has been imported, and imports nothing for that."""

from __future__ import annotations

import sys

from mirai_executor._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

__all__ = ["when_imported"]


def when_imported(steps: dict[str, Callable[[Any], None]]) -> None:
    """Take a step with each of these modules: now, or as soon as it has been imported."""
    for name in [name for name in steps if name in sys.modules]:
        steps.pop(name)(sys.modules[name])
    if steps:
        sys.meta_path.insert(0, _Finder(steps))


class _Finder:
    """Finds some modules, as the usual finder does, for their loaders to tell of them."""

    def __init__(self, steps: dict[str, Callable[[Any], None]]) -> None:
        self._steps = steps

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in self._steps:
            return None
        from importlib.machinery import PathFinder

        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self._steps[name])  # type: ignore[assignment]  # as a loader is
        return spec


class _Loader:
    """Loads a module, takes a step with it, and leaves no trace of itself."""

    def __init__(self, loader: Any, step: Callable[[Any], None]) -> None:
        self._loader = loader
        self._step = step

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._step(module)
