"""Makes multiprocessing take this daemon for a child of its host's process, as a worker is.

A daemon does without multiprocessing until one of its tasks imports it: then is early enough.
"""

from __future__ import annotations

import os

from mirai_executor import _place
from mirai_executor._typing import TYPE_CHECKING

from ._imports import when_imported

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from mirai_executor._payload.daemon import Preparation

__all__ = ["Child", "process_name"]

_PROCESS, _TRACKER = "multiprocessing.process", "multiprocessing.resource_tracker"


def process_name(host: Preparation) -> str:
    """Return what multiprocessing and log records call the daemon of this host."""
    return f"MiraiDaemon-{':'.join(map(str, host.identity))}"


class Child:
    """This process, as multiprocessing is to see it.

    Args:
        lifeline: The descriptor that closes with the host.
        tracker: The descriptor at which the tracker of the host's resources hears of them: what
            has a name, and was made here, lives until its maker or the host's end removes it.
            Without one, it would end with this daemon.
    """

    def __init__(self, lifeline: int, tracker: int = -1) -> None:
        self._lifeline = lifeline
        self._tracker = tracker

    def introduce(self, host: Preparation) -> None:
        """Tell multiprocessing whose child this is: each module now, or once it is imported.

        Its number among its siblings is also the title by which the system shows it.
        """
        _place.show_as(f"mirai-{'.'.join(map(str, host.identity))}")
        steps: dict[str, Callable[[Any], None]] = {
            _PROCESS: lambda process: self._set_process(process, host)
        }
        if self._tracker >= 0:
            steps[_TRACKER] = self._set_tracker
        when_imported(steps)

    def _set_process(self, process: Any, host: Preparation) -> None:
        this = process.current_process()
        this.name = process_name(host)
        this._identity = host.identity  # noqa: SLF001 - as multiprocessing's own children do
        if host.authkey:
            this.authkey = host.authkey
        # Elsewhere, who keeps this daemon stands for the host.
        pid = os.getppid() if host.host_pid is None else host.host_pid
        parent = process._ParentProcess(host.host, pid, self._lifeline)  # noqa: SLF001
        process._parent_process = parent  # noqa: SLF001

    def _set_tracker(self, module: Any) -> None:
        tracker = module._resource_tracker  # noqa: SLF001 - as multiprocessing's own children do
        if tracker._fd is None:  # noqa: SLF001
            tracker._fd = os.dup(self._tracker)  # noqa: SLF001 - it may close its own
