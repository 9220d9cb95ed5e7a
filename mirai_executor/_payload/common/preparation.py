"""What a daemon must know of its host's process before it can read a call, and takes over.

These are ``__main__``, ``sys.path``, the arguments and the folder.
"""

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType

from mirai_executor._payload.common.fast_pickle import PROTOCOL, dumps, loads
from mirai_executor._payload.common.importable import MAIN
from mirai_executor._typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from mirai_executor._payload.common.inheritance import Inheritance

# Programs whose main file is not the user's (as in multiprocessing.spawn), by their names without
# a suffix: that of a script may be any, or none.
_NOT_THE_USERS = frozenset({"__main__", "ipython", "ipython3"})
_COMPILED = ".pyc"
SOURCES = (".py", ".pyw")


class Preparation(NamedTuple):
    """What a daemon takes over from the host before its first call.

    ``main_path`` or ``main_name`` (of ``python -m``) says where a name of ``__main__`` that never
    came could be found, as a last resort, and ``main`` whether that may be run: "auto" if it has a
    guard, "import" in any case, "value" never. ``authkey`` is a secret; it stays on this machine.
    ``host`` and ``host_pid`` are the name that multiprocessing has for the host's process, and its
    number on this machine; ``identity`` is how it tells the daemon from its siblings.
    ``prefixes`` are where the host's interpreter has its libraries: empty for a daemon on the same
    machine, which has the same. ``variables`` are added to its environment; ``gpus`` is how many
    it takes of those that it finds, 0 if it leaves them as they are. ``executor`` is the name of
    the host's executor, if it has one, and ``shows_state`` whether the system is to be shown what
    the daemon does.
    """

    sys_path: tuple[str, ...]
    cwd: str
    argv: tuple[str, ...]
    authkey: bytes
    main_path: str | None
    main_name: str | None
    main_file: str | None
    main_package: str | None
    host: str
    host_pid: int | None
    identity: tuple[int, ...]
    prefixes: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()
    gpus: int = 0
    executor: str = ""
    shows_state: bool = False
    main: str = "auto"

    def elsewhere(self) -> "Preparation":
        """Return what a daemon on another machine takes over."""
        found = dict.fromkeys((sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix))
        return self._replace(authkey=b"", host_pid=None, prefixes=tuple(found))

    def titled(self, executor: str | None) -> "Preparation":
        """Return it with what the daemon's title is made of, for an executor of this name.

        Its state is part of that where the host uses setproctitle: its import takes milliseconds.
        """
        shows_state = "setproctitle" in sys.modules
        if not executor and not shows_state:
            return self
        return self._replace(executor=executor or "", shows_state=shows_state)

    @property
    def is_elsewhere(self) -> bool:
        """Whether the daemon may be on another machine, in a directory that was chosen there."""
        return bool(self.prefixes)

    @property
    def main_spec_name(self) -> str | None:
        """What the spec of the host's main module calls it, if it was run by ``python -m``."""
        if self.main_name is None and os.path.basename(self.main_file or "") == "__main__.py":  # noqa: PTH119
            return f"{self.main_package or ''}.{MAIN}".lstrip(".")  # a package, folder or archive
        return self.main_name

    @staticmethod
    def of_this_process(slot: int = 1) -> "Preparation":
        """Describe this process, as the host of the daemon that has this place among others."""
        import multiprocessing  # a host has it: it comes with concurrent.futures.process

        process = multiprocessing.current_process()
        main = sys.modules[MAIN]
        spec = getattr(main, "__spec__", None)
        name = getattr(spec, "name", None)
        file = getattr(main, "__file__", None)
        file = os.path.abspath(file) if isinstance(file, str) else None  # noqa: PTH100 - a link stays a link
        return Preparation(
            sys_path=tuple(host_sys_path()),
            cwd=_cwd(),
            argv=tuple(map(str, getattr(sys, "argv", ()))),
            authkey=bytes(process.authkey),
            # Without a suffix, it may be the start of any tool, which is not run on a suspicion.
            main_path=_script(file) if not name and file and file.endswith(SOURCES) else None,
            # A package's __main__ runs unconditionally: nothing there can be imported.
            main_name=name if name and name.rpartition(".")[2] != MAIN else None,
            main_file=file,
            main_package=getattr(main, "__package__", None),
            host=process.name,
            host_pid=os.getpid(),
            identity=(*getattr(process, "_identity", ()), slot),
        )


class LogLevels(NamedTuple):
    """What of the host's logging decides which log records of tasks a daemon sends to it.

    ``root`` is the level of the root logger, ``named`` has those of the other loggers that have
    one, and ``disabled`` is that of ``logging.disable()``.
    """

    root: int
    named: tuple[tuple[str, int], ...]
    disabled: int
    captures_warnings: bool

    @staticmethod
    def of_this_process() -> "LogLevels":
        """Describe this process, as the host."""
        import logging  # a host has it
        import warnings

        loggers = list(logging.root.manager.loggerDict.items())  # other threads may add to them
        levels = [(name, getattr(logger, "level", 0)) for name, logger in loggers]
        return LogLevels(
            root=logging.root.level,
            named=tuple((name, level) for name, level in levels if level),
            disabled=logging.root.manager.disable,
            captures_warnings=getattr(warnings.showwarning, "__module__", "") == "logging",
        )


def encode_plain(obj: object) -> bytes:
    """Pickle data of ours, such as a ``Preparation``."""
    return dumps(obj, PROTOCOL)


def decode_plain(blob: bytes | memoryview) -> Any:
    """Return what ``encode_plain`` pickled."""
    return loads(blob)


def host_sys_path() -> list[str]:
    """Return ``sys.path`` with '' replaced by the working directory that it stands for."""
    return [_cwd() if entry == "" else str(entry) for entry in sys.path]


def main_script() -> str | None:
    """Return the file of this process's main module, if it is one that can be imported."""
    return _script(Preparation.of_this_process().main_file)


def _script(file: str | None) -> str | None:
    """Return the file of the user's script; of a notebook, a folder, a zip: None."""
    # Not by pathlib, which takes milliseconds to import, at every host and daemon.
    stem, suffix = os.path.splitext(os.path.basename(file or ""))  # noqa: PTH119, PTH122
    if file is None or suffix == _COMPILED or stem in _NOT_THE_USERS:
        return None
    return file if os.path.isfile(file) else None  # noqa: PTH113


def _cwd() -> str:
    try:
        return os.getcwd()  # noqa: PTH109
    except FileNotFoundError:  # it has been deleted
        return ""


def inherit(what: "Inheritance") -> None:
    """Note that this process has been forked from its host, and what it has from there."""
    from mirai_executor._payload.common import rebuild  # of no use to a host

    rebuild.inheritance, rebuild.imported_first = what, None


def make_main(find: Callable[[str], object], preparation: Preparation) -> ModuleType:
    """Make the daemon's ``__main__``, which asks ``find`` for the names that it does not have.

    One that was forked has that of its host, or that into which the host's main module has been
    imported before: functions look for their globals there.
    """
    from mirai_executor._payload.common import rebuild  # as above

    is_inherited = rebuild.inheritance is not None or rebuild.imported_first is not None
    inherited: Any = sys.modules[MAIN] if is_inherited else None
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
    from mirai_executor._payload.common import folders  # not for daemons of the host's machine

    return folders.path_of(preparation, host_path, own)


def _may_go_where_host_is(cwd: str) -> bool:
    if not _is_where_anything_starts():
        return False
    from mirai_executor._payload.common.folders import may_take

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
