"""The executors that are compared, behind one small face."""

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Protocol


class Peer(Protocol):
    """What a measurement needs of an executor."""

    def submit(self, fn: Callable[..., Any], *args: Any) -> Any:
        """Return something with a ``result()``."""

    def map(self, fn: Callable[..., Any], items: Iterable[Any], chunksize: int) -> Iterable[Any]:
        """Return the results, in order."""


class Looks(Peer, Protocol):
    """A peer that has a way for many tasks to look at one array."""

    def look_at(self, fn: Callable[..., Any], array: Any, count: int) -> list[Any]:
        """Return ``fn`` of the array, as often as that, from so many tasks."""


class OfExecutor:
    """An executor of ``concurrent.futures``."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor

    def submit(self, fn: Callable[..., Any], *args: Any) -> Any:
        return self.executor.submit(fn, *args)

    def map(self, fn: Callable[..., Any], items: Iterable[Any], chunksize: int) -> Iterable[Any]:
        return self.executor.map(fn, items, chunksize=chunksize)


class OfMirai(OfExecutor):
    """Ours."""

    def look_at(self, fn: Callable[..., Any], array: Any, count: int) -> list[Any]:
        shared = self.executor.share(array)  # type: ignore[attr-defined]  # it is ours
        return [f.result() for f in [self.submit(fn, shared) for _ in range(count)]]


class OfJoblib:
    """``joblib.Parallel``, which writes large arrays to a file that its workers map."""

    def __init__(self, parallel: Any) -> None:
        self.parallel = parallel

    def submit(self, fn: Callable[..., Any], *args: Any) -> Any:
        future: Future[Any] = Future()
        future.set_result(self._run(fn, [args])[0])
        return future

    def map(self, fn: Callable[..., Any], items: Iterable[Any], chunksize: int) -> Iterable[Any]:
        return self._run(fn, [(item,) for item in items])

    def look_at(self, fn: Callable[..., Any], array: Any, count: int) -> list[Any]:
        return self._run(fn, [(array,)] * count)

    def _run(self, fn: Callable[..., Any], calls: list[tuple[Any, ...]]) -> list[Any]:
        from joblib import delayed

        results: list[Any] = self.parallel(delayed(fn)(*call) for call in calls)
        return results


class OfRay:
    """Ray, with ``ray.put``."""

    def __init__(self, ray: Any) -> None:
        self.ray = ray
        self.remotes: dict[Any, Any] = {}

    def _remote(self, fn: Callable[..., Any]) -> Any:
        if fn not in self.remotes:
            self.remotes[fn] = self.ray.remote(fn)
        return self.remotes[fn].remote

    def submit(self, fn: Callable[..., Any], *args: Any) -> Any:
        return self._remote(fn)(*args).future()

    def map(self, fn: Callable[..., Any], items: Iterable[Any], chunksize: int) -> Iterable[Any]:
        remote = self._remote(fn)
        results: list[Any] = self.ray.get([remote(item) for item in items])
        return results

    def look_at(self, fn: Callable[..., Any], array: Any, count: int) -> list[Any]:
        shared, remote = self.ray.put(array), self._remote(fn)
        results: list[Any] = self.ray.get([remote(shared) for _ in range(count)])
        return results


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
        yield OfMirai(executor)


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


@contextmanager
def _joblib(workers: int) -> Iterator[Peer]:
    from joblib import Parallel

    with Parallel(n_jobs=workers) as parallel:
        yield OfJoblib(parallel)


@contextmanager
def _dask(workers: int) -> Iterator[Peer]:
    from distributed import Client

    with Client(n_workers=workers, threads_per_worker=1, dashboard_address=None) as client:
        yield OfExecutor(client.get_executor(pure=False))


@contextmanager
def _ray(workers: int) -> Iterator[Peer]:
    import ray

    ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)
    try:
        yield OfRay(ray)
    finally:
        ray.shutdown()


PEERS: dict[str, Callable[[int], Any]] = {
    "mirai": _mirai,
    "processes (spawn)": lambda workers: _processes(workers, "spawn"),
    "processes (forkserver)": lambda workers: _processes(workers, "forkserver"),
    "loky": _loky,
    "pebble": _pebble,
    "Pool": _pool,
    "joblib": _joblib,
    "dask": _dask,
    "ray": _ray,
}
_NEEDS = {
    "loky": "loky",
    "pebble": "pebble",
    "joblib": "joblib",
    "dask": "distributed",
    "ray": "ray",
}


def is_installed(name: str) -> bool:
    """Tell whether a peer can be measured here."""
    return name not in _NEEDS or find_spec(_NEEDS[name]) is not None
