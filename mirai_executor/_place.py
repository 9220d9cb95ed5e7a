"""Knows where this process runs: on a daemon or not, on how many processors, in which limits."""

import contextlib
import errno
import os
from _thread import get_ident
from collections.abc import Callable, Iterator

_OF_THE_SYSTEM = {
    errno.ENFILE: " (no process may open any more, see /proc/sys/fs/file-max)",
    errno.EAGAIN: " (this user, or the control group, may have no more processes and threads, see "
    "ulimit -u and pids.max)",
    errno.ENOMEM: " (there is not enough memory for one more process)",
}

_GROUPS, _OWN_GROUPS = "/sys/fs/cgroup", "/proc/self/cgroup"

LONGEST_TITLE = 15  # bytes of the name of a process that Linux keeps

_on_daemon = False
# By thread: how many tasks run in it in place of daemons, one inside of the other.
_in_place: dict[int, int] = {}
# To be called when a task on this daemon is interrupted, in the handler of a signal.
on_interrupt: "list[Callable[[], None]]" = []
# Returns what carries messages of the task that runs here, if one does; None if no daemon is here.
messenger: "Callable[[], object] | None" = None


def on_daemon() -> bool:
    """Tell whether this code runs on a daemon, inside a task or an initializer.

    With ``mode="inline"``, tasks run in place of daemons, in a thread of your program, and this is
    True in that thread. Safe from any thread.

    Example:
        >>> on_daemon()
        False
        >>> with MiraiExecutor(1) as executor:
        ...     executor.submit(on_daemon).result()
        True
    """
    return _on_daemon or get_ident() in _in_place


def enter_daemon() -> None:
    """Note that this process is a daemon from now on."""
    global _on_daemon  # a process is a daemon or it is not
    _on_daemon = True


def begin_in_place() -> None:
    """Note that this thread runs, from now on, what a daemon would run otherwise."""
    _in_place[get_ident()] = _in_place.get(get_ident(), 0) + 1


def end_in_place() -> None:
    """Note the end of what began last."""
    thread = get_ident()
    _in_place[thread] -= 1
    if not _in_place[thread]:
        del _in_place[thread]


def show_as(title: str) -> None:
    """Have ``ps -o comm``, ``top`` and debuggers show this process by a title, where that is easy.

    Args:
        title: At most ``LONGEST_TITLE`` bytes, which is all that Linux keeps.
    """
    with contextlib.suppress(OSError):  # not Linux, or not mounted here
        file = os.open("/proc/self/comm", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(file, title.encode())
        finally:
            os.close(file)


def usable_cpus() -> int:
    """Return how many processors this process may use, at least 1.

    The smallest of the affinity mask, the CPU quota of the control groups (rounded up) and
    ``PYTHON_CPU_COUNT``.
    """
    counts = [_affinity(), *_quotas()]
    asked = os.environ.get("PYTHON_CPU_COUNT", "")
    if asked.isdigit():
        counts.append(int(asked))
    return max(1, min(counts))


def fair_share(workers: int) -> int | None:
    """Return how many threads each of some processes may start; None for as many as it wants."""
    return max(1, usable_cpus() // workers) if workers > 1 else None


def limit_behind(error: OSError) -> str:
    """Name the limit of this process or system that an error came from, to end a message."""
    if error.errno != errno.EMFILE:
        return _OF_THE_SYSTEM.get(error.errno or 0, "")
    import resource  # Windows has none, and gets a better message than this

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return f" (this process may open {limit}, see ulimit -n; the host needs about 4 per daemon)"


def oom_kills(root: str = _GROUPS, own: str = _OWN_GROUPS) -> int:
    """Return how many processes of this control group the kernel has ended for lack of memory.

    Version 2 counts them in memory.events, version 1 in memory.oom_control (the kernel's
    documentation, admin-guide/cgroup-v2 and, since 4.13, cgroup-v1/memory). 0 where nobody counts.

    Args:
        root: Where the groups are mounted.
        own: Says which of them this process is in.
    """
    for place, version_2 in _groups("memory", root, own):
        with contextlib.suppress(OSError, ValueError, StopIteration):
            text = _read(f"{place}/memory.{'events' if version_2 else 'oom_control'}")
            fields = (line.split() for line in text.splitlines())
            return next(int(count) for name, count in fields if name == "oom_kill")
    return 0


def _affinity() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # macOS, musl; a sandbox forbids it
        return os.cpu_count() or 1


def _quotas(root: str = _GROUPS, own: str = _OWN_GROUPS) -> Iterator[int]:
    """Yield the CPU limits of this process's control group and of those around it.

    Version 2 keeps "quota period" in cpu.max, version 1 two files of the cpu controller (the
    kernel's documentation, admin-guide/cgroup-v2 and scheduler/sched-bwc).
    """
    for place, version_2 in _groups("cpu", root, own):
        if quota := _quota(place, version_2=version_2):
            yield quota


def _groups(controller: str, root: str, own: str) -> Iterator[tuple[str, bool]]:
    """Yield the folder of this process's control group, and of those around it.

    With each comes whether it is of version 2.
    """
    try:
        lines = _read(own).splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        base = f"{root}/{controller}" if controllers else root
        parts = path.strip("/").split("/") if path.strip("/") else []
        for depth in range(len(parts), -1, -1):
            yield "/".join([base, *parts[:depth]]), not controllers


def _quota(place: str, *, version_2: bool) -> int | None:
    try:
        if version_2:
            quota, period = _read(f"{place}/cpu.max").split()
        else:
            quota = _read(f"{place}/cpu.cfs_quota_us")
            period = _read(f"{place}/cpu.cfs_period_us")
        limit = -(-int(quota) // int(period))
    except (OSError, ValueError):  # no such file here, or "max"
        return None
    return limit if limit > 0 else None


def _read(path: str) -> str:
    with open(path) as file:  # noqa: PTH123 - pathlib takes milliseconds to import
        return file.read()
