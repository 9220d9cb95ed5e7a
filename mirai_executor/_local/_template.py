"""Forks this process into a fork server, and starts daemons by forking that.

::

    this process, when the first task is submitted ──► the template ──┬── a daemon
    (globals, locks, models)                           (as it was)    ├── another daemon
                                                                      └── in place of one that died

The template has one thread, and nothing runs in it: so it may be forked at any time, however many
threads this process has by then.
"""

import contextlib
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, NoReturn

from mirai_executor._shared import ServerLostError
from mirai_executor.errors import LaunchError

from ._launcher import Asking, ForkOfHost, ForkServer, LocalLauncher
from ._spawner import Process, Spawner, StandardPipes

if TYPE_CHECKING:
    from ._output import OutputRelay

_PATIENCE = 60.0  # seconds for an answer: to fork a process with 100 GB takes some of them


class TemplateSpawner(Spawner):
    """Starts the processes of one executor's daemons as forks of a template.

    Args:
        launcher: Says where their output goes.
        no_fork: Held while descriptors are closed which a forked child of this process would have
            to know.
        template: What is forked.
        output: Passes on what daemons print; None if they inherit this process's standard output.
    """

    def __init__(
        self,
        launcher: LocalLauncher,
        no_fork: AbstractContextManager[object],
        template: ForkServer,
        output: "OutputRelay | None" = None,
    ) -> None:
        super().__init__(launcher, no_fork, output)
        self._server: ForkServer | None = template
        self._servers.append(template)

    def prepare(self) -> None:
        """Do nothing: the template is ready."""

    def start(self, fds: Sequence[int], streams: StandardPipes) -> Process:
        """Start a process in a process group of its own. Returns before the daemon is ready.

        Raises:
            LaunchError: It cannot be forked. Nothing takes the place of a template that is gone:
                what this process was when it was forked, it is no more.
        """
        forked, template = None, self._server
        if template is not None and not template.has_ended:
            with contextlib.suppress(ServerLostError):
                forked = self._fork(template, fds, streams)
        if forked is not None:
            return forked
        why = "no process can be forked"
        if template is None or template.has_ended:
            why = "the process from which they are forked, a copy of this one, has ended"
        raise LaunchError(f"cannot start daemons: {why}", command=self._command(fds))

    def _command(self, _: Sequence[int]) -> tuple[str, ...]:
        return tuple(ForkOfHost.ARGS)


def fork_server(
    become: Callable[[int, int], NoReturn], no_fork: AbstractContextManager[object]
) -> ForkServer:
    """Fork this process into a server that can be asked for daemons.

    Args:
        become: What the fork does: it gets the descriptor of the socket at which it is asked,
            and that of its lifeline.
        no_fork: Held while this process's ends are closed.

    Raises:
        OSError: There is no process left, or no descriptor.
    """
    with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
        asking, control = Asking.create(_PATIENCE)
        ours.callback(asking.close)
        theirs.callback(os.close, control)
        lifeline_fd, lifeline = os.pipe()
        ours.callback(os.close, lifeline)
        theirs.callback(os.close, lifeline_fd)

        def child() -> NoReturn:
            ours.close()
            become(control, lifeline_fd)

        process = ForkOfHost(_fork(child))
        ours.pop_all()
    server = ForkServer(process, asking, lifeline, None, no_fork)
    server.is_waiting, server.is_ready = False, True
    return server


def _fork(child: Callable[[], NoReturn]) -> int:
    parent = os.getpid()
    try:
        pid = os.fork()
        if pid == 0:
            child()
        with contextlib.suppress(OSError):  # it does so itself, perhaps a moment too late
            os.setpgid(pid, pid)
        return pid
    finally:
        if os.getpid() != parent:
            os._exit(1)  # whatever has happened: the program goes on in one process only
