"""Overwrites a secret in the memory in which the kernel shows the environment of a process.

Taking a variable out of the environment hides it from children. But what a process was started
with stays in /proc/PID/environ, which every task of the same user can read.
"""

import contextlib
import os

__all__ = ["wipe"]

_ENV_START, _ENV_END = 47, 48  # fields of /proc/self/stat, behind the name of the program: proc(5)


def wipe(text: str) -> None:
    """Overwrite a text there; where the system has no such files, do nothing."""
    secret = text.encode()
    with contextlib.suppress(OSError, ValueError, IndexError):
        start, end = _place()
        memory = os.open("/proc/self/mem", os.O_RDWR | os.O_CLOEXEC)
        try:
            shown = os.pread(memory, end - start, start)
            at = shown.find(secret)
            while at >= 0:
                os.pwrite(memory, b"*" * len(secret), start + at)
                at = shown.find(secret, at + len(secret))
        finally:
            os.close(memory)


def _place() -> tuple[int, int]:
    with open("/proc/self/stat", "rb") as file:  # noqa: PTH123 - a keeper does without pathlib
        fields = file.read().rpartition(b")")[2].split()
    return int(fields[_ENV_START]), int(fields[_ENV_END])
