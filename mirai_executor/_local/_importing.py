"""Asks a fork server to import the main module before it forks."""

import contextlib
import os
from typing import TYPE_CHECKING

from mirai_executor._nameless import create
from mirai_executor._shared import ServerLostError

if TYPE_CHECKING:
    from ._launcher import ForkServer


def import_main(server: "ForkServer | None", request: bytes) -> int | None:
    """Do as ``Spawner.import_main``; a server that is lost is noticed when it is asked to fork."""
    if server is None:
        return None
    with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
        try:
            file = create("mirai-main", request)
            theirs.callback(os.close, file)
            end, its_end = os.pipe()
            theirs.callback(os.close, its_end)
            ours.callback(os.close, end)
            server.import_main((file, its_end))
        except (OSError, ServerLostError):
            return None
        ours.pop_all()
        return end
