"""A backend for joblib, so that ``Parallel`` and scikit-learn's ``n_jobs`` use daemons.

Importing this module registers it under the name ``"mirai"``::

    import mirai_executor.integrations.joblib
    from joblib import Parallel, delayed, parallel_config

    with parallel_config(backend="mirai", n_jobs=4):
        Parallel()(delayed(pow)(n, 2) for n in range(10))
"""

import multiprocessing
import os
import traceback
import warnings
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Any, Final

import joblib
from joblib._parallel_backends import (
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
)

from mirai_executor._turns import Turns
from mirai_executor.errors import MiraiInterrupt
from mirai_executor.executor import MiraiExecutor

__all__ = ["MiraiBackend", "shut_down"]

# What joblib hands to every backend for its own handling of large arrays. Ours go through shared
# memory, from 64 KiB on, whatever these say.
_MEMMAPPING = ("max_nbytes", "mmap_mode", "temp_folder", "context", "verbose", "prefer", "require")


class MiraiBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]  # both are Any
    """Runs the batches of ``joblib.Parallel`` as tasks of a :class:`MiraiExecutor`.

    Without an executor of yours, one with ``n_jobs`` daemons is kept for all calls that ask for as
    many, with the same options; its daemons exit after five minutes without a task. A call that
    fails, times out or is interrupted cancels its tasks, running ones included; a daemon that
    crashes costs the call, and nothing else.

    Args:
        executor: An executor of yours to use, such as one with daemons elsewhere. ``n_jobs`` then
            says how much work joblib sends ahead, and ``n_jobs=-1`` means its ``max_workers``. You
            shut it down.
        nesting_level: How many calls of ``Parallel`` are around this one, as joblib counts them.
        inner_max_num_threads: How many threads BLAS, OpenMP and the like may use in a daemon.
        **options: Other arguments of the :class:`MiraiExecutor` that is made.

    Raises:
        TypeError: ``executor`` has no ``submit``, or other options are given beside it.

    Example:
        >>> from joblib import Parallel, delayed, parallel_config
        >>> with parallel_config(backend="mirai", n_jobs=2):
        ...     Parallel()(delayed(abs)(n) for n in (-1, 2, -3))
        [1, 2, 3]
    """

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True
    uses_threads = False
    supports_sharedmem = False

    def __init__(
        self,
        executor: Any = None,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        **options: Any,
    ) -> None:
        if executor is not None and not callable(getattr(executor, "submit", None)):
            raise TypeError(f"executor must have a method submit, not be {executor!r}")
        if executor is not None and (options or inner_max_num_threads is not None):
            raise TypeError("options belong to the executor that is made; here, one is given")
        super().__init__(
            nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads, **options
        )
        self._given = executor
        self._executor: Any = None
        self._open: weakref.WeakSet[Future[Any]] = weakref.WeakSet()

    def __reduce__(self) -> Any:
        # A nested call in a task makes its own: executors stay in their process.
        options = dict(self.backend_kwargs)
        return _made, (self.nesting_level, self.inner_max_num_threads, options)

    def configure(self, n_jobs: int | None = 1, parallel: Any = None, **options: Any) -> int:
        """Prepare for a call of ``Parallel``, and return how many batches may run at once."""
        count = self.effective_n_jobs(n_jobs)
        if count == 1 and self._given is None:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self.parallel = parallel
        if self._given is not None:
            self._executor = self._given
        else:
            wanted = {**self.backend_kwargs, **options}
            for name in _MEMMAPPING:
                wanted.pop(name, None)
            self._executor = _shared.of(count, self.inner_max_num_threads, wanted)
        return count

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many batches run at once; -1 stands for all daemons, or all processors."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        if multiprocessing.current_process().daemon and self._given is None:
            if n_jobs != 1:
                warnings.warn(
                    "this is a daemonic process of multiprocessing, which may not have children: "
                    "n_jobs is 1 here",
                    stacklevel=3,
                )
            return 1
        if n_jobs > 0:
            return n_jobs
        most = joblib.cpu_count() if self._given is None else _size(self._given)
        return max(1, most + 1 + n_jobs)

    def submit(
        self, func: Callable[[], Any], callback: Callable[[Future[Any]], object] | None = None
    ) -> Future[Any]:
        """Have a batch run by a daemon; the callback is called with its future."""
        future: Future[Any] = self._executor.submit(func)
        self._open.add(future)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """Return the results of a batch, or raise its error."""
        try:
            error = out.exception()
        except CancelledError:
            raise RuntimeError(
                "a batch was cancelled: its executor was shut down, or another call that uses the "
                "same generator of results was abandoned"
            ) from None
        if isinstance(error, MiraiInterrupt):
            raise KeyboardInterrupt from None  # what joblib's own backends raise
        if error is not None:
            if error.__cause__ is None:  # joblib takes the traceback away, and keeps this
                error.__cause__ = _OnDaemon("".join(traceback.format_exception(error)))
            raise error
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Cancel the batches of this call, running ones included; the daemons stay."""
        for future in list(self._open):
            future.cancel()
        self._open.clear()

    def terminate(self) -> None:
        """Let go of the executor at the end of a call; its daemons are there for the next one."""
        self._executor = None
        self._open.clear()
        self.reset_batch_stats()


class _OnDaemon(Exception):  # noqa: N818 - shown as the cause of one, like the standard library's
    """The traceback of an error on its daemon, as text."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def _made(
    nesting_level: int | None, inner_max_num_threads: int | None, options: dict[str, Any]
) -> MiraiBackend:
    return MiraiBackend(None, nesting_level, inner_max_num_threads, **options)


def _size(executor: Any) -> int:
    size = getattr(executor, "_max_workers", None)
    return size if isinstance(size, int) and size > 0 else joblib.cpu_count()


class _Shared:
    """The executors that calls share, by what was asked for; those that nobody uses may go.

    An executor that is dropped from here lives on as long as a call uses it, then ends by itself.
    """

    _MOST: Final = 2
    _IDLE_TIME: Final = 300.0  # seconds, as joblib's own workers have

    def __init__(self) -> None:
        self._turns = Turns()
        self._made: list[tuple[int, dict[str, Any], MiraiExecutor]] = []  # the last used one last

    def of(self, count: int, threads: int | None, options: dict[str, Any]) -> MiraiExecutor:
        """Return one with so many daemons, and so many threads of libraries in each."""
        wanted = {"idle_time": self._IDLE_TIME, **options, "max_workers": count}
        if threads is not None:
            variables = dict.fromkeys(MiraiBackend.MAX_NUM_THREADS_VARS, str(threads))
            wanted["env"] = {**variables, **wanted.get("env", {})}
        with self._turns.take():
            for entry in self._made:
                if entry[0] == os.getpid() and _is_alike(entry[1], wanted):
                    self._made.remove(entry)
                    break
            else:
                # A process that was forked from this one makes its own.
                entry = (os.getpid(), wanted, MiraiExecutor(**wanted))
            self._made = [*self._made[1 - self._MOST :], entry]
            return entry[2]

    def shut_down(self) -> None:
        """Wait for what runs, and end all daemons."""
        with self._turns.take():
            made, self._made = self._made, []
        for pid, _, executor in made:
            if pid == os.getpid():
                executor.shutdown()


def _is_alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    try:
        return bool(one == other)
    except Exception:
        return False  # an array among the arguments of an initializer, say


_shared = _Shared()


def shut_down() -> None:
    """End the daemons that are kept for later calls; the next call starts others.

    They end by themselves after five minutes without a task, and with this process.

    Example:
        >>> shut_down()
    """
    _shared.shut_down()


joblib.register_parallel_backend("mirai", MiraiBackend)
