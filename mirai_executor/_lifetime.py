"""Starts the host of an executor, shows what it is doing, and ends it."""

import signal
import sys
import weakref
from typing import TYPE_CHECKING, Any, Self, TypeVar

from ._arguments import check_count, check_seconds
from ._host import Host, Options, Settings, is_exiting
from ._submitting import Submitter

if TYPE_CHECKING:
    from ._host import Forking
    from ._monitoring._status import Info, Status, Waiting
    from ._provisioning._launching import Launching

T = TypeVar("T")


class HostOwner(Submitter):
    """An executor that has a host of its own; views have that of another.

    Args:
        host: Runs its tasks.
        name: Its name, for people.
        most: How many daemons may run, or have been requested.
        launching: Requests daemons that connect by themselves; None where the host starts them.
    """

    def __init__(
        self, host: Host, name: str | None, most: int, launching: "Launching | None"
    ) -> None:
        shell = _shell()
        super().__init__(host, Options(cancel_on_interrupt=shell is not None))
        if shell is not None:
            from ._around._cells import watch  # which programs do without

            watch(host, shell)
        self._most = most
        self._launching = launching
        self._name = name
        self._is_shut_down = False
        # An executor that is dropped lets accepted work finish, and leaves nothing behind.
        weakref.finalize(self, self._host.shutdown, cancel_queued=False).atexit = False

    @property
    def _max_workers(self) -> int:
        """How many daemons there may be; with a url, how many have connected or were requested."""
        if self._launching is None:
            return self._most
        return max(1, self._most, self._host.connections)

    @property
    def url(self) -> str | None:
        """The address to which daemons connect, the best one of several; None without a ``url``.

        Example:
            >>> with MiraiExecutor(url="tcp://127.0.0.1:0") as executor:
            ...     executor.url.startswith("tcp://127.0.0.1:")
            True
        """
        return None if self._launching is None else self._launching.listening.urls[0]

    @property
    def urls(self) -> tuple[str, ...]:
        """All addresses to which daemons can connect, best first.

        Example:
            >>> with MiraiExecutor(2) as executor:
            ...     executor.urls
            ()
        """
        return () if self._launching is None else self._launching.listening.urls

    def wait_ready(self, timeout: float | None = None, *, count: int | None = None) -> None:
        """Start all daemons, and wait until they are connected.

        Args:
            timeout: Seconds to wait; None for as long as it takes.
            count: How many daemons; by default ``max_workers``, or with a ``url``, as many as were
                requested with :meth:`launch_local` and :meth:`launch_remote`, and at least one.

        Raises:
            TimeoutError: Not all of them were connected in time. Those that were stay connected.
            LaunchError: They cannot be started.
            RuntimeError: The executor has been shut down, or this is a callback of a future, on
                the thread that would have to start them.

        Example:
            >>> with MiraiExecutor(2) as executor:
            ...     executor.wait_ready()
            ...     executor.status().connections
            2
        """
        self._check_open()
        check_seconds("timeout", timeout, optional=True, zero=True)
        check_count("count", count, optional=True)
        self._host.wait_ready(max(1, self._most) if count is None else count, timeout)

    def share(self, obj: T, /) -> T:
        """Return a copy of an object whose large arrays are in memory shared with all daemons.

        When the copy is passed to a task of this executor, its arrays are not copied again: all
        tasks read the same, read-only memory. The memory is freed soon after the last reference to
        it is gone, in this process and in the arguments of tasks. Buffers smaller than 192 KiB are
        copied as usual, and so are objects that are not buffers, such as columns of strings.
        However many tasks wait, what they read is in memory once, and it can no longer change:
        arrays that are not shared are copied late if too many of them wait (:meth:`submit`).

        Args:
            obj: An array, or anything else that can be pickled. It may be changed afterwards; the
                copy does not change.

        Returns:
            The copy, of the same type and shape. Its large arrays are read-only.

        Raises:
            PayloadError: The object cannot be pickled.
            OSError: The system has no memory, or no file descriptor, left.

        Example:
            >>> import numpy as np
            >>> with MiraiExecutor(2) as executor:
            ...     table = executor.share(np.ones((1000, 50)))
            ...     float(executor.submit(np.sum, table).result())
            50000.0
        """
        self._check_open()
        return self._host.share(obj)

    def status(self) -> "Status":
        """Return a snapshot of what the executor is doing now. Never waits for tasks.

        Example:
            >>> with MiraiExecutor(2) as executor:
            ...     executor.submit(abs, -1).result()
            ...     executor.status().completed
            1
            1
        """
        from ._monitoring._status import Status  # dataclasses take milliseconds to make

        url = None if self._launching is None else self._launching.listening.urls[0]
        return Status.of(self._host.view(), url, self._host.gate)

    @property
    def waiting(self) -> "Waiting | None":
        """The tasks that wait while no daemon is connected to the ``url``; None if none do.

        Example:
            >>> with MiraiExecutor(2) as executor:  # daemons start when there is a task
            ...     executor.waiting is None
            True
        """
        return self.status().waiting

    def info(self) -> "Info":
        """Return mirai's five counters as they are now. Never waits for tasks.

        Example:
            >>> with MiraiExecutor(2) as executor:
            ...     executor.info()
            Info(connections=0, cumulative=0, awaiting=0, executing=0, completed=0)
        """
        from ._monitoring._status import Info

        return Info.of(self._host.view())

    def story(self) -> str:
        """Return the last 1,000 events and commands of the scheduler, for a bug report.

        Safe from any thread, also after the executor has ended, and never waits. One a line, the
        oldest first: the moment, in seconds of ``time.monotonic()``; whether it is an event, which
        the scheduler was told of, or a command, which it gave; and what it says of tasks and
        daemons by their numbers. Functions, arguments, results and errors are not in it; of code
        for :meth:`everywhere`, the names of the variables that it sets are.

        Returns:
            An empty text, as long as nothing has happened.

        Example:
            >>> with MiraiExecutor(2) as executor:
            ...     executor.submit(abs, -1).result()
            ...     "command LaunchDaemon(daemon=1)" in executor.story()
            1
            True
        """
        return self._host.story()

    def restart(self) -> None:
        """Replace all daemons, as after the edit of a module. Returns at once.

        Running tasks finish where they are. Tasks that have not begun run on new daemons, which
        import all modules anew, and run the initializer and the calls of :meth:`everywhere` first.
        Safe from any thread.

        Raises:
            RuntimeError: The executor has been shut down, or has a ``url``: the daemons that
                connect there are not its own to replace.

        Example:
            >>> import os
            >>> with MiraiExecutor(1) as executor:
            ...     before = executor.submit(os.getpid).result()
            ...     executor.restart()
            ...     executor.submit(os.getpid).result() == before
            False
        """
        self._check_open()
        if self._launching is not None:
            raise RuntimeError(
                "restart() needs daemons that the executor starts by itself, not a url; have "
                "those reload a module with everywhere(), or start others"
            )
        self._host.restart()

    def cancel_all(self) -> None:
        """Cancel all queued and running tasks; the executor goes on. Returns at once.

        Safe from any thread. The futures are cancelled within moments, those with
        ``cancel_running=False`` as well. Running tasks are stopped as by ``future.cancel()``.

        Example:
            >>> import time
            >>> with MiraiExecutor(2) as executor:
            ...     future = executor.submit(time.sleep, 3600)
            ...     executor.cancel_all()
            ...     executor.submit(abs, -1).result(), future.cancelled()
            (1, True)
        """
        self._host.cancel_all()

    def shutdown(
        self, wait: bool = True, *, cancel_futures: bool = False, cancel_running: bool = False
    ) -> None:
        """Accept no more tasks, and end the daemons when those already submitted have finished.

        Safe from any thread, and may be called more than once. Where daemons connect to a ``url``,
        and none is there or has been asked for, waiting tasks end in :class:`LaunchError` after
        ``start_timeout``; when an error leaves the ``with``, also if some have been asked for.

        Args:
            wait: Whether to return only when the daemons have ended. In a callback of a future, it
                never waits.
            cancel_futures: Whether to cancel tasks that have not started.
            cancel_running: Whether to cancel these, and stop those that are running.

        Example:
            >>> executor = MiraiExecutor(2)
            >>> future = executor.submit(pow, 2, 10)
            >>> executor.shutdown()
            >>> future.result()
            1024
        """
        self._is_shut_down = True
        self._host.shutdown(
            cancel_queued=cancel_futures or cancel_running, cancel_running=cancel_running
        )
        if wait:
            self._host.join()
            if self._launching is not None:
                self._launching.join()

    def terminate_workers(self) -> None:
        """Shut down, and send SIGTERM to all daemons. Does not wait until they have ended.

        Running tasks fail with :class:`DaemonLostError`, and queued tasks are cancelled.

        Example:
            >>> executor = MiraiExecutor(1)
            >>> executor.submit(abs, -1).result()
            1
            >>> executor.terminate_workers()
            >>> executor.submit(abs, -1)
            Traceback (most recent call last):
                ...
            RuntimeError: cannot schedule new futures after shutdown
        """
        self._is_shut_down = True
        self._host.kill(signal.SIGTERM)

    def kill_workers(self) -> None:
        """Shut down, and send SIGKILL to all daemons. Does not wait until they have ended.

        Running tasks fail with :class:`DaemonLostError`, and queued tasks are cancelled.

        Example:
            >>> executor = MiraiExecutor(1)
            >>> executor.submit(abs, -1).result()
            1
            >>> executor.kill_workers()
            >>> executor.submit(abs, -1)
            Traceback (most recent call last):
                ...
            RuntimeError: cannot schedule new futures after shutdown
        """
        self._is_shut_down = True
        self._host.kill()

    @property
    def _processes(self) -> Any:
        """What ProcessPoolExecutor calls by this name: programs that monitor it look at it."""
        from ._host import Worker
        from ._monitoring._workers import Workers

        daemons = self._host.local_daemons()
        workers = {each.pid: Worker(each, self._host.call_soon) for each in daemons}
        return Workers.of(self._max_workers, workers)

    @property
    def _pending_work_items(self) -> Any:
        """As above: as many items as there are tasks that have not ended."""
        view = self._host.view()
        return range(0 if view is None else view.awaiting + view.executing)

    @property
    def _shutdown_thread(self) -> bool:
        """As above: whether it takes no more tasks."""
        return self._is_shut_down

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exc_type: type[BaseException] | None, *exc_info: object) -> None:
        """Shut down and wait; after Ctrl-C or ``sys.exit``, cancel everything instead."""
        if exc_type is not None and issubclass(exc_type, (KeyboardInterrupt, SystemExit)):
            self._abort()
            return
        if exc_type is not None and self._launching is not None:
            # Nobody waits for ever in an error for daemons that may never come.
            self._host.shutdown(cancel_queued=False, hurried=True)
        try:
            self.shutdown(wait=True)
        except KeyboardInterrupt:
            self._abort()
            raise

    def _abort(self) -> None:
        """Stop queued and running work, and return soon."""
        self._is_shut_down = True
        self._host.abort()

    def _finish_launch(self) -> None:
        """Wait until the first daemons have been requested from a launcher, if there is one."""
        if self._launching is not None:
            self._launching.finish()

    def _root(self) -> Self:
        return self

    def _check_not_shut_down(self) -> None:
        if is_exiting():
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")
        if self._is_shut_down:
            raise RuntimeError("cannot schedule new futures after shutdown")

    def _check_open(self) -> None:
        if self._is_shut_down or is_exiting():
            self._check_not_shut_down()
        if self._host.is_broken and (error := self._host.launch_error) is not None:
            raise error


def _shell() -> Any:
    """Return IPython's, also that of a notebook: its interrupts end cells, not programs."""
    ipython = sys.modules.get("IPython")  # whoever runs in it has imported it
    find = getattr(ipython, "get_ipython", None)
    return None if find is None else find()


def forking_for(context: Any, initargs: object, **options: object) -> "Forking | None":
    """Return how daemons are forked from this process; None if they never are."""
    if context is None and not (initargs and "multiprocessing.synchronize" in sys.modules):
        return None
    from ._provisioning import _contexts  # which most have no use for

    return _contexts.forking(context, options)


def host_for(mode: str, settings: Settings) -> Host:
    """Return what runs the tasks: a host of daemons, or this process."""
    if mode == "daemons" and settings.memory is None:
        return Host(settings)
    from ._host import BoundedHost, InlineHost  # which few ask for

    return BoundedHost(settings) if mode == "daemons" else InlineHost(settings)
