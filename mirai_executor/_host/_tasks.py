"""Keeps the tasks of a host that have not ended, and ends their futures with the outcomes."""

from __future__ import annotations

import _thread
import collections
import functools
from collections.abc import Callable
from concurrent.futures import InvalidStateError
from types import FunctionType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from mirai_executor import _wire
from mirai_executor._core import (
    DaemonId,
    Event,
    FailTask,
    Failure,
    ResolveTasks,
    ResultsArrived,
    SendTasks,
    TaskId,
    TaskSubmitted,
)
from mirai_executor._payload import host as _payload
from mirai_executor._typing import NamedTuple
from mirai_executor._waiting import Reply
from mirai_executor.errors import TaskTimeoutError

from . import _registry
from ._store import Deferred

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mirai_executor._core import Limits

    from ._daemon import Daemon
    from ._fleet import Fleet
    from ._store import Store


class OpenTask(NamedTuple):
    """A task on its way: its future, and its call while it may still have to be sent.

    All in one: while thousands of them wait, each object more is one more to collect garbage from.
    """

    task: TaskId
    future: OpenFuture
    limits: Limits
    kind: int | None
    blob: bytes
    names: tuple[_payload.NameEntry, ...]
    buffers: tuple[_wire.Buffer, ...] = ()


def kind_of(fn: Any, args: tuple[Any, ...]) -> int | None:
    """Return the same number for calls of the same function; None if there is no telling.

    A function that is called with another one, such as the chunks of a ``map``, counts together
    with that one, and with the length of the list that comes next, by powers of two. By name, not
    by identity: the functions themselves may be gone when their next call comes, as lambdas are.
    """
    if type(fn) is FunctionType and not (args and callable(args[0])):
        return hash((fn.__module__, fn.__qualname__))  # as below, for most
    try:
        if not hasattr(fn, "__qualname__"):
            fn = getattr(fn, "__wrapped__", fn)
            while type(fn) is functools.partial:
                fn, args = fn.func, (*fn.args, *args)
        if args and callable(args[0]):
            size = len(args[1]) if len(args) > 1 and type(args[1]) is list else 0
            return hash((_name_of(fn), _name_of(args[0]), size.bit_length()))
        return hash(_name_of(fn))
    except Exception:  # the user's own __getattr__ or __hash__
        return None


def _name_of(fn: Any) -> tuple[Any, Any]:
    named = fn if hasattr(fn, "__qualname__") else type(fn)
    return named.__module__, named.__qualname__


T = TypeVar("T")

# To look an enum's member up takes as long as a call.
_SKIPPED, _ERROR = _wire.OutcomeStatus.SKIPPED, _wire.OutcomeStatus.ERROR
_NO_NUMBER = _payload.NO_NUMBER


class OpenFuture(Protocol):
    """What the host needs of a task's future."""

    def start(self) -> bool:
        """Mark it as running, once or again. False if it has ended."""
        ...

    def set_outcome(self, decode: Callable[[T], Any], payload: T, *, failed: bool) -> None:
        """End it with what has arrived, which whoever wants the value decodes."""

    def set_value(self, value: Any) -> None:
        """End it with a result that needs no decoding."""

    def set_exception(self, exception: BaseException, /) -> None:
        """End it with an exception."""

    def end_cancelled(self) -> None:
        """Mark it as cancelled unless it has ended."""

    def listener(self) -> Callable[[Any], None]:
        """Return what takes in what the task says while it runs."""
        ...


Ended: TypeAlias = collections.deque[tuple[OpenFuture, _wire.WireOutcome | None]]


def resolve_all(ended: Ended) -> None:
    """End futures; None for one that was cancelled before it could start."""
    while ended:  # and not longer: what nobody else holds is to go at once
        future, outcome = ended.popleft()
        if outcome is None:
            future.end_cancelled()
        else:
            resolve(future, outcome)


def resolve(future: OpenFuture, outcome: _wire.WireOutcome) -> None:
    """End a future as its task has ended; whoever wants its value decodes it."""
    views: Any  # in place of where they lie, by now
    status, payload, views = outcome.status, outcome.payload, outcome.buffers
    if status is _SKIPPED:
        future.end_cancelled()
        return
    failed = status is _ERROR
    value = _NO_NUMBER if failed or views else _payload.decode_number(payload)
    decode: Callable[..., Any] = decode_error if failed else _payload.decode_value
    if views:
        decode = functools.partial(decode, buffers=views)
    try:
        if value is _NO_NUMBER:
            future.set_outcome(decode, payload, failed=failed)
        else:
            future.set_value(value)
    except InvalidStateError:  # cancelled in the meantime
        future.end_cancelled()


def decode_error(payload: _wire.Bytes) -> BaseException:
    """Return the error that a task has ended in, or the one that decoding it ends in."""
    try:
        return _payload.decode_error(payload)
    except BaseException as error:  # the user's own code may raise any
        return error


def decode_apart(payload: _wire.Bytes) -> BaseException:
    """Return the same, decoded on a thread of its own, which is waited for.

    The traceback of an error holds the frames in which it was decoded, and these the thread: who
    keeps the error would keep the host thread from being seen as gone.
    """
    answer: Reply[BaseException] = Reply()
    try:
        _thread.start_new_thread(lambda: answer.set_result(decode_error(payload)), ())
    except RuntimeError:  # the system grants none
        return decode_error(payload)
    return answer.get()


def set_exception(future: OpenFuture, error: BaseException) -> None:
    """End a future in an error, unless it has been cancelled in the meantime."""
    try:
        future.set_exception(error)
    except InvalidStateError:
        future.end_cancelled()


class OpenTasks:
    """All open tasks of one host. For the host thread only.

    Args:
        fleet: Sends them.
        store: Keeps their large buffers.
        put: Has an event handled later.
        end_later: Has something called once every send is out: it runs callbacks of the user.

    Attributes:
        open: All of them.
    """

    def __init__(
        self,
        fleet: Fleet,
        store: Store,
        put: Callable[[Event], None],
        end_later: Callable[[Callable[[], None]], None],
    ) -> None:
        self._fleet = fleet
        self._store = store
        self._put = put
        self._end_later = end_later
        self.open: dict[TaskId, OpenTask] = {}
        fleet.hear = self._hear

    def add(self, task: OpenTask) -> TaskSubmitted:
        """Take a task in; return what the dispatcher is to know of it."""
        self.open[task.task] = task  # in place before the event that names it
        # At a third of the cost of TaskSubmitted(...).
        return tuple.__new__(TaskSubmitted, (task.task, task.limits, task.kind))

    def take_all(self) -> list[OpenFuture]:
        """Forget all tasks; return their futures."""
        futures = [task.future for task in self.open.values()]
        self.open.clear()
        return futures

    def send(self, command: SendTasks) -> None:
        """Hand calls over to a daemon."""
        if (gate := self._store.gate) is not None:
            gate.leave(command.tasks)
        calls = []
        for id_ in command.tasks:
            task = self.open[id_]
            if task.future.start():
                if not task.buffers:
                    calls.append(task)
                    continue
                if (copied := self._with_copies(task)) is not None:
                    calls.append(copied)
                    continue
            # Cancelled a moment ago, or ended by an error: as good as answered.
            self._put(ResultsArrived(command.daemon, {id_: None}))
        if calls:
            self._fleet.send_tasks(command.daemon, calls)

    def _with_copies(self, task: OpenTask) -> OpenTask | None:
        """Copy the buffers of a task if they are deferred; None if that ends it in an error."""
        if type(task.buffers) is not Deferred:
            return task
        try:
            buffers = self._store.copy(task.task, task.buffers, task.limits.retries)
        except Exception as error:  # there is not enough memory
            self._end_later(functools.partial(set_exception, task.future, error))
            return None
        self.open[task.task] = task = task._replace(buffers=buffers)
        return task

    def resolve(self, command: ResolveTasks, outcomes: Mapping[TaskId, _wire.WireOutcome]) -> None:
        """End the futures of tasks as these have ended; those of which nobody knows, cancelled."""
        ended: Ended = collections.deque()
        pop, outcome_of, copied = self.open.pop, outcomes.get, self._store.copied
        for id_ in command.tasks:
            task = pop(id_)
            if task.buffers or (copied and id_ in copied):
                self._let_go(task)
            ended.append((task.future, outcome_of(id_)))
        self._end_later(functools.partial(resolve_all, ended))

    def fail(self, command: FailTask) -> None:
        """End the future of a task that has no outcome of its own."""
        task = self.open.pop(command.task)
        if (gate := self._store.gate) is not None:
            gate.leave((command.task,))
        if task.buffers or task.task in self._store.copied:
            self._let_go(task)
        if command.failure is Failure.CANCELLED:
            self._end_later(task.future.end_cancelled)
            return
        error = self._error_of(command, task)
        self._end_later(lambda: set_exception(task.future, error))

    def _hear(self, id_: DaemonId, daemon: Daemon, frame: _wire.Report | _wire.Items) -> None:
        """Hand on what tasks say; to those that have ended, nobody listens any more."""
        if isinstance(frame, _wire.Items):
            self._fleet.trim_later()
        with _registry.no_fork:
            from ._messages import messages_in  # few tasks say anything before they end

            said = list(messages_in(frame, daemon, functools.partial(self._grant, id_)))
            for task, message in said:
                if (future := self._future_of(task, daemon)) is not None:
                    self._end_later(functools.partial(future.listener(), message))

    def _future_of(self, task: TaskId, daemon: Daemon) -> OpenFuture | None:
        """Return the future of a task that a daemon has, or of an element of such a chunk."""
        if task in daemon.sent:
            known = self.open.get(task)
            return None if known is None else known.future
        chunks = (self.open[id_].future for id_ in daemon.sent if id_ in self.open)
        found = (chunk.future_of(task) for chunk in chunks if hasattr(chunk, "future_of"))
        return next(filter(None, found), None)

    def _grant(self, id_: DaemonId, task: TaskId, count: int) -> None:
        """Let a task yield so many values more."""
        if task in self.open:
            self._fleet.send(id_, _wire.Credit(task, count))

    def _let_go(self, task: OpenTask) -> None:
        self._store.let_go(task.task)
        if task.buffers:
            self._fleet.trim_later()

    def _error_of(self, command: FailTask, task: OpenTask) -> Exception:
        name, limits = f"task {command.task}", task.limits
        if command.failure is Failure.TIMED_OUT:
            return TaskTimeoutError(
                f"{name} timed out: not finished {limits.timeout} s after submission"
            )
        if command.failure is Failure.RUN_TIMED_OUT:
            return TaskTimeoutError(
                f"{name} timed out: it ran for more than {limits.run_timeout} s"
            )
        if command.failure is Failure.DAEMON_LOST and command.daemon is not None:
            return self._fleet.loss_reports.lost_error(command.daemon, f"while it ran {name}")
        return self._fleet.loss_reports.launch_error()


def results_of(
    daemon: DaemonId, outcomes: Sequence[_wire.WireOutcome]
) -> tuple[ResultsArrived, Mapping[TaskId, _wire.WireOutcome]]:
    """Return what the dispatcher is to know of outcomes, and these, each by its task."""
    by_task: dict[TaskId, _wire.WireOutcome] = {}
    seconds: dict[TaskId, float | None] = {}
    leaving = False
    for outcome in outcomes:
        task: TaskId = outcome.task  # type: ignore[assignment]  # TaskId(...) takes its time
        by_task[task] = outcome
        seconds[task] = outcome.nanoseconds * 1e-9 or None
        leaving = leaving or outcome.leaving
    return ResultsArrived(daemon, seconds, leaving), by_task
