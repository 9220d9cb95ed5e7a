"""Decides, on another machine, which folders of the host a daemon takes over.

A folder of the host's may be anybody's there: ``/tmp/job1``, ``/scratch/ann``. So one is taken
only if nobody but this user and root decides what is found in it (as sshd's StrictModes has it),
and then only behind what the daemon's own interpreter has.
"""

import functools
import os
import stat
import sys
from collections.abc import Sequence

from mirai_executor._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mirai_executor._payload.common.preparation import Preparation

# What an executor gives those that it starts on its own machine.
_HERE = "MIRAI_EXECUTOR_HERE"
_ROOT = 0
_NOBODY = 65534  # whom the kernel names where it may not say who it is
_MOST_LINKS = 40  # as many as Linux follows
_told: set[str] = set()


def path_of(preparation: "Preparation", host_path: Sequence[str], own: Sequence[str]) -> list[str]:
    """Return ``sys.path`` for a daemon elsewhere, from the host's and its own.

    Its own folders come first, then the user's, then those of the host's interpreter. What is left
    out although it is there is said on standard error, once.
    """
    roots = tuple(prefix.rstrip("/") + "/" for prefix in preparation.prefixes)
    libraries = [entry for entry in host_path if f"{entry}/".startswith(roots)]
    users = [entry for entry in host_path if entry not in libraries]
    taken = []
    for entry in (*users, *libraries):
        folder = os.path.join(preparation.cwd or "/", entry)  # noqa: PTH118 - pathlib is slow to import
        if may_take(folder):
            taken.append(folder)
        elif folder not in _told and os.path.exists(folder):  # noqa: PTH110 - as above
            _told.add(folder)
            sys.stderr.write(
                f"mirai-executor daemon: {folder} is not on sys.path here, since other users can "
                "change what is in it; if you trust them, add it to PYTHONPATH\n"
            )
    return list(dict.fromkeys([*own, *taken]))


def may_take(folder: str) -> bool:
    """Tell whether a daemon elsewhere uses a folder that its host names."""
    return _is_on_machine_of_host() or is_ours(folder)


def is_ours(path: str, links: int = _MOST_LINKS) -> bool:
    """Tell whether only this user and root decide what is found at an absolute path."""
    at, is_shared = "/", False
    names = [name for name in os.path.normpath(path).split("/") if name]
    for number, name in enumerate(names):
        at = os.path.join(at, name)  # noqa: PTH118 - pathlib is slow to import
        try:
            found = os.lstat(at)
        except OSError:
            return not is_shared  # nobody else can make it
        if not _is_owner_trusted(found.st_uid, is_shared=is_shared):
            return False
        if stat.S_ISLNK(found.st_mode):
            target = os.path.join(os.path.dirname(at), os.readlink(at), *names[number + 1 :])  # noqa: PTH115, PTH118, PTH120
            return links > 0 and is_ours(target, links - 1)
        is_shared = _is_shared(found)
        # In a sticky folder such as /tmp, nobody can replace what is not theirs.
        if is_shared and not (found.st_mode & stat.S_ISVTX and stat.S_ISDIR(found.st_mode)):
            return False
    return not is_shared


def _is_owner_trusted(uid: int, *, is_shared: bool) -> bool:
    if uid in (_ROOT, os.geteuid()):
        return True
    # A container without root's help shows the folders of root as nobody's. Where only root can
    # have put them, they are taken for that.
    return uid == _NOBODY and not is_shared and _knows_no_other_user()


def _knows_no_other_user() -> bool:
    try:
        with open("/proc/self/uid_map") as file:  # noqa: PTH123 - pathlib is slow to import
            sizes = [int(line.split()[2]) for line in file]
    except (OSError, ValueError, IndexError):  # not Linux
        return False
    return sizes == [1]


def _is_shared(found: os.stat_result) -> bool:
    """Tell whether others may write there."""
    if found.st_mode & stat.S_IWOTH:
        return True
    return bool(found.st_mode & stat.S_IWGRP) and not _is_private_group(found.st_gid)


def _is_private_group(gid: int) -> bool:
    """Tell whether a group is that of this user alone, as many systems give one to each."""
    if gid == _ROOT:
        return True
    import grp
    import pwd

    try:
        group, user = grp.getgrgid(gid), pwd.getpwuid(os.geteuid())
    except KeyError:
        return False
    return group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}


@functools.cache
def _is_on_machine_of_host() -> bool:
    """Tell whether the host itself has started this daemon, from the same folders."""
    return bool(os.environ.pop(_HERE, ""))
