"""Shows the daemons of an executor to programs that look into a ``ProcessPoolExecutor``."""

import signal
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

__all__ = ["Local", "Worker", "Workers"]


class Local(Protocol):
    """A daemon of this machine, as its host has it."""

    slot: int

    @property
    def pid(self) -> int: ...
    @property
    def exitcode(self) -> int | None: ...
    def kill(self, signum: int) -> None: ...


class Worker:
    """One daemon, as far as it is like a ``multiprocessing.Process``.

    Args:
        daemon: The daemon.
        soon: Has the host thread call something.
    """

    def __init__(self, daemon: Local, soon: Callable[[Callable[[], None]], None]) -> None:
        self.pid = daemon.pid
        self.name = f"MiraiDaemon-{daemon.slot}"
        self._daemon = daemon
        self._soon = soon

    @property
    def exitcode(self) -> int | None:
        """How it has ended; None while it lives."""
        return self._daemon.exitcode

    def is_alive(self) -> bool:
        return self.exitcode is None

    def terminate(self) -> None:
        """Send it SIGTERM, unless it has ended. Does not wait."""
        self._soon(lambda: self._daemon.kill(signal.SIGTERM))

    def kill(self) -> None:
        """Send it SIGKILL, unless it has ended. Does not wait."""
        self._soon(lambda: self._daemon.kill(signal.SIGKILL))

    def __repr__(self) -> str:
        return f"<Worker {self.name} pid={self.pid} exitcode={self.exitcode}>"


class Workers(int, Mapping[int, Worker]):
    """The daemons by their pids, and at the same time how many there may be.

    ``ProcessPoolExecutor`` has the one in ``_processes``, and ``multiprocessing.Pool`` the other:
    there are libraries that take whatever has this attribute for a ``Pool`` (dynesty, nautilus).
    """

    _workers: dict[int, Worker]

    @classmethod
    def of(cls, most: int, workers: dict[int, Worker]) -> "Workers":
        """Make one of how many there may be, and of those that there are."""
        made = cls(most)
        made._workers = workers
        return made

    def __getitem__(self, pid: int) -> Worker:
        return self._workers[pid]

    def __iter__(self) -> Iterator[int]:
        return iter(self._workers)

    def __len__(self) -> int:
        return len(self._workers)

    def copy(self) -> dict[int, Worker]:
        return dict(self._workers)

    def __repr__(self) -> str:
        return repr(self._workers)
