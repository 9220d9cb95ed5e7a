"""What a host does for chunks: tasks that run several elements of a map, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mirai_executor._core import NO_LIMITS

from ._host import Host

if TYPE_CHECKING:
    from collections.abc import Container

    from mirai_executor._core import DaemonId, Limits, TaskId

    from ._daemon import LocalDaemon
    from ._fleet import Fleet
    from ._loop import Loop


def takes_chunks(host: Any, limits: Limits) -> bool:
    """Tell whether several elements may be one task, and each still be what a task is.

    Not where something counts tasks, or the seconds of one, or what is left of it when it fails,
    nor with daemons elsewhere, whose pages are not shared with this process.
    """
    if type(host) is not Host or limits != NO_LIMITS:
        return False
    policy = host._settings.policy  # noqa: SLF001 - of the same room
    is_local = policy.launches and not policy.direct
    each_alone = policy.max_tasks is not None or policy.frame_time <= 0
    return is_local and not each_alone


def have_begun(host: Host, elements: Container[int]) -> bool:
    """Tell whether a daemon has begun one of these elements, by what it has begun last."""

    def look(loop: Loop) -> bool:
        daemons = loop._fleet.local_daemons()  # noqa: SLF001 - as below
        return any(daemon.page.element[0] in elements for daemon in daemons)

    return host._ask(look)  # noqa: SLF001 - of the same room


def stop_element(host: Host, chunk: TaskId, element: TaskId) -> None:
    """Have the daemon that holds a chunk stop an element of it, or never begin it.

    Returns at once. If it runs and has not stopped after ``cancel_grace``, its daemon is killed.
    """
    grace = host._settings.policy.cancel_grace  # noqa: SLF001 - of the same room
    host.call_soon(lambda: host._with_loop(lambda loop: _stop(loop, chunk, element, grace)))  # noqa: SLF001


def _stop(loop: Loop, chunk: TaskId, element: TaskId, grace: float) -> None:
    fleet: Fleet = loop._fleet  # noqa: SLF001 - as above
    daemons = fleet.local  # chunks go to no others
    for id_, daemon in daemons.items():
        if chunk not in daemon.sent:
            continue
        daemon.interrupt(element)
        fleet._stops.add((id_, chunk))  # noqa: SLF001 - it is asked again while the chunk is there

        def give_up(id_: DaemonId = id_, daemon: LocalDaemon = daemon) -> None:
            holds_it = daemons.get(id_) is daemon and chunk in daemon.sent
            if holds_it and daemon.page.element[0] == element:
                fleet.kill(id_)

        loop.reactor.call_in(grace, give_up)
