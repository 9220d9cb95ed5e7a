"""Shows the daemons of an executor to programs that look into a ``ProcessPoolExecutor``."""

from collections.abc import Iterator, Mapping

from mirai_executor._host import Worker


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
