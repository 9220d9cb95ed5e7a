"""Gives each task random numbers of its own, which depend on nothing but its stream.

::

    host: "42:7" ── travels with the call ──► daemon: run ── random, numpy.random: seeded with it
                                                       └──── rng(): a generator made from it

A stream is written as the seed of its executor, the index of the task and, in a ``map``, the
number of the element. As numbers, these are the entropy and the ``spawn_key`` of the
``SeedSequence`` from which NumPy's generators are made: that of ``SeedSequence(42).spawn(8)[7]``.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar
from types import CoroutineType

from mirai_executor._lazily import when_imported
from mirai_executor._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, TypeVar

    from numpy.random import Generator, SeedSequence

    T = TypeVar("T")

_NUMPY = "numpy.random"
_WORDS = 8  # of 32 bits, that seed NumPy's global generator: as many as seed a PCG64


class _TaskStream:
    """The stream of a task that runs, and the generators that are seeded with it."""

    def __init__(self, stream: str) -> None:
        self.begin(stream)

    def begin(self, stream: str) -> None:
        """Seed all that there is; what is imported later, is seeded then."""
        import random  # also for a task that imports it: else that would seed it by chance

        self.stream = stream
        self._rng: Generator | None = None
        random.seed(stream)
        if (numpy_random := sys.modules.get(_NUMPY)) is not None:
            self.seed_numpy(numpy_random)

    def seed_numpy(self, numpy_random: Any) -> None:
        """Seed the global generator of NumPy's older functions."""
        numpy_random.seed(seed_sequence(self.stream).generate_state(_WORDS))

    @property
    def rng(self) -> Generator:
        """The generator of this stream: the same one each time."""
        if self._rng is None:
            from numpy.random import default_rng

            self._rng = default_rng(seed_sequence(self.stream))
        return self._rng


# What this thread runs in a process that runs other things beside tasks.
_here: ContextVar[_TaskStream | None] = ContextVar("mirai stream", default=None)
_on_daemon: _TaskStream | None = None  # what this process runs: also for threads of that task
_is_watching = False  # for NumPy to be imported


def _running() -> _TaskStream | None:
    return _here.get() or _on_daemon


def run(stream: str, call: Callable[[], T]) -> T:
    """Make the call of a task, on a daemon."""
    global _on_daemon  # a daemon runs one task at a time
    _watch_for_numpy()
    running = _on_daemon = _TaskStream(stream)
    try:
        returned = call()
    finally:
        _on_daemon = None
    coroutine: Any = returned  # perhaps
    return _awaited(running, coroutine) if type(coroutine) is CoroutineType else returned  # type: ignore[return-value]  # it is one, too


async def _awaited(running: _TaskStream, coroutine: CoroutineType[Any, Any, Any]) -> Any:
    """Await a coroutine, beside which others may run that have streams of their own."""
    _here.set(running)
    return await coroutine


class RunHere:
    """A block in which a task runs in this process; it leaves the generators here as they were.

    It can be entered again, for a task that is done in steps: each goes on with the numbers behind
    those of the last one.

    Args:
        stream: That of the task.
    """

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self._running: _TaskStream | None = None
        self._inside: Any = None  # the states where it was left

    def __enter__(self) -> None:
        _watch_for_numpy()
        self._outside = _states()
        if self._running is None:
            self._running = _TaskStream(self._stream)
        else:
            _set_states(self._inside, self._running.seed_numpy)
        self._token = _here.set(self._running)

    def __exit__(self, *exc_info: object) -> None:
        _here.reset(self._token)
        self._inside = _states()
        # By chance, as if NumPy had been imported later.
        _set_states(self._outside, lambda numpy_random: numpy_random.seed())


def _states() -> tuple[Any, Any]:
    """Return the states of the global generators: of ``random``, and of NumPy if it is there."""
    import random

    numpy_random: Any = sys.modules.get(_NUMPY)
    return random.getstate(), None if numpy_random is None else numpy_random.get_state()


def _set_states(states: tuple[Any, Any], seed_numpy: Callable[[Any], object]) -> None:
    """Go back to these states; seed NumPy's generator if it has been imported since."""
    import random

    random.setstate(states[0])
    if (numpy_random := sys.modules.get(_NUMPY)) is None:
        return
    if states[1] is None:
        seed_numpy(numpy_random)
    else:
        numpy_random.set_state(states[1])


def in_turn(items: Iterable[T]) -> Iterator[T]:
    """Yield the items of a chunk; while each is at work, its own stream is the one that runs."""
    running: Any = _running()  # there is one: this is a task of a map with streams
    above, _, first = running.stream.rpartition(":")
    for number, item in enumerate(items, int(first)):
        if number > int(first):
            running.begin(f"{above}:{number}")
        yield item


def seed_sequence(stream: str) -> SeedSequence:
    """Return a stream as NumPy has it."""
    from numpy.random import SeedSequence

    entropy, *key = map(int, stream.split(":"))
    return SeedSequence(entropy, spawn_key=key)


def rng() -> Generator:
    """Return the random generator of the task that runs.

    With the ``seed`` of its executor, it is made from the task's own stream, so it gives the same
    numbers on any daemon, and if the task runs a second time: it is
    ``numpy.random.default_rng(SeedSequence(seed, spawn_key=(index,)))``, that is, a PCG64. The
    first task that is submitted has the index 0. The calls of a :meth:`MiraiExecutor.map` have
    ``spawn_key=(index, element)``, where the map as a whole has an index. In the same call, it is
    the same generator each time; also for threads that a task starts on a daemon, so for the same
    numbers each time, give each of them one of ``rng().spawn(n)``.

    Without a ``seed``, and outside of tasks, it is a new generator, seeded by the system.

    Raises:
        ImportError: NumPy is not installed.

    Example:
        >>> def throw():
        ...     return rng().integers(1, 7, 4).tolist()
        >>> with MiraiExecutor(2, seed=42) as executor:
        ...     futures = [executor.submit(throw) for _ in range(2)]
        ...     [future.result() for future in futures]
        [[3, 6, 4, 6], [1, 3, 2, 1]]
    """
    if (running := _running()) is not None:
        return running.rng
    from numpy.random import default_rng

    return default_rng()


def _watch_for_numpy() -> None:
    global _is_watching  # there is one NumPy in a process
    if not _is_watching and _NUMPY not in sys.modules:
        when_imported({_NUMPY: _on_import})
    _is_watching = True


def _on_import(numpy_random: Any) -> None:
    if (running := _running()) is not None:
        running.seed_numpy(numpy_random)
