"""Overwrites a secret in the memory in which the kernel shows the environment of a process.

Taking a variable out of the environment hides it from children. But what a process was started
with stays in /proc/PID/environ, which every task of the same user can read.
"""

import contextlib
import os

__all__ = ["wipe"]

_ENV_START, _ENV_END = 47, 48  # fields of /proc/self/stat, behind the name of the program: proc(5)


def wipe(name: str) -> None:
    """Overwrite the value of a variable there; where the system has no such files, do nothing."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        start, end = _place()
        memory = os.open("/proc/self/mem", os.O_RDWR | os.O_CLOEXEC)
        try:
            at = start
            # Nothing else may change: other variables are read from there, too.
            for line in os.pread(memory, end - start, start).split(b"\0"):
                found, is_set, value = line.partition(b"=")
                if is_set and found == name.encode():
                    os.pwrite(memory, b"*" * len(value), at + len(found) + 1)
                at += len(line) + 1
        finally:
            os.close(memory)


def _place() -> tuple[int, int]:
    with open("/proc/self/stat", "rb") as file:  # noqa: PTH123 - a keeper does without pathlib
        fields = file.read().rpartition(b")")[2].split()
    return int(fields[_ENV_START]), int(fields[_ENV_END])
