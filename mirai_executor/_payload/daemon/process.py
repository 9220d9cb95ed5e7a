"""Gives a daemon's process what its host's has: ``__main__``, ``sys.path``, arguments, folder."""

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType

from mirai_executor._payload.common import rebuild
from mirai_executor._payload.common.importable import MAIN
from mirai_executor._payload.common.preparation import Preparation
from mirai_executor._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mirai_executor._payload.common.inheritance import Inheritance

__all__ = ["forget_where_modules_were", "inherit", "make_main", "path_of", "prepare_process"]


def inherit(what: "Inheritance") -> None:
    """Note that this process has been forked from its host, and what it has from there."""
    rebuild.inheritance = what


def make_main(find: Callable[[str], object], preparation: Preparation) -> ModuleType:
    """Make the daemon's ``__main__``, which asks ``find`` for the names that it does not have.

    One that was forked has that of its host, in which its functions look for their globals.
    """
    inherited: Any = sys.modules[MAIN] if rebuild.inheritance is not None else None
    base: Any = ModuleType if inherited is None else type(inherited)

    class Main(base):  # type: ignore[misc]  # known at run time
        # Of the class, and its state in a closure: the module's dict is the user's.
        def __getattr__(self, name: str) -> object:
            # inspect.getmodule asks every __main__ for every name; that is no wish to import it.
            if sys._getframe(1).f_globals.get("__name__") == "inspect":  # noqa: SLF001 - documented
                raise AttributeError(name)
            return find(name)

    if inherited is not None:
        with contextlib.suppress(TypeError):  # it is no module, but what stands for one
            inherited.__class__ = Main
        return inherited  # type: ignore[no-any-return]  # as good as a module
    main = Main(MAIN)
    main.__dict__["__builtins__"] = __builtins__
    if preparation.main_file is not None:
        main.__file__ = preparation.main_file
    main.__package__ = preparation.main_package
    if preparation.main_spec_name is not None:
        # What a task starts by multiprocessing's spawn finds its main module by this name.
        main.__spec__ = type(importlib.__spec__)(preparation.main_spec_name, None)
    return main


def prepare_process(preparation: Preparation) -> None:
    """Take over ``sys.path``, ``sys.argv`` and the working directory, if it exists here."""
    sys.path[:] = path_of(preparation, preparation.sys_path, sys.path)
    forget_where_modules_were()
    sys.argv = list(preparation.argv)
    if not preparation.is_elsewhere or _may_go_where_host_is(preparation.cwd):
        # On another machine it may not exist.
        with contextlib.suppress(OSError):
            os.chdir(preparation.cwd)


def path_of(preparation: Preparation, host_path: Sequence[str], own: Sequence[str]) -> list[str]:
    """Return ``sys.path`` for this daemon, from its host's and from what it has started with."""
    if not preparation.is_elsewhere:
        return list(host_path)
    from mirai_executor._payload.daemon import folders  # not for daemons of the host's machine

    return folders.path_of(preparation, host_path, own)


def _may_go_where_host_is(cwd: str) -> bool:
    if not _is_where_anything_starts():
        return False
    from mirai_executor._payload.daemon.folders import may_take

    return may_take(cwd)


def _is_where_anything_starts() -> bool:
    """Tell whether nobody has chosen this process's directory: logins and services start here."""
    for usual in ("/", os.environ.get("HOME", "/")):
        with contextlib.suppress(OSError):
            if os.path.samefile(".", usual):  # noqa: PTH121 - importing pathlib takes milliseconds
                return True
    return False


def forget_where_modules_were() -> None:
    """Do as ``importlib.invalidate_caches`` does.

    Since Python 3.12, that imports ``importlib.metadata`` first, which takes longer than all the
    other imports of a daemon together.
    """
    if "importlib.metadata" in sys.modules:
        importlib.invalidate_caches()
        return
    for entry, path_finder in list(sys.path_importer_cache.items()):
        if path_finder is None:  # there was no such folder
            sys.path_importer_cache.pop(entry, None)
        else:
            _invalidate(path_finder)
    for finder in sys.meta_path:
        if getattr(finder, "__name__", "") != "PathFinder":  # whose caches these were
            _invalidate(finder)


def _invalidate(finder: Any) -> None:
    if hasattr(finder, "invalidate_caches"):
        finder.invalidate_caches()
