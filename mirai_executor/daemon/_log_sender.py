"""Sends what tasks log to the host."""

from __future__ import annotations

import sys

from mirai_executor import _wire
from mirai_executor._lazily import when_imported
from mirai_executor._payload.common import rebuild
from mirai_executor._typing import TYPE_CHECKING

from ._piece_sender import Piece, PieceSender

if TYPE_CHECKING:
    from collections.abc import Callable
    from logging import Handler

    from mirai_executor._payload.daemon import LogLevels
    from mirai_executor._transport import Link

    from ._interrupts import Interrupts


class LogSender(PieceSender):
    """Keeps the log records of tasks until they are sent, in order.

    Args:
        link: Leads to the host.
        interrupts: Knows which task runs.
        name: What records call this daemon.
    """

    def __init__(self, link: Link, interrupts: Interrupts, name: str) -> None:
        super().__init__(link, interrupts)
        self.name = name

    def _frame(self, piece: Piece) -> _wire.Frame:
        return _wire.LogPiece(piece.number, self._lost, piece.more, piece.data)

    def begin(self, levels: LogLevels) -> None:
        """Send what is logged from now on, without importing ``logging`` before a task does."""

        def step(_: object) -> None:
            from ._log_handler import install

            install(self, levels)

        def around_main() -> Callable[[], None]:
            before = _handlers()
            return lambda: _take_back(before, levels)

        rebuild.around_main = around_main
        when_imported({"logging": step})
        if rebuild.imported_first is not None:
            _take_back(set(), levels)


def _handlers() -> set[Handler]:
    if "logging" not in sys.modules:
        return set()
    from ._log_handler import installed_handlers

    return installed_handlers()


def _take_back(before: set[Handler], levels: LogLevels) -> None:
    if "logging" in sys.modules:
        from ._log_handler import take_back

        take_back(before, levels)
