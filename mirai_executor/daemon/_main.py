"""How a daemon process begins: with its imports, its place among processes, and its link."""

import gc
import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mirai_executor._arena import Exchange, Pool

    from ._child import Answering

_SHARE = 8  # one part of so many of this machine's memory may be filled, or be kept warm
_ARENAS = 16  # each costs two descriptors here, and one at the host


def main(*, first: bool = False, cleanup: bool = False) -> None:
    """Serve the host at the other end of inherited descriptors, named on the command line.

    The descriptors are those that the link reads and writes, those of the lifeline and the shared
    page; where memory can be shared, also that of the letterbox, and if the host
    has one, that of the tracker of multiprocessing's resources.

    Args:
        first: Whether to leave a fork server behind. Then there are two others on the command
            line: where it is asked, which is also where those of the daemon come from, and its
            own lifeline.
        cleanup: Whether its daemons clean up after their tasks, as far as that is known.
    """

    def become_daemon() -> list[int]:
        fds = list(map(int, sys.argv[1:]))
        if first:
            from ._child import branch_off

            control, lifeline = fds
            fds = branch_off(control, lifeline, _go_on)
            sys.argv[1:] = map(str, fds)
        return fds

    serve(become_daemon, cleanup=cleanup)


def _go_on(end: "Answering", request: int, verdict: int) -> list[int]:
    from ._import_server import go_on  # few hosts ask for it

    return go_on(end, request, verdict)


def serve(become_daemon: "Callable[[], Sequence[int]]", *, cleanup: bool = False) -> None:
    """Serve a host, until it lets this daemon leave.

    Args:
        become_daemon: Makes of this process a daemon that has its imports, and returns its
            descriptors, as :func:`main` has them.
        cleanup: Whether to import what it takes to clean up before that, for all that are forked.
    """
    # What is imported here lives as long as this process. To look for garbage in it takes a
    # quarter of the time of these imports, and most of the time of the exit.
    collects = gc.isenabled()
    gc.disable()
    from mirai_executor import _place
    from mirai_executor._arena import DaemonMemory
    from mirai_executor._payload.common import rebuild
    from mirai_executor._shared import Page, Tickets
    from mirai_executor._transport import Link, Pipes

    from . import _child
    from ._serve import TaskRunner

    if cleanup:
        from . import _cleanup  # noqa: F401 - as above

    gc.freeze()
    if collects:
        gc.enable()
    fds = become_daemon()
    reads, writes, lifeline, page_fd, *shared = fds
    for fd in fds:
        os.set_inheritable(fd, False)  # positional in the standard library
    _child.hold_lifeline(lifeline)
    if rebuild.imported_first is None:  # else that was before the import, which may know them
        _child.prepare_streams()
    _let_go_of_the_terminal()
    _place.enter_daemon()
    link = Link(Pipes(reads, writes), blocking=True)
    memory = DaemonMemory(new_exchange, os.fstat(writes).st_ino, *shared[:1])
    child = _child.Child(lifeline, *shared[1:])
    child.on_host = lambda pid: _let_tasks_read(pid, lifeline)
    page = Page.inherited(page_fd)
    TaskRunner(link, page, Tickets(page.tickets, page_fd), memory, child).serve()


def new_exchange(channel: int) -> "tuple[Pool, Exchange]":
    """Return memory of this daemon's, and what exchanges it with its host: for large buffers.

    Args:
        channel: The descriptor at which they exchange it.
    """
    from mirai_executor import _arena

    pool = _arena.Pool(limit=_arena.physical_memory() // _SHARE, count=_ARENAS)
    return pool, _arena.Exchange(pool, _arena.Channel(channel))


def _let_go_of_the_terminal() -> None:
    """Let no terminal stop this process: it answers reads in the background with an error."""
    for number in (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU):
        signal.signal(number, signal.SIG_IGN)


def _let_tasks_read(host: int, lifeline: int) -> None:
    """Let tasks read from the terminal of their host, where that is possible.

    Args:
        host: The process id of the host.
        lifeline: The descriptor that closes with it.
    """
    if sys.platform == "linux":
        # What a task starts would inherit that a signal is ignored, but not that it has a handler.
        signal.signal(signal.SIGTTIN, _reader(host, lifeline, os.getpid()))
        signal.signal(signal.SIGTSTP, _stopper(os.getpid()))


def _reader(host: int, lifeline: int, pid: int) -> "Callable[[int, object], None]":
    """Return what is called when somebody in this process group reads from the terminal."""
    is_coming = has_come = False

    def on_read(number: int, _: object) -> None:
        nonlocal is_coming, has_come
        if os.getpid() != pid:  # which a task has forked: stopped, until its parent comes
            signal.signal(number, signal.SIG_DFL)
            return
        has_come = False
        if is_coming:  # somebody else reads meanwhile, or another thread tries again and again
            return
        is_coming = True
        try:
            from ._terminal import come  # hardly any task does that

            while not has_come:
                has_come = True
                come(host, lifeline, on_read)
        finally:
            is_coming = False

    return on_read


def _stopper(pid: int) -> "Callable[[int, object], None]":
    """Return what is called when this process group is to stop: this process does not."""

    def on_stop(number: int, _: object) -> None:
        if os.getpid() != pid:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    return on_stop
