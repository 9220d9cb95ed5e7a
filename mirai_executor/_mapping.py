"""Executors that call a function with many arguments: in maps, and in the shape of a pool."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ._arguments import check_map

if TYPE_CHECKING:
    from ._host import Host, Options
    from ._lifetime import HostOwner
    from ._maps._mirai_map import MiraiMap
    from ._maps._pool import ExecutorPool
    from ._progress import Progress

T = TypeVar("T")


class MappingExecutor(Executor):
    """What executors and views have in common, as far as they map."""

    _host: "Host"
    _options: "Options"

    def _root(self) -> "HostOwner":
        raise NotImplementedError

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
        progress: "Progress" = False,
    ) -> Iterator[T]:
        """Return an iterator over the results of ``fn``, in the order of its arguments.

        All calls are submitted at once, unless ``buffersize`` says otherwise. Safe from any
        thread. Threads that share the iterator take each result once; with ``chunksize``,
        ``buffersize`` or ``progress``, it belongs to one thread at a time.

        Args:
            fn: Called with one item of each iterable. It is pickled once: its tasks see it, and
                what it captures, as they are now.
            *iterables: The arguments. The shortest iterable ends the map.
            timeout: Seconds from now within which each result must be available; None for no
                limit.
            chunksize: How many calls to send together as one task. Larger chunks save time when
                each call takes only microseconds.
            buffersize: How many tasks may be submitted ahead of the results that have been
                consumed; None submits all of them. With a buffer size, iterables may be endless.
            progress: How to show how many results have been yielded. True, or a string that
                stands in front of the bar, shows a bar of tqdm in a notebook; on a terminal, one
                of tqdm, or else of rich, or a plain line; nothing where standard error is a file.
                A function is called with how many there are so far, and how many there will be
                (None if an iterable has no length); of an object with ``update()``, that is
                called with 1 for each. Bars, also one of tqdm that is given here, show besides how
                far running tasks have come, as these say by :func:`progress`.

        Returns:
            An iterator. If a call raised, the iterator raises the same exception when it gets
            there; in place of a StopIteration, a RuntimeError that it has caused. That ends it;
            from Python 3.16 on, it has the results behind as well, as the standard library's.

        Raises:
            TypeError: ``fn`` is not callable, an argument is not iterable, a size is not an
                integer, or ``progress`` cannot show progress.
            ValueError: ``chunksize`` or ``buffersize`` is smaller than 1.
            TimeoutError: Raised by the iterator when ``timeout`` has passed. Tasks that have not
                started are then cancelled, as they are when the iterator is dropped.

        Example:
            >>> with MiraiExecutor(2) as executor:
            ...     list(executor.map(pow, range(5), [2] * 5))
            [0, 1, 4, 9, 16]
        """
        from ._maps import _map  # many use none

        check_map(fn, iterables, timeout, chunksize, buffersize)
        total = None if progress is False else _map.total_for(progress, iterables)
        flatten: Callable[[Iterator[list[Any]]], Iterator[T]] | None = None
        if chunksize == 1:
            submit_next = _map.map_submitter(self, fn, zip(*iterables, strict=False))
        else:
            flatten = _map.flatten
            if _map.GOES_ON:
                from ._maps import _map_on

                fn, flatten = partial(_map_on.attempt, fn), _map_on.Flattened
            if len(iterables) == 1:  # then the items need no tuples, which take time to pickle
                submit_next = _map.map_submitter(self, fn, iterables[0], chunksize, _map.run_items)
            else:
                tuples = zip(*iterables, strict=False)
                submit_next = _map.map_submitter(self, fn, tuples, chunksize, _map.run_chunk)
        tasks: _map.MapResults[Any] = _map.MapResults(submit_next, buffersize, timeout)
        items = tasks if flatten is None else flatten(tasks)
        if progress is False:
            return items
        return _map.in_view(items, tasks, progress, total, counts_tasks=flatten is None)

    def mirai_map(
        self,
        xs: Any,
        fn: Callable[..., T],
        *,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        on_result: Callable[[Any, T], object] | None = None,
        on_error: Callable[[Any, BaseException], object] | None = None,
        on_progress: Callable[[int, int], object] | None = None,
    ) -> "MiraiMap[T]":
        """Call a function with each element of something, and return all calls as one map.

        All calls are submitted at once. Safe from any thread.

        Args:
            xs: The elements: those of an iterable, which is consumed; the values of a mapping,
                whose keys the results keep; the rows of a frame (pandas, polars), whose columns
                are keyword arguments of the function; or the rows of an array of two dimensions,
                whose items are its positional arguments. Where the index of a pandas frame
                or series consists of strings, all different, they are the keys.
            fn: Called with each element. It is pickled once, as it is now.
            args: Further positional arguments, the same for all, that come after the element; in
                front of the columns of a frame.
            kwargs: Further keyword arguments, the same for all.
            timeout: Seconds that each element may run, from its own start; None for no limit. (For
                one that begins now, set the ``timeout`` of :meth:`with_options`.)
            on_result: Called with the key of each element that has returned, or its place if there
                are no keys, and its value. Listeners run on the executor's host thread, soon after
                the element has ended, and must not block.
            on_error: Called with the key or place of each element that has failed or was
                cancelled, and its error.
            on_progress: Called after each element, with how many have ended, and how many there
                are.

        Returns:
            A :class:`MiraiMap`, to be collected, iterated over or awaited.

        Raises:
            TypeError: ``fn`` is not callable, ``xs`` has no elements, or another argument has the
                wrong type.
            ValueError: ``timeout`` is not positive.
            RuntimeError: The executor has been shut down.

        Example:
            >>> with MiraiExecutor(2) as executor:
            ...     executor.mirai_map({"a": 2, "b": 3}, pow, args=(2,)).collect()
            {'a': 4, 'b': 9}
        """
        from ._maps._mirai_map import MapListeners, start_map  # many use none

        self._root()._check_open()
        listeners = MapListeners(on_result, on_error, on_progress)
        face: Any = self  # has all that an executor or view has
        return start_map(face, xs, fn, (args, kwargs), timeout, listeners)

    def as_pool(self) -> "ExecutorPool":
        """Return the shape of a ``multiprocessing.Pool`` for code that wants one.

        It has ``apply``, ``apply_async``, ``map``, ``map_async``, ``imap``, ``imap_unordered``,
        ``starmap``, ``starmap_async``, ``close``, ``terminate`` and ``join``, with the arguments,
        results, callbacks and ``multiprocessing.TimeoutError`` of the original. Tasks have the
        limits of this executor or view. Cheap, and safe from any thread.

        The daemons stay the executor's: at the end of its ``with`` block, a pool cancels what was
        submitted through it and has not ended, running tasks included, and the executor goes on.
        Where the original would wait for ever (for a worker that has crashed, for the results of
        a terminated pool, in a callback), there is an exception. An iterable without a length
        that is given to ``imap`` is read as its results are taken, 16 tasks for each daemon ahead,
        and to its end by ``join``.

        Example:
            >>> with MiraiExecutor(2) as executor, executor.as_pool() as pool:
            ...     pool.map(abs, [-1, -2]), pool.apply_async(pow, (2, 10)).get(timeout=30)
            ([1, 2], 1024)
        """
        from ._maps import _map, _pool  # which few ask for

        submitter = partial(_map.map_submitter, self)
        return _pool.ExecutorPool(
            self, lambda: self._root()._max_workers, submitter, self._host.owns_this_thread
        )
