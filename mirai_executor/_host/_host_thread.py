"""Runs the loop of one host on a thread of its own, for which other threads have items."""

from __future__ import annotations

import _thread
import collections
import contextlib
import logging
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, TypeVar

from mirai_executor._nameless import flush_streams, occupy_streams
from mirai_executor._place import on_daemon
from mirai_executor._waiting import OneShotEvent, Reply
from mirai_executor.errors import ForkedExecutorError, LaunchError

from . import _registry
from ._settings import Setup, calls_of_spans
from ._store import Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from mirai_executor._core import TaskId
    from mirai_executor._local import OutputRelay, Spawner
    from mirai_executor._payload import host as _payload

    from ._gate import Gate
    from ._loop import Item, Loop
    from ._settings import ListenConfig, Settings
    from ._tasks import OpenTask
    from ._template import Template

T = TypeVar("T")

_LOG = logging.getLogger("mirai_executor")
_FEW, _MANY = 16, 256  # submissions of a burst until the host thread is let run again
_MOMENT = 20e-6  # seconds
_LOOK = 1.0  # seconds: a signal that comes after Python's last look, and before a wait, ends none
_STDOUT = 1
_AFTER_SHUTDOWN = "cannot schedule new futures after shutdown"


class HostThread:
    """The one thread of a host, from the first item that is put in until all has ended.

    Nothing runs before: no thread, no descriptor, no import that takes long.

    Attributes:
        gate: Where calls wait until there is room for them; None if there always is.
    """

    is_inline = False  # whether tasks run in this process
    _open_task: type[OpenTask]
    _kind_of: Callable[[Any, tuple[Any, ...]], int | None]

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._inbox: collections.deque[Item] = collections.deque()
        self._loop: Loop | None = None
        self._spawner: Spawner | None = None  # that of the loop
        self._encoder: _payload.CallEncoder | None = None
        self._encoders: dict[None, _payload.CallEncoder] = {}  # that one
        self._turn = self._next_turn = _FEW  # of the host thread: after so many submissions
        # What comes from other machines shares no memory with this one.
        shared = settings.listen_config is None
        self._store = Store(shared=shared, capacity=settings.memory, put=self._inbox.append)
        self.gate: Gate | None = self._store.gate
        self._threads: list[threading.Thread | None] = []  # None once it has ended
        self._can_join = True
        self._owner = threading.Lock()  # taken for good by the one thread that runs the loop
        self._owned = OneShotEvent()
        self._ended = OneShotEvent()
        self._failure: LaunchError | None = None
        self._finished = False
        self._template: Template | None = None  # of daemons that are forks of this process
        self._no_template: OSError | None = None  # why there is none, if there should be
        self._forked = False
        self.streams: dict[TaskId, Any] = {}  # futures of those that are open: they end with this
        if settings.listen_config is not None:
            self._open(settings.listen_config)

    def _open(self, listen_config: ListenConfig) -> None:
        """Start at once: somebody may connect."""
        try:
            self._check_usable()
        except BaseException:
            listen_config.close()
            raise
        self._start()

    @property
    def _has_started(self) -> bool:
        return bool(self._threads or self._inbox) and not self._forked

    def _check_usable(self) -> None:
        if self._forked:
            raise ForkedExecutorError(
                f"process {os.getpid()} was forked after this executor had started daemons, which "
                "belong to the parent process; create another executor after the fork"
            )
        if on_daemon() and _importing_main():
            raise RuntimeError(
                "an executor was used while a daemon was importing the host's main module; move "
                'the code that starts the program below `if __name__ == "__main__":`'
            )
        if self._finished:
            raise self._end_error()

    def _end_error(self) -> Exception:
        if self._failure is None:
            return RuntimeError(_AFTER_SHUTDOWN)
        from mirai_executor._local import another  # not before the first task

        return another(self._failure)

    # For other threads

    def owns_this_thread(self) -> bool:
        """Tell whether the asker is the host thread, on which callbacks run."""
        return threading.current_thread() in self._threads

    def _put(self, item: Item) -> None:
        self._inbox.append(item)
        if not self._threads:
            self._start()
        elif (loop := self._loop) is not None and loop.reactor.needs_waking:
            if loop.is_idle:
                self._turn, self._next_turn = _FEW, 0  # a burst may begin
            loop.reactor.wake()  # the GIL goes, too: only now
        if self._finished:
            self._end_late(item)

    def _ask(self, question: Callable[[Loop], T]) -> T:
        """Have the host thread answer a question, and wait for it."""
        self._check_usable()
        if self.owns_this_thread() and self._loop is not None:
            return question(self._loop)
        answer: Reply[T] = Reply()

        def give() -> None:
            try:
                if self._finished or self._loop is None:
                    raise self._end_error()  # noqa: TRY301 - into the answer
                answer.set_result(question(self._loop))
            except BaseException as error:  # belongs to whoever has asked
                answer.set_exception(error)

        self._put(give)
        return answer.get()

    def _with_loop(self, step: Callable[[Loop], None]) -> None:
        if self._loop is not None and not self._finished:
            step(self._loop)

    def _give_turn(self, task: int) -> None:
        """Let the host thread run, if a burst of submissions has kept the GIL from it.

        It would wait for 5 ms each time, and the daemons for it: often at the beginning, when they
        have nothing to do yet, and more and more seldom, for it costs the burst about 0.1 ms.
        """
        is_burst = len(self._inbox) > self._turn // 2
        if is_burst and threading.current_thread() not in self._threads:
            # To let go of the GIL for no more than a moment gets it back before another thread
            # has woken up.
            time.sleep(_MOMENT)
        begins = not is_burst and (self._loop is None or self._loop.is_idle)
        self._turn = _FEW if begins else min(2 * self._turn, _MANY)
        self._next_turn = task + self._turn

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the host thread has ended; True if it has. On that thread, do not wait."""
        if not self._has_started:
            return True
        if self.owns_this_thread():
            return False
        # Not Thread.join: if a KeyboardInterrupt strikes there, Python 3.11 and 3.12 take the
        # thread for ended, and a second call would return at once.
        while not self._ended.wait(_LOOK if timeout is None else timeout):
            if timeout is not None:
                return False
        for thread in list(self._threads):
            if thread is not None and self._can_join:
                thread.join()  # it has nothing left to do
        # threading counts it as left behind while somebody refers to it, as a future does by us.
        self._threads[:] = [None]
        return True

    # Its life

    def _start(self) -> None:
        occupy_streams()
        flush_streams()  # what tasks print comes after it, and forks have none of it
        if self._settings.forking is not None:
            self._fork_template()
        # A KeyboardInterrupt may leave this undone; then the next caller does it again, and of
        # two threads only one finds the owner's lock free. Struck in Thread.start, it could leave
        # the new thread waiting for a lock for ever: so another thread calls that.
        _thread.start_new_thread(self._start_thread, ())
        self._owned.wait()

    def _fork_template(self) -> None:
        """Have the process that daemons are forks of; on the thread that submits, as it is now."""
        with _registry.no_fork:
            if self._template is not None or self._owned.has_come:
                return
            from ._template import template_for

            try:
                self._template = template_for(self._settings)
            except OSError as error:  # the host thread says so, as if it had met it
                self._no_template = error

    def _start_thread(self) -> None:
        name = f"mirai-host-{self._settings.name}" if self._settings.name else "mirai-host"
        try:
            threading.Thread(target=self._run, name=name, daemon=True).start()
        except RuntimeError:  # the last thread that the system grants is this one
            self._can_join = False  # threading knows it by number only
            self._run()

    def _run(self) -> None:
        if not self._owner.acquire(blocking=False):
            return
        self._threads.append(threading.current_thread())
        try:
            with _registry.no_fork:
                try:
                    spawner = self._prepared_spawner()
                finally:
                    # Now others may go on, and fork. Not before: what they import would keep the
                    # GIL from the start of the first daemon, for which they wait in the end.
                    self._owned.come()
                from ._loop import new_loop  # while the first daemon imports what it needs

                # Before any daemon starts: it notices what changes of the path they are to learn.
                self._encoding()
            settings, setup = self._settings, self._prepared_setup()
            with _registry.no_fork:
                loop = new_loop(settings, spawner, setup, self._inbox, self._store)
                self._loop = loop
            loop.run()
        except BaseException as error:  # nobody may wait for a thread that is gone
            self._failure = _as_failure(error, self._loop)
            if self._loop is None and self._spawner is not None:
                self._spawner.close()
        finally:
            self._finished = True
            try:
                if self._settings.listen_config is not None:
                    self._settings.listen_config.close()
                self._drain()
            finally:
                self._ended.come()

    def _prepared_spawner(self) -> Spawner:
        if self._no_template is not None:
            raise self._no_template
        output = self._output_relay()
        if (template := self._template) is not None:
            from mirai_executor._local import TemplateSpawner

            launcher, no_fork = self._settings.launcher, _registry.no_fork
            self._spawner = forking = TemplateSpawner(launcher, no_fork, template.server, output)
            return forking
        from mirai_executor._local import Spawner  # not before the first task

        self._spawner = spawner = Spawner(self._settings.launcher, _registry.no_fork, output)
        if self._settings.policy.launches:
            spawner.prepare()
        return spawner

    def _output_relay(self) -> OutputRelay | None:
        """Return what passes on what daemons print; None if they inherit standard output."""
        wanted = self._settings.output
        if wanted is False or wanted == "inherit" or (wanted is True and _prints_to_descriptor()):
            return None
        from mirai_executor._local import relay_for  # which most have no use for

        return relay_for(wanted)

    def _prepared_setup(self) -> Setup:
        settings, log = self._settings, None
        if _logs_here(settings.logging):
            with _registry.no_fork:
                from ._log_relay import LogRelay  # few programs configure logging

            log = LogRelay()
        serial = settings.serial
        hooks = [] if serial is None else [serial.call(self._encoding().encode)]
        calls = [*hooks, *self._encoded_initializer(), *calls_of_spans(settings)]
        of_all = settings.environments, settings.name, settings.main
        of_main = self._encoding().find_main, settings.policy.start_timeout
        return Setup(calls, settings.cleanup, log, *of_all, *of_main)

    def _encoded_initializer(self) -> list[_payload.Call]:
        settings = self._settings
        if settings.initializer is None:
            return []
        if self._template is not None:
            return [self._encoding().encode_inherited()]
        encode, args = self._encoding().encode, settings.initargs
        try:
            return [encode(settings.initializer, args, {}, local_locks=True, lasting=True)]
        except BaseException as error:
            message = f"the initializer or its arguments cannot be sent to daemons: {error}"
            raise LaunchError(message) from error

    def _encoding(self) -> _payload.CallEncoder:
        if self._encoder is None:
            if self._settings.forking is not None and not self._owned.has_come:
                self._start()  # what daemons have, need not be sent to them
            from mirai_executor._payload import host as _payload  # cloudpickle takes its time

            from ._tasks import OpenTask, kind_of

            self._open_task, self._kind_of = OpenTask, kind_of  # before there is an encoder
            known = None if self._template is None else self._template.known
            # What is forked from this process has its main module already.
            main = self._settings.main if known is None else "value"
            made = _payload.CallEncoder(main=main, known=known, serial=self._settings.serial)
            # In one step: another thread may come here, too, and what one encoder has lent, as for
            # an initializer, ends with it.
            self._encoder = self._encoders.setdefault(None, made)
        return self._encoder

    # Its end

    def _drain(self) -> None:
        """End what has been put in since the loop last looked; on the host thread."""
        with contextlib.suppress(IndexError):
            while True:
                self._end_unheard(self._inbox.popleft())
        self._store.close()

    def _end_late(self, item: Item) -> None:
        """End what may have come too late for the host thread to do so; it may do the same.

        Each thread ends no more than it has put in itself: a KeyboardInterrupt that strikes here
        loses nothing then that anybody else waits for.
        """
        self._end_unheard(item)
        if self._ended.has_come:  # the rest is ended by those who have put it in
            self._inbox.clear()
        self._store.close()

    def _end_unheard(self, item: Item) -> None:
        if callable(item):
            item()
        elif (future := getattr(item, "future", None)) is not None:  # of an open task
            from ._tasks import set_exception  # other items may come when imports are over

            set_exception(future, self._end_error())


def _as_failure(error: BaseException, loop: Loop | None) -> LaunchError:
    from mirai_executor._local import as_launch_error  # not before the first task

    if not isinstance(error, (LaunchError, OSError)):
        from mirai_executor._core import THIS_IS_A_BUG  # once, if ever

        _LOG.critical(
            "internal error: the host thread failed; %s\n%s",
            THIS_IS_A_BUG,
            "" if loop is None else loop.story(),
            exc_info=error,
        )
    return as_launch_error(error)


def _logs_here(wanted: bool | None) -> bool:
    """Tell whether tasks are to log here: by default, if the user has configured logging."""
    if wanted is not None:
        return wanted
    return any(not isinstance(it, logging.NullHandler) for it in logging.root.handlers)


def _prints_to_descriptor() -> bool:
    """Tell whether what is written to descriptor 1 arrives where ``print`` writes to."""
    stdout: Any = sys.stdout
    # ipykernel reads from the descriptor by itself, and knows best which cell is running.
    if stdout is None or getattr(stdout, "watch_fd_thread", None) is not None:
        return True
    try:
        return bool(stdout.fileno() == _STDOUT)
    except (AttributeError, OSError, ValueError):
        return False


def _importing_main() -> bool:
    from mirai_executor._payload.daemon import importing_main  # a daemon has it long since

    return importing_main()
