"""Says what a daemon must know of the host's process before it can read a call."""

import os
import sys

from mirai_executor._payload.common.importable import MAIN
from mirai_executor._typing import NamedTuple

__all__ = ["LogLevels", "Preparation", "host_sys_path", "main_script"]

# Programs whose main file is not the user's (as in multiprocessing.spawn).
_NOT_THE_USERS = frozenset({"__main__.py", "ipython.py", "ipython3.py"})


class Preparation(NamedTuple):
    """What a daemon takes over from the host before its first call.

    ``main_path`` or ``main_name`` (of ``python -m``) says where a name of ``__main__`` that never
    came could be found, as a last resort. ``authkey`` is a secret; it stays on this machine.
    ``host`` and ``host_pid`` are the name that multiprocessing has for the host's process, and its
    number on this machine; ``identity`` is how it tells the daemon from its siblings.
    ``prefixes`` are where the host's interpreter has its libraries: empty for a daemon on the same
    machine, which has the same. ``variables`` are added to its environment; ``gpus`` is how many
    it takes of those that it finds, 0 if it leaves them as they are.
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

    def elsewhere(self) -> "Preparation":
        """Return what a daemon on another machine takes over."""
        found = dict.fromkeys((sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix))
        return self._replace(authkey=b"", host_pid=None, prefixes=tuple(found))

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
            main_path=None if name else _script(file),
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


def host_sys_path() -> list[str]:
    """Return ``sys.path`` with '' replaced by the working directory that it stands for."""
    return [_cwd() if entry == "" else str(entry) for entry in sys.path]


def main_script() -> str | None:
    """Return the file of this process's main module, if it is one that can be imported."""
    this = Preparation.of_this_process()
    is_script = this.main_path is not None or this.main_name is not None
    return _script(this.main_file) if is_script else None


def _script(file: str | None) -> str | None:
    """Return the file of the user's script; of a notebook, a console script, a zip: None."""
    # Not by pathlib, which takes milliseconds to import, at every host and daemon.
    if file is None or not file.endswith(".py") or os.path.basename(file) in _NOT_THE_USERS:  # noqa: PTH119
        return None
    return file if os.path.isfile(file) else None  # noqa: PTH113


def _cwd() -> str:
    try:
        return os.getcwd()  # noqa: PTH109
    except FileNotFoundError:  # it has been deleted
        return ""
