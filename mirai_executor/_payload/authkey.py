"""Gives multiprocessing the host's key, by which the two of them know each other.

A daemon does without multiprocessing until one of its tasks imports it: then is early enough.
"""

from __future__ import annotations

import sys

from mirai_executor._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

__all__ = ["set_authkey"]

_MODULE = "multiprocessing.process"


def set_authkey(key: bytes) -> None:
    """Set the key of this process, now or as soon as it can have one."""
    if _MODULE in sys.modules:
        _set(sys.modules[_MODULE], key)
    else:
        sys.meta_path.insert(0, _Finder(key))


def _set(process: Any, key: bytes) -> None:
    process.current_process().authkey = key


class _Finder:
    """Finds one module, as the usual finder does, for its loader to be told."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _MODULE:
            return None
        from importlib.machinery import PathFinder

        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self._key)  # type: ignore[assignment]  # as a loader is
        return spec


class _Loader:
    """Loads the module, sets the key, and leaves no trace of itself."""

    def __init__(self, loader: Any, key: bytes) -> None:
        self._loader = loader
        self._key = key

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
        _set(module, self._key)
