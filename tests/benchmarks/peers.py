"""The executors that are compared, behind one small face."""

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Protocol


class Peer(Protocol):
    """What a measurement needs of an executor."""

    def submit(self, fn: Callable[..., Any], *args: Any) -> Any:
        """Return something with a ``result()``."""

    def map(self, fn: Callable[..., Any], items: Iterable[Any], chunksize: int) -> Iterable[Any]:
        """Return the results, in order."""


class OfExecutor:
    """An executor of ``concurrent.futures``."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor

    def submit(self, fn: Callable[..., Any], *args: Any) -> Any:
        return self.executor.submit(fn, *args)

    def map(self, fn: Callable[..., Any], items: Iterable[Any], chunksize: int) -> Iterable[Any]:
        return self.executor.map(fn, items, chunksize=chunksize)


class _AsyncResult:
    def __init__(self, result: Any) -> None:
        self.result = result.get


class OfPool:
    """A ``multiprocessing.Pool``."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool

    def submit(self, fn: Callable[..., Any], *args: Any) -> Any:
        return _AsyncResult(self.pool.apply_async(fn, args))

    def map(self, fn: Callable[..., Any], items: Iterable[Any], chunksize: int) -> Iterable[Any]:
        results: list[Any] = self.pool.map(fn, items, chunksize)
        return results


class OfPebble:
    """A ``pebble.ProcessPool``."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool

    def submit(self, fn: Callable[..., Any], *args: Any) -> Any:
        return self.pool.schedule(fn, args=list(args))

    def map(self, fn: Callable[..., Any], items: Iterable[Any], chunksize: int) -> Iterable[Any]:
        results: Iterable[Any] = self.pool.map(fn, list(items), chunksize=chunksize).result()
        return results


@contextmanager
def _mirai(workers: int) -> Iterator[Peer]:
    from mirai_executor import MiraiExecutor

    with MiraiExecutor(workers) as executor:
        yield OfExecutor(executor)


@contextmanager
def _processes(workers: int, method: str) -> Iterator[Peer]:
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(workers, mp_context=context) as executor:
        yield OfExecutor(executor)


@contextmanager
def _loky(workers: int) -> Iterator[Peer]:
    from loky import ProcessPoolExecutor as Loky

    with Loky(workers) as executor:
        yield OfExecutor(executor)


@contextmanager
def _pebble(workers: int) -> Iterator[Peer]:
    import pebble

    with pebble.ProcessPool(workers, context=multiprocessing.get_context("spawn")) as pool:
        yield OfPebble(pool)


@contextmanager
def _pool(workers: int) -> Iterator[Peer]:
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield OfPool(pool)


PEERS: dict[str, Callable[[int], Any]] = {
    "mirai": _mirai,
    "processes (spawn)": lambda workers: _processes(workers, "spawn"),
    "processes (forkserver)": lambda workers: _processes(workers, "forkserver"),
    "loky": _loky,
    "pebble": _pebble,
    "Pool": _pool,
}
_NEEDS = {"loky": "loky", "pebble": "pebble"}


def is_installed(name: str) -> bool:
    """Tell whether a peer can be measured here."""
    return name not in _NEEDS or find_spec(_NEEDS[name]) is not None
