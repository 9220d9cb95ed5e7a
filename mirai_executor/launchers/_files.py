"""Writes the files that hold a secret where nobody else can replace them, and removes them again.

::

    host ─── a pipe ──► sh, which waits for its end, then removes the files named there

The shell outlives a host that is killed, which cannot remove anything itself.
"""

import contextlib
import errno
import logging
import os
import stat
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from mirai_executor.errors import LaunchError

from ._daemon import PrivateFile

_LOG = logging.getLogger("mirai_executor")
# While a file is written, it has a dot and more behind its name. Who ends a whole job or login
# asks all of its processes first, and this one has to be there after the host.
_SWEEP = """
trap '' HUP INT TERM
while IFS= read -r file; do set -- "$@" "$file"; done
for file; do rm -f -- "$file" "$file".*; done
"""


class PrivateFiles:
    """The files of one executor, until nobody reads them any more.

    All are gone when it ends, and when this process is killed. Safe from any thread.
    """

    def __init__(self) -> None:
        self._owner = os.getpid()
        # Without a lock, which a KeyboardInterrupt could leave locked: each step is whole.
        self._users: dict[Path, list[None]] = {}  # an item for each launch
        self._sweeper: dict[str, subprocess.Popen[bytes]] = {}  # one at most

    def keep(self, path: Path) -> None:
        """See to the removal of a file that is about to be written, for one more launch."""
        is_known = path in self._users
        self._users.setdefault(path, []).append(None)
        if is_known:
            return
        with contextlib.suppress(OSError):  # else only an orderly end removes the file
            stdin = self._started().stdin
            assert stdin is not None  # noqa: S101 - for the type checker: it is a pipe
            os.write(stdin.fileno(), f"{path}\n".encode())

    def _started(self) -> "subprocess.Popen[bytes]":
        if (found := self._sweeper.get("")) is not None:
            return found
        made = _start_sweeper()
        if (kept := self._sweeper.setdefault("", made)) is not made:
            _dismiss(made)  # another thread was faster
        return kept

    def release(self, paths: Iterable[Path]) -> None:
        """Remove files that none of the launches needs any more; this may take its time."""
        for path in paths:
            users = self._users.get(path, [])
            with contextlib.suppress(IndexError):
                users.pop()
            if not users and _remove(path):
                self._users.pop(path, None)

    def close(self) -> None:
        """Remove them all; a forked child leaves them alone."""
        if os.getpid() != self._owner:
            return
        while self._users:
            path, _ = self._users.popitem()
            if not _remove(path):
                _LOG.warning("cannot remove %s, which still holds a token of this executor", path)
        if (sweeper := self._sweeper.pop("", None)) is not None:
            _dismiss(sweeper)


def _remove(path: Path) -> bool:
    try:
        path.unlink(missing_ok=True)
    except OSError:  # such as a file system that can only be read now
        return False
    return True


def _start_sweeper() -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        ("/bin/sh", "-c", _SWEEP, "sh"),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,  # what kills the host with its group spares it
    )


def _dismiss(sweeper: "subprocess.Popen[bytes]") -> None:
    # A forked child may hold the pipe, too: its end would not come when it is closed here.
    sweeper.kill()
    sweeper.wait()
    if sweeper.stdin is not None:
        sweeper.stdin.close()


def write(file: PrivateFile) -> None:
    """Put the file there, whole and readable to this user alone, or leave all as it was.

    Raises:
        LaunchError: It cannot be written, or others could put one of their own in its place.
    """
    folder = file.path.parent
    try:
        if file.makes_folder:
            folder.mkdir(mode=0o700, exist_ok=True)
        _check(folder)
        number, name = tempfile.mkstemp(dir=folder, prefix=f"{file.path.name}.")
        try:
            with os.fdopen(number, "w") as out:
                out.write(file.text)
            Path(name).replace(file.path)
        except BaseException:  # a full disk, or Ctrl-C
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise LaunchError(
            f"cannot write {file.path}, which daemons read: {error}; "
            f"{'free some room, or ' if is_full else ''}choose another secret_folder"
        ) from error


def _check(folder: Path) -> None:
    """Refuse a folder in which another user could replace a file, as the StrictModes of ssh do.

    Raises:
        LaunchError: It belongs to somebody else, or others may write to it or to one above it, up
            to the home folder.
    """
    place, home = folder.resolve(strict=True), _home()
    for one in (place, *place.parents):
        found = one.stat()
        if found.st_uid not in (0, os.geteuid()):
            why = "belongs to another user"
        elif found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX:
            why = f"may be written to by others (chmod go-w {one})"
        elif one == home:
            return
        else:
            continue
        raise LaunchError(
            f"cannot keep a secret in {folder}: {one} {why}; choose another secret_folder"
        )


def _home() -> Path | None:
    try:
        return Path.home().resolve()
    except RuntimeError:  # this user has none
        return None
