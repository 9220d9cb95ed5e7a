"""Decides whether a process that has imported the main module may be forked into daemons.

What each of several daemons would have for itself, had it imported the module by itself, must not
become something that they share, or that all but one lack:

===========================  ======================================================================
threads                      a fork has one: locks that others hold stay locked. Those do not count
                             that a library ends before a fork, as OpenBLAS does, and jemalloc's
children of it               nobody but their parent hears of their end
descriptors                  sockets, connections, files, devices: two that read or write move the
                             same position. Files that are only appended to have none, nor has the
                             null device or a source of random numbers; nobody reads code
memory that is shared        locks, values and arrays of multiprocessing; files that are mapped
handlers of signals, timers  the daemon sets up its own when it begins; a fork has no timers
directory, standard error    they are set anew for each daemon
patches of ``os``            as of gevent: what forks and waits here would be another's
finalizers                   what is removed at the end of one daemon, others still use; those of
                             installed libraries do not count
hooks that warn of a fork    they know better
random numbers               a seed for ``random``, or a generator: nobody can tell from what
what a module asks for       see ``_once``
===========================  ======================================================================

Each daemon has random numbers of its own then. What the script and the modules beside it do with
random numbers, their source tells (``_once``): only libraries may draw some, and have generators.
"""

from __future__ import annotations

import gc
import os
import random
import re
import signal
import stat
import sys
import sysconfig
import warnings
import weakref

from mirai_executor._private import check
from mirai_executor._typing import TYPE_CHECKING

from ._once import flaw_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

check("daemon._fitness")

_HARMLESS_THREADS = frozenset({"jemalloc_bg_thd"})  # jemalloc starts it anew in a fork
_HARMLESS_DEVICES = frozenset(os.makedev(1, minor) for minor in (3, 5, 8, 9))  # null to urandom
_TRIES = 1000  # looks at threads that are about to end
_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
_DRAWS = 100  # times 624 numbers of 32 bits, which an import may draw
_WORDS = 624
_CHOSEN = 1 << 64  # as a seed, a larger number is what the system has given
_INSTALLED = re.compile(r"[/\\](site|dist)-packages[/\\]")
_OUR_OWN = os.path.dirname(os.path.dirname(__file__)) + os.sep  # noqa: PTH120 - as elsewhere


class Fitness:
    """What this process was before an import, and what has become of it."""

    def __init__(self) -> None:
        self._modules: frozenset[str] = frozenset()
        self._unseeded: list[Any] = []

    def begin(self) -> None:
        """Remember what there is."""
        self._before = _state()
        self._descriptors = _descriptors()
        self._generators = {id(each) for each in _generators_of_python()}
        self._drawn_from = random.getstate()
        self._modules = frozenset(sys.modules)

    def flaw(self) -> str:
        """Return why this process must not be forked; empty if it may."""
        for what, value in _state().items():
            if value != self._before[what]:
                return f"it leaves {what}"
        if fd := next(_shared_by_forks(_descriptors() - self._descriptors), None):
            return f"it leaves {fd} open"
        if has_children():
            return "it leaves processes running"
        for name in sorted(sys.modules.keys() - self._modules):
            if why := flaw_of(_text_of_users(name)):
                return f"{why}, in {name}"
        return self._look_at_random_numbers() or self._try_a_fork()

    def fork(self) -> int:
        """Fork a process that may be; return as ``os.fork`` does, or minus an errno."""
        with warnings.catch_warnings():  # which count threads, and do not know them
            warnings.simplefilter("ignore")
            try:
                return os.fork()
            except OSError as error:
                return -(error.errno or 1)

    def restore(self) -> None:
        """In a fork: have random numbers of its own, for which ``random`` sees by itself."""
        for bits in self._unseeded:
            bits.state = type(bits)().state

    def _try_a_fork(self) -> str:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            if (child := os.fork()) == 0:
                os._exit(0)
        os.waitpid(child, 0)
        for warning in caught:
            if not issubclass(warning.category, DeprecationWarning):  # that is Python's own
                return f"it warns of forks ({warning.message})"
        left: list[str] = []
        for _ in range(_TRIES):
            if not (left := _other_threads()):
                break
            os.sched_yield()
        return f"it leaves threads running ({', '.join(left)})" if left else ""

    def _look_at_random_numbers(self) -> str:
        found = [each for each in _generators_of_python() if id(each) not in self._generators]
        # What libraries draw when they are imported is no matter; a seed would be.
        if found or not _is_reached(random.getstate(), self._drawn_from):
            return "it seeds random numbers, or draws many"
        if (numpy := sys.modules.get("numpy.random")) is not None:
            every = _all_of(numpy.BitGenerator)
            self._unseeded = [bits for bits in every if _has_seed_of_system(bits)]
        return ""


def has_children() -> bool:
    """Tell whether this process has children, of whatever kind."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _state() -> dict[str, object]:
    """Return what has to stay as it is, by what is left if it does not."""
    of_processes = getattr(sys.modules.get("multiprocessing.util"), "_finalizer_registry", ())
    finalizers = [each.func for each in weakref.finalize._registry.values()]  # type: ignore[attr-defined]  # noqa: SLF001 - see _private.py
    return {
        "handlers of signals": {n: signal.getsignal(n) for n in signal.valid_signals()},
        "signals blocked": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "timers running": [signal.getitimer(timer)[0] > 0 for timer in _TIMERS],
        "another working directory": os.readlink("/proc/self/cwd"),  # noqa: PTH115 - it may be gone
        "another standard error": id(sys.stderr),
        "functions of the system replaced": (os.fork, os.waitpid),
        "finalizers": (len(of_processes), [id(it) for it in finalizers if not _is_library_s(it)]),
        "memory that is shared": [each for each in _mappings() if each[0].startswith("rw-s")],
    }


def _mappings() -> Iterator[tuple[str, str]]:
    """Yield what is mapped into memory: how, and the file."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:  # noqa: PTH123 - as elsewhere
        for line in maps:
            _, how, *_, file = line.rstrip("\n").split(None, 5)
            yield how, file


def _descriptors() -> set[int]:
    listed = os.listdir("/proc/self/fd")  # noqa: PTH208 - as they are
    return {int(fd) for fd in listed if _is_open(int(fd))}


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:  # that of the listing
        return False
    return True


def _shared_by_forks(fds: set[int]) -> Iterator[str]:
    """Yield those which two processes must not have in common, in words."""
    import fcntl

    code = {file for how, file in _mappings() if "x" in how}  # libffi maps itself once more
    for fd in sorted(fds):
        mode, device = os.fstat(fd).st_mode, os.fstat(fd).st_rdev
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        target = os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115 - it need not exist
        is_log = stat.S_ISREG(mode) and flags & os.O_APPEND and flags & os.O_ACCMODE == os.O_WRONLY
        is_harmless = stat.S_ISCHR(mode) and device in _HARMLESS_DEVICES
        if not (is_log or is_harmless or target in code):
            yield target


def _other_threads() -> list[str]:
    """Return the names of the threads that a fork would lack."""
    found = []
    for thread in os.listdir("/proc/self/task"):  # noqa: PTH208 - as they are
        if int(thread) == os.getpid():
            continue
        try:
            with open(f"/proc/self/task/{thread}/comm", encoding="utf-8") as file:  # noqa: PTH123 - as above
                name = file.read().strip()
        except OSError:  # it has ended
            continue
        if name not in _HARMLESS_THREADS:
            found.append(name)
    return found


def _is_library_s(function: object) -> bool:
    """Tell whether a function is of an installed library, and so, about this process only."""
    module = sys.modules.get(str(getattr(function, "__module__", "")))
    return _INSTALLED.search(getattr(module, "__file__", None) or "") is not None


def _text_of_users(name: str) -> str:
    """Return the source of a module that nobody has installed; empty if it is none."""
    spec: Any = getattr(sys.modules.get(name), "__spec__", None)
    file = getattr(spec, "origin", None)
    if not isinstance(file, str) or not file.endswith(".py"):
        return ""
    if file.startswith((sysconfig.get_path("stdlib") + os.sep, _OUR_OWN)) or _INSTALLED.search(
        file
    ):
        return ""
    try:
        return spec.loader.get_source(name) or ""
    except Exception:  # a loader of any kind
        return ""


def _all_of(kind: Any) -> list[Any]:
    """Return all objects of a type, or of one of several."""
    objects = gc.get_objects()
    # Not isinstance: it would ask those that stand for others which these are.
    kinds = {each for each in set(map(type, objects)) if issubclass(each, kind)}
    return [each for each in objects if type(each) in kinds] if kinds else []


def _generators_of_python() -> list[random.Random]:
    """Return those that do not see by themselves that they have been forked."""
    of_module = getattr(random.seed, "__self__", None)  # it seeds itself
    names = getattr(sys.modules.get("tempfile"), "_RandomNameSequence", ())  # so do these
    known = {id(of_module), *(id(getattr(each, "_rng", None)) for each in _all_of(names))}
    found = _all_of(random.Random)
    return [it for it in found if id(it) not in known and type(it) is not random.SystemRandom]


def _is_reached(state: Any, start: Any) -> bool:
    """Tell whether a state of ``random`` comes from another one by drawing numbers only."""
    generator = random.Random()  # noqa: S311 - not for secrets
    generator.setstate(start)
    for _ in range(_DRAWS):
        if generator.getstate()[1][:_WORDS] == state[1][:_WORDS]:
            return True
        generator.getrandbits(32 * _WORDS)
    return False


def _has_seed_of_system(bits: Any) -> bool:
    """Tell whether a generator of NumPy was seeded by nobody."""
    seeds = getattr(bits, "seed_seq", None) or getattr(bits, "_seed_seq", None)
    entropy = getattr(seeds, "entropy", None)
    return isinstance(entropy, int) and entropy >= _CHOSEN
