"""Notices when an import begins and ends, that of a module which is not there yet.

Modules are never unloaded, so that what an import has set up must outlive its task as well.
"""

from __future__ import annotations

import _frozen_importlib
import sys
from _thread import get_ident

from mirai_executor._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

__all__ = ["watch_imports", "when_imported"]


def watch_imports(begin: Callable[[], None], end: Callable[[], None]) -> None:
    """Call ``begin`` before each import on this thread from now on, and ``end`` after it.

    An import inside of another one belongs to that one.
    """
    names = vars(_frozen_importlib)
    original = names.get("_find_and_load")  # every such import comes here, also from C
    if original is None:
        return
    thread, is_importing = get_ident(), False

    def _find_and_load(name: str, import_: object) -> object:
        nonlocal is_importing
        if is_importing or get_ident() != thread:
            return original(name, import_)
        try:
            is_importing = True
            begin()
            return original(name, import_)
        finally:
            is_importing = False
            end()

    # Python leaves the frames of its own file out of the traceback of an import that fails.
    file = original.__code__.co_filename
    _find_and_load.__code__ = _find_and_load.__code__.replace(co_filename=file)
    names["_find_and_load"] = _find_and_load


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
