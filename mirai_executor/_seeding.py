"""Executors whose tasks have random numbers of their own, the same ones each time."""

from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.random import SeedSequence

    from ._lifetime import HostOwner
    from ._stream_order import Streams

__all__ = ["SeededExecutor"]


class SeededExecutor(Executor):
    """What executors and views have in common, as far as they were given a seed."""

    _streams: "Streams | None" = None

    def _root(self) -> "HostOwner":
        raise NotImplementedError

    def _seed_with(self, seed: Any) -> None:
        if seed is not None:
            from ._stream_order import Streams  # for those who ask for it

            self._streams = Streams(seed)

    def next_stream(self) -> "SeedSequence | None":
        """Return random entropy for a use of your own, as the next task would have had it.

        It takes a place in the order of submission: no task gets the same stream. Safe from any
        thread.

        Returns:
            ``SeedSequence(seed, spawn_key=(index,))``, from which NumPy makes generators; None if
            the executor has no ``seed``.

        Raises:
            ImportError: NumPy is not installed. Nothing has changed.

        Example:
            >>> import numpy as np
            >>> with MiraiExecutor(2, seed=42) as executor:
            ...     executor.next_stream().spawn_key, executor.next_stream().spawn_key
            ...     np.random.default_rng(executor.next_stream()).integers(100).item()
            ((0,), (1,))
            70
        """
        streams = self._root()._streams
        if streams is None:
            return None
        from ._random_streams import seed_sequence

        stream = streams.next()
        try:
            return seed_sequence(stream)
        except ImportError:
            streams.put_back(stream)
            raise
