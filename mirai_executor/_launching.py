"""Requests daemons that connect by themselves: on this machine, or through a launcher.

::

    MiraiExecutor ──► Launching ── plan ──► Listening ──► [Submission] ── launch() ──► daemons
                          └── so many are to come ──► Host
"""

import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ._core import ScalePolicy
from ._daemon_options import DaemonKeywords
from ._host import Request
from ._listening import Here, Listening, Password, Source
from .errors import LaunchError
from .launchers import Command, Launched, Launcher, Submission
from .launchers import launch as launch_all
from .urls import host_url

if TYPE_CHECKING:
    from ._host import Host
    from ._lifetime import HostOwner

__all__ = ["Launching", "listen"]

_LONGEST = 200  # characters of an answer that messages repeat


def listen(
    url: str | Sequence[str] | None,
    tls: Source | tuple[Source, Source] | None,
    tls_password: Password | None,
    tls_cert: Source | None,
    tls_minimum: str,
) -> Listening:
    """Listen where an executor's daemons are to connect; by default, with TLS."""
    urls = host_url(tls=True) if url is None else url
    return Listening(urls, tls, tls_password, tls_cert, tls_minimum)


class Launching:
    """Requests the daemons of one executor. From :meth:`begin` on, safe from any thread.

    Args:
        listening: Where they connect, and what they must know.
        remote: How they are started, unless a request says otherwise.
        python: The interpreter of those on this machine.
        output: Whether what their tasks print appears, unless a request says otherwise.
    """

    _host: "Host"  # once there is one

    def __init__(
        self, listening: Listening, remote: Launcher | None, python: str | None, output: bool
    ) -> None:
        self.listening = listening
        self._remote = remote
        self._python = python
        self._output = output
        self._first: list[Submission] = []
        self._thread: threading.Thread | None = None
        self._failure: LaunchError | None = None

    # When the executor is made

    def plan_first(self, n: int) -> None:
        """Note what is to be run for the first daemons; if that cannot work, stop listening.

        Raises:
            TypeError, ValueError: The launcher cannot start so many.
        """
        if self._remote is None:
            return
        try:
            self._first = self._plan(self._remote, n, {})
        except BaseException:
            self.listening.listen_config.close()
            raise

    def begin(self, host: "Host", n: int, check_wanted: Callable[[], None]) -> None:
        """Request the first daemons, on a thread: a constructor need not wait for a scheduler.

        Args:
            host: Is told of them, and of all later ones.
            n: How many they are.
            check_wanted: Raises RuntimeError if they are not wanted any more.
        """
        self._host = host
        if self._remote is None:
            return
        first, self._first = self._first, []  # they contain the secret

        def run() -> None:
            try:
                check_wanted()
                self._launch(first, n, stay=False)
            except LaunchError as error:
                self._failure = error
                host.fail_launch(error)
            except RuntimeError:
                pass  # it was shut down in the meantime

        self._thread = threading.Thread(target=run, name="mirai-launch", daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait until the first daemons have been requested, if there is a launcher for them."""
        if self._thread is not None:
            self._thread.join()

    def finish(self) -> None:
        """Wait until the first daemons have been requested, but not until they connect.

        Raises:
            LaunchError: The request failed.
        """
        self.join()
        if self._failure is not None:
            raise self._failure

    # Later

    def request(self, launcher: Launcher, n: int, options: DaemonKeywords) -> list[str]:
        """Start daemons in this way; return the launcher's answers."""
        stay = options.get("autoexit") == "never"
        return self._launch(self._plan(launcher, n, options), n, stay=stay)

    def launch_here(self, n: int, options: DaemonKeywords) -> None:
        """Start daemons on this machine."""
        # This process listens already: who finds nobody there, comes too late for good.
        options = {"retry": 2.0, **options}
        self.request(self._here, n, options)

    def launch_remote(
        self, n: int, remote: Launcher | None, options: DaemonKeywords
    ) -> list[str] | None:
        """Start daemons elsewhere; return the launcher's answers, or None if there is none."""
        launcher = remote or self._remote
        if launcher is None:
            return None
        return self.request(launcher, n, options)

    def commands(self, n: int, options: DaemonKeywords) -> list[str]:
        """Return what starts daemons when it is pasted into shells elsewhere."""
        return self.listening.shell_commands(self._python, n, **options)

    def adapt(
        self,
        executor: "HostOwner",
        policy: ScalePolicy,
        remote: Launcher | None,
        options: DaemonKeywords,
    ) -> None:
        """Request daemons when the host has too few for its tasks."""
        launcher = remote or self._remote or self._here
        self._plan(launcher, 1, options)  # what cannot be asked for is said here and now
        owner, launching = weakref.ref(executor), weakref.ref(self)

        def launch(count: int) -> None:
            # An executor that was dropped must not live on for its daemons.
            alive, this = owner(), launching()
            if alive is None or this is None:
                return
            if not alive._is_shut_down:  # noqa: SLF001 - it has this object, which asks it
                this.request(launcher, count, options)

        self._host.adapt(policy, launch)

    @property
    def _here(self) -> Here:
        return Here(self._python or sys.executable)

    def _plan(self, launcher: Launcher, n: int, options: DaemonKeywords) -> list[Submission]:
        """Return what is to be run; ValueError or TypeError if that cannot work."""
        options = {"output": self._output, **options}
        return self.listening.plan(launcher, n, **options)

    def _launch(self, submissions: Sequence[Submission], n: int, *, stay: bool) -> list[str]:
        launched = launch_all(submissions)
        commands = [one.process for one in launched if one.process is not None]
        said = tuple(map(_told, submissions, launched))
        self._host.expect_daemons(Request(n, [*filter(None, said)]), commands, stay=stay)
        return [one.output for one in launched]


def _told(submission: Submission, launched: Launched) -> str:
    """Return what was said to a submission, by whom; empty if nothing was."""
    lines = launched.output.strip().splitlines()
    who = submission.argv[0] if isinstance(submission, Command) else submission.method
    return f"{who} said: {lines[-1].strip()[:_LONGEST]}" if lines else ""
