"""Stops what has been submitted since a cell of a notebook began when the cell is interrupted.

::

    cell begins ──► the next number of each host    cell is interrupted ──► tasks from there on
"""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mirai_executor._host import Host

# Of each host that was made here, the first number that a task of the cell that runs may have.
_first: weakref.WeakKeyDictionary[Host, Any] = weakref.WeakKeyDictionary()


def watch(host: Host, shell: Any) -> None:
    """Have interrupts of cells stop their tasks, from the cell on that runs now.

    Args:
        host: Whose tasks; one that is gone is forgotten.
        shell: What ``get_ipython()`` has returned.
    """
    events = getattr(shell, "events", None)
    if events is not None and _begin not in events.callbacks["pre_run_cell"]:
        events.register("pre_run_cell", _begin)
        events.register("post_run_cell", _end)
    _first[host] = 0


def _begin(_: object = None) -> None:
    for host in list(_first):
        _first[host] = host.next_id()


def _end(result: object = None) -> None:
    if not isinstance(getattr(result, "error_in_exec", None), KeyboardInterrupt):
        return
    for host, first in list(_first.items()):
        host.cancel_those(partial(_is_to_be_cancelled, first), spares=True)


def _is_to_be_cancelled(first: int, task: Any) -> bool:
    future = task.future
    if (chunk := getattr(future, "chunk", None)) is not None:  # sent again, it has a new number
        its = chunk.futures
        return bool(its.ids[chunk.places[0]] >= first and its.cancels_on_interrupt)
    return task.task >= first and getattr(future, "_cancels_on_interrupt", False)
