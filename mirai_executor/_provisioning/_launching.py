"""Requests daemons that connect by themselves: on this machine, or through a launcher.

::

    MiraiExecutor ──► Launching ── plan ──► Listening ──► [Submission] ── launch() ──► daemons
                          └── so many are to come ──► Host
"""

import secrets
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING

from mirai_executor._core import ScalePolicy
from mirai_executor._daemon_options import DaemonKeywords
from mirai_executor._host import ExecutorOptions, Request
from mirai_executor.errors import LaunchError
from mirai_executor.launchers import (
    Booking,
    DaemonCommand,
    Launched,
    Launcher,
    Seats,
    SshConfig,
    Submission,
    cancel_jobs,
    stop,
)
from mirai_executor.launchers import launch as launch_all
from mirai_executor.urls import host_url

from ._listening import Here, Listening
from ._submissions import apart, files_of, told

if TYPE_CHECKING:
    from pathlib import Path

    from mirai_executor._host import Host
    from mirai_executor._lifetime import HostOwner

    from ._submissions import Started


def launching_for(told: ExecutorOptions, first: int) -> "Launching":
    """Listen where an executor's daemons are to connect, by default with TLS; plan the first."""
    urls = host_url(tls=True) if told.url is None else told.url
    tls = told.tls, told.tls_password, told.tls_cert, told.tls_minimum
    listening = Listening(urls, *tls, told.advertise, told.compression is not None)
    limits = told.launch_timeout, told.tolerate
    return Launching(listening, told.remote, told.python, told.output, first, limits)


class Launching:
    """Requests the daemons of one executor. From :meth:`begin` on, safe from any thread.

    Args:
        listening: Where they connect, and what they must know.
        remote: How they are started, unless a request says otherwise.
        python: The interpreter of those on this machine.
        output: Whether what their tasks print appears, unless a request says otherwise.
        first: How many are wanted when the executor is made. If that cannot work, nobody listens.
        limits: Seconds that a request may take, and how many commands or requests of a launch may
            fail; None for all but one.

    Raises:
        TypeError, ValueError: The launcher cannot start so many.
    """

    _host: "Host"  # once there is one

    def __init__(
        self,
        listening: Listening,
        remote: Launcher | None,
        python: str | None,
        output: object,
        first: int,
        limits: tuple[float, int | None],
    ) -> None:
        self.listening = listening
        self._remote = remote
        self._python = python
        self._output = output is True
        self._timeout, self._tolerate = limits
        self._first: list[Submission] = []
        self._turn = 0  # of the machine that gets the next daemon, where all have theirs
        self._tried: frozenset[str] = frozenset()  # machines, the last time that one was replaced
        self._seats = Seats()
        self._name = _new_name()  # of the first request
        self._thread: threading.Thread | None = None
        self._failure: LaunchError | None = None
        self._plan_first(first)

    # When the executor is made

    def _plan_first(self, n: int) -> None:
        if self._remote is None:
            return
        try:
            self._first = self._plan_in_seats(
                self._remote, n, self._name, {}, grows=True, is_kept=True
            )
        except BaseException:
            self.listening.listen_config.close()
            raise

    def begin(self, executor: "HostOwner", host: "Host", n: int, *, lazily: bool) -> None:
        """Request the first daemons, on a thread: a constructor need not wait for a scheduler.

        From now on, others are requested in the place of those that are lost.

        Args:
            executor: Whose daemons they are.
            host: Is told of all that are requested from now on.
            n: How many the first ones are.
            lazily: Whether others are only requested if there is work for them.
        """
        self._host = host
        if (remote := self._remote) is None:
            return
        host.keep_with(self._replacing(executor, remote, {}), lazily=lazily)
        check_wanted = executor._check_not_shut_down  # noqa: SLF001 - it has this object
        first, self._first = self._first, []  # they contain the secret

        def run() -> None:
            try:
                check_wanted()
                total = _total(remote, n)
                self._launch(
                    first, total, self._name, stay=False, tolerate=self._tolerate, is_kept=True
                )
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
        stay, name, total = options.get("autoexit") == "never", _new_name(), _total(launcher, n)
        is_kept = launcher is self._remote and not options
        submissions = self._plan_in_seats(launcher, n, name, options, grows=True, is_kept=is_kept)
        return self._launch(
            submissions, total, name, stay=stay, tolerate=self._tolerate, is_kept=is_kept
        )

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
        # What cannot be is said here and now.
        self._plan(launcher, 1, _new_name(), options, Booking({}), is_kept=True)
        if isinstance(launcher, (SshConfig, Here)):
            self._seats.expect(launcher.rooms(policy.maximum))
        self._host.adapt(policy, self._replacing(executor, launcher, options))

    def _replacing(
        self, executor: "HostOwner", launcher: Launcher, options: DaemonKeywords
    ) -> Callable[[int], None]:
        """Return what asks for so many more, as long as there is the executor."""
        # One that was dropped must not live on for its daemons.
        owner, launching = weakref.ref(executor), weakref.ref(self)

        def launch(count: int) -> None:
            this = launching()
            if owner() is not None and this is not None:
                this.replace(launcher, count, options)

        return launch

    def replace(self, launcher: Launcher, n: int, options: DaemonKeywords) -> None:
        """Request so many more, on all machines together."""
        name = _new_name()
        try:
            submissions = self._plan_in_seats(
                launcher, n, name, options, grows=False, is_kept=True
            )
        except Exception as error:  # as nobody waits for one of a launcher, such as of its token
            raise LaunchError(f"cannot plan daemons: {type(error).__name__}: {error}") from error
        # Those that serve, do: what is missing then is requested again.
        stay = options.get("autoexit") == "never"
        self._launch(submissions, n, name, stay=stay, tolerate=None, is_scaled=True)

    @property
    def _here(self) -> Here:
        return Here(self._python or sys.executable)

    def _plan_in_seats(
        self,
        launcher: Launcher,
        n: int,
        name: str,
        options: DaemonKeywords,
        *,
        grows: bool,
        is_kept: bool,
    ) -> list[Submission]:
        """Return what is to be run for daemons that take free seats.

        Args:
            launcher: Plans it.
            n: How many daemons: on each machine, or to take the seats of others on all of them.
            name: That of the request.
            options: Those of the daemons.
            grows: Whether they are in addition to those that there should be.
            is_kept: Whether others are requested in the place of those that are lost.
        """
        live, coming, in_vain = self._in_use()
        booking = self._seats.booking(live, coming)
        if isinstance(launcher, SshConfig) and not grows:
            first, self._turn = self._turn, self._turn + n
            launcher = _Spread(launcher, first, self._tried if in_vain else frozenset())
        try:
            submissions = self._plan(launcher, n, name, options, booking, is_kept=is_kept)
        except BaseException:
            booking.release(booking.made)
            raise
        self._seats.note(name, booking, grows=grows)
        if not grows:
            self._tried = frozenset(machine for machine, _ in booking.made)
        return submissions

    def _in_use(self) -> tuple[list[str], tuple[str, ...], bool]:
        """Return the seats of daemons, the requests that come, and whether one was in vain."""
        host = getattr(self, "_host", None)
        if host is None or (view := host.view()) is None:
            return [], (), False
        # Who leaves has no task any more, and its successor gets its seat.
        live = [row.seat for row in view.daemons if row.seat and row.state != "leaving"]
        return live, view.coming, bool(view.failures)

    def _plan(
        self,
        launcher: Launcher,
        n: int,
        name: str,
        options: DaemonKeywords,
        booking: Booking,
        *,
        is_kept: bool,
    ) -> list[Submission]:
        """Return what is to be run; ValueError or TypeError if that cannot work."""
        options = {"output": self._output, **options}
        return self.listening.plan(launcher, n, name, booking, is_replaced=is_kept, **options)

    def _launch(
        self,
        submissions: Sequence[Submission],
        n: int,
        name: str,
        *,
        stay: bool,
        tolerate: int | None,
        is_kept: bool = False,
        is_scaled: bool = False,
    ) -> list[str]:
        succeeded: list[bool] = []
        used: set[Path] = set()
        try:
            launched = launch_all(submissions, self._timeout, tolerate)
            started = [one.error is None for one in launched]
            files = files_of(compress(submissions, started))
            request = Request(name, n, is_kept=is_kept, is_scaled=is_scaled, files=sorted(files))
            self._expect(request, launched, submissions, stay=stay)
            succeeded, used = started, files
        finally:
            self._seats.note_end(name, succeeded)
            self.listening.release(files_of(submissions) - used)
        return [one.output for one in launched if one.error is None]

    def _expect(
        self,
        request: Request,
        launched: Sequence[Launched],
        submissions: Sequence[Submission],
        *,
        stay: bool,
    ) -> None:
        """Have the host expect the daemons of a launch."""
        alone, others = apart(submissions, launched)
        jobs = [one.queued for one in launched if one.queued is not None]
        failures = [one.error for one in launched if one.error is not None]
        missed = request.count * len(failures) // max(1, len(launched))
        together = request.changed(
            count=request.count - missed - len(alone),
            said=[*filter(None, map(told, submissions, launched))],
            jobs=jobs,
            commands=len(others),
            missed=missed,
            failures=failures,
            at_engines=[job for one in launched for job in one.jobs if job in others],
        )
        rest: list[tuple[Request, list[Started]]] = [
            (request.changed(name=own, count=1, commands=1, at_engines=[job], files=()), [job])
            for own, job in alone
        ]
        if together.count or missed or not alone:
            rest.append((together, others))
        try:
            while rest:
                part, started = rest.pop(0)
                self._host.expect_daemons(part, started, stay=stay)  # ends them if it raises
        except BaseException:
            cancel_jobs(jobs)
            stop([it for _, started in rest for it in started])
            raise


@dataclass(frozen=True)
class _Spread:
    """Starts daemons on several machines in turn, so many on all of them together."""

    launcher: SshConfig
    first: int
    avoid: frozenset[str]

    def plan(self, daemon: DaemonCommand, count: int) -> list[Submission]:
        """Return a command for each machine that is to have some."""
        return self.launcher.spread(daemon, count, self.first, self.avoid)


def _new_name() -> str:
    """Return the name of a request, by which its daemons are known."""
    return secrets.token_hex(4)


def _total(launcher: Launcher, n: int) -> int:
    """Return how many daemons a launcher starts if it is asked for so many."""
    return launcher.total(n) if isinstance(launcher, SshConfig) else n
