"""Decides whether daemons import the host's main module, and marks what they then have of it.

::

    a file, and a guard in it ──► daemons import it, once, before its first name
    else                      ──► its names travel by value alone

Each name travels by value in either case; with it goes the fingerprint of its definition. Where
the daemon finds that the import has made the same, its own stays.
"""

import ast
import os
import sys
import threading
from types import FrameType
from typing import Any, Literal, NamedTuple

from mirai_executor._payload.common import fast_pickle as pickle
from mirai_executor._payload.common.entries import (
    MAIN_FILE,
    UNAVAILABLE,
    NameEntry,
    Own,
    digest_of,
    names_in,
)
from mirai_executor._payload.common.fast_pickle import PROTOCOL
from mirai_executor._payload.common.fingerprints import fingerprint_of, kind_fingerprint
from mirai_executor._payload.common.guards import bound_by, divide, parse
from mirai_executor._payload.common.importable import MAIN
from mirai_executor._payload.common.preparation import SOURCES, main_script

Mode = Literal["auto", "import", "value"]


class MainFile:
    """The host's main module, as a file that daemons import.

    Args:
        path: The file.
        text: What it says.
        bound: The names that the import binds; None for any.
    """

    def __init__(self, path: str, text: bytes, bound: frozenset[str] | None) -> None:
        blob = pickle.dumps((path, digest_of(text)), PROTOCOL)
        self.entry = NameEntry(MAIN_FILE, digest_of(blob), blob)
        self._bound = bound
        self._known: dict[str, tuple[bytes, bytes]] = {}

    def binds(self, name: str) -> bool:
        """Tell whether a daemon that has imported the file has something by this name."""
        return self._bound is None or name in self._bound

    def marked(self, entries: list[NameEntry], identities: dict[str, str]) -> list[NameEntry]:
        """Return a call's table with the file before all, and each name with its fingerprint.

        Args:
            entries: The table.
            identities: The ids by which both sides know the classes in it.
        """
        return [self.entry, *(self._mark(entry, identities) for entry in entries)]

    def _mark(self, entry: NameEntry, identities: dict[str, str]) -> NameEntry:
        text, digest, blob = entry
        names = names_in(text)
        if any(":" in name for name in names):  # of another module
            return entry
        if blob.startswith(UNAVAILABLE):
            found = kind_fingerprint(vars(sys.modules[MAIN]).get(text))
            # The reason alone does not say that it was defined anew.
            return NameEntry(text, digest_of(digest + found), Own.mark([Own(found)], blob))
        own = [Own(self._fingerprint(name, digest), identities.get(name, "")) for name in names]
        return NameEntry(text, digest, Own.mark(own, blob))

    def _fingerprint(self, name: str, digest: bytes) -> bytes:
        known = self._known.get(name)
        if known is None or known[0] != digest:
            value = vars(sys.modules[MAIN]).get(name)
            known = self._known[name] = digest, fingerprint_of(value)
        return known[1]


def main_file(mode: Mode) -> MainFile | None:
    """Return the file of this process's main module if daemons are to import it, else None.

    Raises:
        ValueError: They are to, but there is no such file.
    """
    path = main_script()
    try:
        found = None if path is None else _read(path)
    except (OSError, SyntaxError, ValueError) as error:  # it is no longer what was run
        found, why = None, f"its file cannot be read: {error}"
    else:
        if found is not None and found.only_starts and mode == "auto":
            found = None
        why = "it has no file that daemons could import (a notebook, a prompt, -c, a test runner)"
    if mode == "import":
        if path is None or found is None:
            raise ValueError(f'main="import" needs a main module that is a script, and {why}')
    elif path is None or found is None or not found.guards or _runs_outside(found.guards):
        return None
    return MainFile(path, found.text, found.bound)


def advice() -> str:
    """Return how daemons would have what cannot travel, where they do not import the script."""
    path = main_script()
    try:
        found = None if path is None else _read(path)
    except (OSError, SyntaxError, ValueError):  # it is no longer what was run
        found = None
    if found is None:
        return ""
    if found.guards and not _runs_outside(found.guards):
        return '; daemons have their own unless the executor was created with main="value"'
    return (
        '; daemons have their own if what starts the script is below `if __name__ == "__main__":`'
    )


class _Found(NamedTuple):
    text: bytes
    guards: list[range]  # the lines below them
    bound: frozenset[str] | None
    only_starts: bool  # what a package defines: an installer has made it, and it defines nothing


_findings: dict[tuple[str, int, int], _Found] = {}  # for all executors of a program


def _read(path: str) -> _Found:
    status = os.stat(path)  # noqa: PTH116 - as below
    key = path, status.st_mtime_ns, status.st_size
    found = _findings.get(key)
    if found is None:
        with open(path, "rb") as file:  # noqa: PTH123 - importing pathlib takes milliseconds
            text = file.read()
        found = _findings[key] = _parse(text, path)
    return found


def _parse(text: bytes, path: str) -> _Found:
    tree = parse(text, path)
    guards: list[range] = []
    rest: list[ast.stmt] = []  # what daemons run, too
    for statement in tree.body:
        below, beside = divide(statement)
        if below:
            first, last = below[0], below[-1]
            guards.append(range(first.lineno, (last.end_lineno or last.lineno) + 1))
        rest += beside
    imports = all(isinstance(each, ast.Import | ast.ImportFrom) for each in rest)
    only_starts = imports and not path.endswith(SOURCES)
    if any(_is_star(node) for node in ast.walk(tree)):
        return _Found(text, guards, None, only_starts)
    return _Found(text, guards, frozenset((*bound_by(rest), "__doc__")), only_starts)


def _is_star(node: ast.AST) -> bool:
    return isinstance(node, ast.ImportFrom) and any(each.name == "*" for each in node.names)


def _runs_outside(guards: list[range]) -> bool:
    """Tell whether the module itself runs at this moment, and not below a guard.

    Then an executor is used where daemons that import the file would use it, too.
    """
    main = vars(sys.modules[MAIN])
    frame: FrameType | None = sys._current_frames().get(_main_thread())  # noqa: SLF001 - documented
    while frame is not None:
        if frame.f_globals is main and frame.f_code.co_name == "<module>":
            line: Any = frame.f_lineno
            return not any(line in lines for lines in guards)
        frame = frame.f_back
    return False


def _main_thread() -> int:
    return threading.main_thread().ident or 0
