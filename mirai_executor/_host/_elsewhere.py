"""Has daemons come by themselves: where they come in, how many are asked for, and when no more."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
from functools import partial
from typing import TYPE_CHECKING

from mirai_executor._core import (
    Command,
    DaemonsAdded,
    DaemonsMissed,
    Dispatcher,
    Event,
    FailTask,
    Failure,
    LaunchFailed,
    ListeningEnded,
    Load,
    ReportWait,
    ScalePolicy,
    Scaler,
    SurplusFound,
)
from mirai_executor._transport import LinkClosedError
from mirai_executor.errors import LaunchError
from mirai_executor.launchers import cancel_at_engines, cancel_jobs

from ._acceptor import Acceptor
from ._autoscaler import Autoscaler
from ._questions import AfarView, WaitView
from ._remote import RemoteDaemon
from ._requests import Gone, Request, Requests, still_coming

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from mirai_executor._transport import FarLink
    from mirai_executor._waiting import Reactor, Timer
    from mirai_executor.launchers import Job, QueuedJob

    from ._fleet import Fleet
    from ._settings import ListenConfig

    Launch = Callable[[int], object]

_LOG = logging.getLogger("mirai_executor")
# Seconds between two looks into queues, as long as tasks wait and nobody is there; at most.
_FIRST_LOOK, _LONGEST_LOOK = 30.0, 480.0


class Elsewhere:
    """What a host does about daemons that it does not start. For the host thread only.

    Args:
        listen_config: Where they come in.
        reactor: Tells when a descriptor is ready, and when it is time.
        fleet: Takes them on.
        dispatcher: Tells how many there are, and what there is to do.
        handle: Has the dispatcher decide about an event, and does it.
        post: Has the host thread call something soon; safe from any thread.
        start_timeout: Seconds that those may take to come which have been asked for.
    """

    def __init__(
        self,
        listen_config: ListenConfig,
        reactor: Reactor,
        fleet: Fleet,
        dispatcher: Dispatcher,
        handle: Callable[[Event], None],
        post: Callable[[Callable[[], None]], None],
        start_timeout: float,
    ) -> None:
        self._fleet = fleet
        self._dispatcher = dispatcher
        self._handle = handle
        self._post = post
        self._reactor = reactor
        self._acceptor: Acceptor | None = Acceptor(listen_config, reactor, self._admit)
        self._compresses = listen_config.compresses
        self._start_timeout = start_timeout
        self._closing: Timer | None = None  # the acceptor, at the latest then
        self._autoscaler: Autoscaler | None = None  # until somebody calls adapt()
        self._files = listen_config.files
        self._requests = Requests(self._release)
        self._remote: set[RemoteDaemon] = set()
        self._keep_with: tuple[Launch, bool] | None = None
        self._kept: Scaler | None = None  # decides how many take the places of the lost
        self._looks = False  # into queues, time and again

    def view(self) -> AfarView:
        """Return what there is to say of daemons elsewhere."""
        refused = 0 if self._acceptor is None else self._acceptor.refused
        asked = self._requests
        return AfarView(refused, self.waiting(), asked.failures, asked.names)

    def close_if_wanted(self) -> None:
        """Close the acceptor, if that is wanted, once nobody is on the way; at every turn."""
        if self._closing is not None and not self._fleet.awaits_daemons:
            self.close_now()

    def look_soon(self) -> None:
        """Take note that there may be more to do, or less."""
        if self._scaler is not None and self._dispatcher.ready_count:
            self._fleet.heals = True  # a launcher that has never brought one is not tried again
        if self._autoscaler is not None:
            self._autoscaler.look_soon()

    # Asking for daemons

    def expect_daemons(
        self, request: Request, started: Iterable[subprocess.Popen[bytes] | Job], *, stay: bool
    ) -> None:
        """Take in that daemons were asked for; see to the commands for it, until they end."""
        self._requests.add(request)
        self._handle(DaemonsAdded(request.count))
        self._fleet.keep_commands(started, partial(self._on_end, request), stay=stay)
        if request.is_kept:
            self._keep(request.count + request.missed)
        for error in request.failures:
            _LOG.warning("a part of the requested daemons will not start: %s", error)
            self._fleet.loss_reports.why_none = error
        scaler = self._scaler
        if request.missed and scaler is not None:
            scaler.refuse(request.missed, self._reactor.now())
            self.look_soon()

    def fail_launch(self, error: LaunchError) -> None:
        """Take in that daemons were asked for and will not come."""
        self._requests.note_failure(error)
        self._fleet.loss_reports.why_none = error
        self._handle(LaunchFailed())

    def adapt(self, policy: ScalePolicy, launch: Launch) -> None:
        """From now on, ask for daemons as there is work for them.

        Args:
            policy: How many there may be.
            launch: Asks for so many, and may take its time.
        """
        self._keep_with = self._kept = None
        self._begin(Scaler(policy), launch)

    def _begin(self, scaler: Scaler, launch: Launch) -> None:
        if self._autoscaler is None:
            self._autoscaler = Autoscaler(
                self._load,
                lambda n: self._handle(SurplusFound(n)),
                self._cancel,
                lambda: self._handle(LaunchFailed(for_good=False)),
                self._reactor,
            )
        self._autoscaler.begin(scaler, lambda count: self._ask(scaler, launch, count))

    def keep_with(self, launch: Launch, *, lazily: bool) -> None:
        """Have as many daemons as were asked for, from now on: others for those that are lost.

        Args:
            launch: Asks for so many, and may take its time.
            lazily: Whether others are asked for only if there is work for them.
        """
        self._keep_with = (launch, lazily)

    def _keep(self, count: int) -> None:
        if (scaler := self._kept) is not None:
            scaler.grow(count, self._reactor.now())
        elif self._keep_with is not None:
            launch, lazily = self._keep_with
            self._kept = scaler = Scaler(ScalePolicy(0 if lazily else count, count, math.inf))
            scaler.expect(count, self._reactor.now())
            self._begin(scaler, launch)

    def _ask(self, scaler: Scaler, launch: Launch, count: int) -> None:
        """Ask for so many daemons, less those for whom a job waits that has been forgotten."""
        overdue, pending = self._requests.unexpected(scaler.coming - count)

        def run() -> None:
            asked = count
            try:
                coming, gone = still_coming(overdue)
                coming += pending
                asked = max(0, count - coming)
                self._post(lambda: self._forget(gone))
                if coming:
                    self._post(scaler.note_queued)
                if asked:
                    launch(asked)
            except LaunchError as error:
                failure = error
                self._post(lambda: self.refuse(scaler, asked, failure))
            except RuntimeError:
                pass  # the executor was shut down in the meantime

        # A scheduler takes its time, and this thread has none.
        try:
            threading.Thread(target=run, name="mirai-launch", daemon=True).start()
        except RuntimeError as error:
            self.refuse(scaler, count, LaunchError(f"cannot request daemons: {error}"))

    def _release(self, paths: Sequence[Path]) -> None:
        # File systems take their time, and this thread has none; without a thread, at the end.
        if self._files is not None:
            work = partial(self._files.release, paths)
            with contextlib.suppress(RuntimeError):
                threading.Thread(target=work, name="mirai-files", daemon=True).start()

    def _forget(self, gone: Iterable[Gone]) -> None:
        if missed := sum(self._requests.forget(*one) for one in gone):
            self._handle(DaemonsMissed(missed))

    def look_into_queues(self, pause: float | None = None) -> None:
        """Ask schedulers whether all jobs of those that tasks wait for are there; and later again.

        A job that ends before its daemon has come tells nobody.
        """
        if pause is None and self._looks:  # it goes on by itself
            return
        since = self._dispatcher.view().waiting_since
        self._looks = self._acceptor is not None and since is not None
        if not self._looks:
            return
        pause = pause or _FIRST_LOOK
        again = partial(self.look_into_queues, min(2 * pause, _LONGEST_LOOK))
        self._reactor.call_in(pause, again)
        awaited, _ = self._requests.unexpected(0)

        def run() -> None:
            _, gone = still_coming(awaited)
            self._post(lambda: self._miss(gone, {one.name: one.jobs for one in awaited}))

        if awaited:
            # A scheduler takes its time, and this thread has none.
            with contextlib.suppress(RuntimeError):  # the system has no room for one
                threading.Thread(target=run, name="mirai-launch", daemon=True).start()

    def _miss(self, gone: Iterable[Gone], jobs: Mapping[str, Sequence[QueuedJob]]) -> None:
        """Take in that no queue has jobs any more for so many daemons of some requests."""
        for name, count, seen in gone:
            is_replaced = self._requests.is_replaced(name)
            if not (missed := self._requests.forget(name, count, seen)):
                continue
            self._handle(DaemonsMissed(missed))
            ids = ", ".join(job.id for job in jobs[name])
            error = LaunchError(
                f"job {ids} is over before all of its daemons have come, as far as its scheduler "
                "says; what it has printed may tell why"
            )
            if is_replaced and self._scaler is not None:
                self.refuse(self._scaler, missed, error)
            else:
                self._requests.note_failure(error)
                _LOG.warning("%s", error)

    def refuse(self, scaler: Scaler, count: int, error: LaunchError) -> None:
        """Take in that daemons that a scaler asked for will not come."""
        scaler.refuse(count, self._reactor.now())
        self._requests.note_failure(error)
        _LOG.warning("of the requested daemons, %d will not start: %s", count, error)
        self._fleet.loss_reports.why_none = error
        if scaler.is_refused:
            self._handle(LaunchFailed(for_good=False))
        self.look_soon()

    def _admit(self, link: FarLink, address: str, revoke: Callable[[], None]) -> None:
        if self._compresses:
            with contextlib.suppress(LinkClosedError):  # which will be noticed
                link.offer_compression()
        daemon = RemoteDaemon(link, address, revoke, self._note_arrival, self._note_loss)
        self._remote.add(daemon)
        self._fleet.admit(daemon)

    def _note_arrival(self, request: str) -> None:
        if request:
            self._requests.note_arrival(request)
        elif self._scaler is not None:
            self._scaler.note_back(self._reactor.now())

    def _note_loss(self, daemon: RemoteDaemon) -> None:
        self._remote.discard(daemon)
        self._requests.note_loss(daemon.request)
        if daemon.is_renewed and self._scaler is not None:
            self._scaler.expect_back(self._reactor.now())

    @property
    def _scaler(self) -> Scaler | None:
        return None if self._autoscaler is None else self._autoscaler.scaler

    def _on_end(self, request: Request, error: LaunchError) -> None:
        """Take in that a command has ended, however it did: others will not come."""
        if not (missed := self._requests.note_end(request.name)):
            return
        self._handle(DaemonsMissed(missed))
        if self._scaler is not None and (request.is_kept or request.is_scaled):
            self.refuse(self._scaler, missed, error)

    def _cancel(self, count: int) -> None:
        """Take jobs back that would bring daemons which nobody needs."""
        found = self._requests.superfluous(count)
        if not found.count:
            return
        if self._scaler is not None:
            self._scaler.forget(found.count)
        self._handle(DaemonsMissed(found.count))

        def run() -> None:
            cancel_jobs(found.whole)
            cancel_jobs(found.waiting, waiting=True)
            cancel_at_engines(found.at_engines)

        # A scheduler takes its time, and this thread has none; but jobs must not be left.
        try:
            threading.Thread(target=run, name="mirai-launch", daemon=True).start()
        except RuntimeError:
            run()

    def _load(self) -> Load:
        view = self._dispatcher.view()
        return Load(
            demand=view.awaiting + view.executing,
            # For one that has asked for leave, another one is asked for before it is gone, unless
            # its keeper has another.
            connected=self._dispatcher.ready_count
            - view.parting
            + sum(daemon.is_renewed for daemon in self._remote),
            cumulative=view.cumulative,
            completed=view.completed,
            lost_early=view.lost_early,
            is_closing=self._dispatcher.is_ending,
        )

    def note_in_vain(self, commands: Iterable[Command]) -> None:
        """Report tasks that fail because no daemon has come for them."""
        failed = [c for c in commands if type(c) is FailTask and c.failure is Failure.BROKEN]
        if not failed:
            return
        seconds, reports = self._start_timeout, self._fleet.loss_reports
        if reports.why_none is None:
            reports.why_none = LaunchError(f"no daemon has connected for {seconds:g} s")
        _LOG.warning(
            "%d tasks fail after they have waited for a daemon for the last %g s: %s",
            len(failed),
            seconds,
            reports.why_none,
        )

    # Waiting

    def waiting(self) -> WaitView | None:
        """Return what is to be said of the tasks that wait while no daemon is connected."""
        view = self._dispatcher.view()
        if view.waiting_since is None:
            return None
        seconds = self._reactor.now() - view.waiting_since
        return WaitView(view.awaiting, seconds, self._requests.left, self._requests.said)

    def report_wait(self, report: ReportWait) -> None:
        """Say that tasks wait, and for which daemons; see whether those can still come."""
        left, said = self._requests.left, self._requests.said
        asked = f"{left} were requested and have not come" if left else "none is to come"
        self._fleet.loss_reports.report_wait(report, f"{asked}; {said}" if said else asked)
        self.look_into_queues()

    # Closing

    def close_soon(self) -> None:
        """Let no daemon in any more but those on their way; what none can take any more, ends."""
        if self._acceptor is not None:
            if self._closing is not None:
                self._closing.cancel()
            self._closing = self._reactor.call_in(self._start_timeout, self.close_now)
            self.close_if_wanted()

    def close_now(self) -> None:
        """Let no daemon in any more."""
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
        if self._acceptor is None:
            return
        self._acceptor.close()
        self._acceptor = None
        why = "no daemon is connected, and none can connect any more"
        self._fleet.loss_reports.why_none = LaunchError(why)
        self._handle(ListeningEnded())

    def close(self) -> None:
        """Leave nothing behind."""
        if self._acceptor is not None:
            self._acceptor.close()
        self._autoscaler = self._acceptor = self._keep_with = self._kept = None

    def cancel_rest(self) -> None:
        """Take jobs out of their queues that nobody waits for any more; once daemons have gone."""
        self._requests.cancel_rest()
