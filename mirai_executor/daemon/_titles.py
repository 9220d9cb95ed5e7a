"""Shows by the title of a daemon whether it works or waits, where the host uses setproctitle.

Other daemons have a title that never changes: a system call for each task would cost more than
short tasks take.
"""

from __future__ import annotations

from mirai_executor._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mirai_executor._wire import Frame


def show_states(daemon: Any, title: str) -> None:
    """Have a daemon change its title whenever it begins or ends what a frame asks for."""
    try:
        from setproctitle import setproctitle
    except ImportError:  # it has other packages than the host
        return
    take_in = daemon.take_in

    def take_in_and_show(frame: Frame) -> bool:
        setproctitle(f"{title} busy")
        try:
            return bool(take_in(frame))
        finally:
            setproctitle(f"{title} idle")

    setproctitle(f"{title} idle")
    daemon.take_in = take_in_and_show
