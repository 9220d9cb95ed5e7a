"""Has the daemons to come wait while the fork server imports the main module for them all.

They wait no longer than a quarter of the time that their start may take: then each imports it for
itself. So they do where the module cannot be imported once for all, and a record says why.
"""

import logging
import os
import selectors
from collections.abc import Callable

from mirai_executor._local import Spawner
from mirai_executor._payload.host import Preparation, encode_plain
from mirai_executor._shared import IMPORTED
from mirai_executor._waiting import Reactor

from . import _registry
from ._settings import Setup

_LOG = logging.getLogger("mirai_executor")
_LONGEST = 4096  # bytes of what the server says
_SHARE = 0.25  # of the time for a start


class SharedImport:
    """One import, by one server. For the host thread.

    Args:
        spawner: Has the server.
        setup: What daemons are told.
        file: The main module's, as daemons read it.
        reactor: Tells when it has ended.
        on_end: Called once daemons need not wait any more.

    Attributes:
        is_under_way: Whether it has begun, and not ended.
    """

    def __init__(
        self,
        spawner: Spawner,
        setup: Setup,
        file: bytes,
        reactor: Reactor,
        on_end: Callable[[], None],
    ) -> None:
        preparation = Preparation.of_this_process(0).titled(setup.name)._replace(main=setup.main)
        self._fd = spawner.import_main(encode_plain((preparation, file)))
        self._reactor, self._on_end = reactor, on_end
        self.is_under_way = self._fd is not None
        if self._fd is not None:
            reactor.register(self._fd, selectors.EVENT_READ, self._end)
            self._timer = reactor.call_in(setup.start_timeout * _SHARE, self._end)

    def _end(self) -> None:
        if self._fd is None:
            return
        os.set_blocking(self._fd, False)
        try:
            said = os.read(self._fd, _LONGEST)
        except BlockingIOError:
            said = b"-it takes too long"
        self.close()
        if said != IMPORTED:
            why = said[1:].decode(errors="replace") or "the fork server has ended"
            _LOG.debug("each daemon imports the main module for itself: %s", why)
        self._on_end()

    def close(self) -> None:
        """Wait for it no longer."""
        self.is_under_way = False
        if self._fd is None:
            return
        self._timer.cancel()
        self._reactor.unregister(self._fd)
        with _registry.no_fork:
            os.close(self._fd)
        self._fd = None
