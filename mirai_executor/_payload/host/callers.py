"""Finds the line of the user that a warning is about, whatever of this package lies between."""

import sys
import warnings

# What may lie between the user's line and the package: asyncio's run_in_executor, for one.
_BETWEEN = frozenset({"asyncio", "concurrent", "mirai_executor"})


def stacklevel() -> int:
    """Return the ``stacklevel`` for a warning that the calling function issues."""
    level, frame = 1, sys._getframe(1)  # noqa: SLF001 - documented
    while frame.f_back is not None and _is_between(frame.f_globals.get("__name__")):
        level, frame = level + 1, frame.f_back
    return level


def _is_between(module: object) -> bool:
    return isinstance(module, str) and module.partition(".")[0] in _BETWEEN


def warn_of_local_locks() -> None:
    """Warn of locks that cannot be shared in this way."""
    warnings.warn(
        "a lock of multiprocessing's fork context can only be inherited by forking: each daemon "
        "gets a lock of its own, which does not exclude other processes; to share one, make it "
        "with multiprocessing.get_context('spawn')",
        RuntimeWarning,
        stacklevel=stacklevel(),
    )
