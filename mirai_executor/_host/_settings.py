"""What a host is told: before its first task, with each task, and where daemons connect."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from mirai_executor._core import NO_LIMITS, Limits
from mirai_executor._place import usable_cpus
from mirai_executor._typing import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextvars import ContextVar
    from typing import Literal, NoReturn, TypeAlias, TypedDict

    from mirai_executor._core import Policy
    from mirai_executor._local import LocalLauncher
    from mirai_executor._payload.common.serial import Hooks
    from mirai_executor._payload.host import Call, Inheritance, Mode
    from mirai_executor._payload.host.context import Chosen
    from mirai_executor._serial import SerialConfig
    from mirai_executor._transport import Listener
    from mirai_executor.credentials import Certificate, Secret
    from mirai_executor.launchers import PrivateFiles

    from ._environments import Environments, Variables
    from ._log_relay import LogRelay

    Output: TypeAlias = bool | Literal["inherit", "relay", "tagged"]
    # It gets the socket at which it is asked, its lifeline, and what it has from its host.
    BecomeTemplate = Callable[[int, int, Inheritance], NoReturn]

TRACES = "opentelemetry.trace"  # imported by programs whose tasks may be spans


class ListenConfig(Record):
    """Where daemons come in, and what they have to prove.

    Args:
        listeners: The sockets, open.
        secret: What daemons know and nobody else.
        certificate: What is shown at addresses with TLS.
        files: What lies elsewhere for daemons to read, until nobody comes any more.
        compresses: Whether what is long is compressed on slow lines.
        urls: What daemons dial, the best one first.
    """

    listeners: Sequence[Listener]
    secret: Secret
    certificate: Certificate | None = None
    files: PrivateFiles | None = None
    compresses: bool = False
    urls: tuple[str, ...] = ()

    def close(self) -> None:
        """Stop listening, and leave no file behind."""
        for listener in self.listeners:
            listener.close()
        if self.files is not None:
            self.files.close()


class Forking(Record):
    """How daemons are forked from this process.

    Args:
        import_template: Imports, and returns, what a fork of this process does to be the one from
            which daemons are forked.
        always: Whether they are forked in any case, or only if the initializer's arguments have
            no other way.
    """

    import_template: Callable[[], BecomeTemplate]
    always: bool


class Settings(Record):
    """What a host is to know before its first task."""

    policy: Policy
    launcher: LocalLauncher
    cleanup: bool = True
    initializer: Callable[..., object] | None = None
    initargs: tuple[Any, ...] = ()
    name: str | None = None
    listen_config: ListenConfig | None = None  # where daemons come in by themselves
    heartbeat: float = 5.0  # seconds between their signs of life
    forking: Forking | None = None  # None if no daemon is ever a fork of this process
    main: Mode = "auto"  # whether daemons import the main module
    logging: bool | None = None  # whether tasks log here; None: if the user has configured it
    environments: Environments | None = None  # what daemons find in theirs; None: what is there
    output: Output = True  # how what tasks print comes here, if it does
    serial: Hooks | None = None  # what the user has for classes, if anything
    memory: int | None = None  # bytes of calls that may be queued; None for any number


class Setup(Record):
    """What each daemon is told when it greets.

    Args:
        calls: Those that it makes before its first task, in this order.
        cleanup: Whether it cleans up after each task.
        log: Takes what its tasks log; None leaves that to the daemon.
        environments: What it finds in its environment, beside what is there.
        name: That of the executor.
        main: Whether it may import the main module.
    """

    calls: Sequence[Call]
    cleanup: bool
    log: LogRelay | None
    environments: Environments | None
    name: str | None
    main: Mode = "auto"


class Options(Record):
    """What an executor, or a view of one, has been told of its tasks: see ``with_options``."""

    limits: Limits = NO_LIMITS  # what the dispatcher acts on; each is an option of its own
    cancel_running: bool = True
    cancel_on_interrupt: bool = False
    post_mortem: bool = False
    context: Chosen = False
    min_workers: int = 0
    on_report: Callable[[Any], object] | None = None
    buffer: int = 16


if TYPE_CHECKING:

    class TaskOptions(TypedDict, total=False):
        """The fields of ``Limits`` and ``Options``, any of which may be given."""

        timeout: float | None
        run_timeout: float | None
        retries: int
        concurrency: int
        cancel_running: bool
        cancel_on_interrupt: bool
        post_mortem: bool
        context: bool | Iterable[ContextVar[Any]]
        min_workers: int
        on_report: Callable[[Any], object] | None
        buffer: int


def environments_for(variables: Variables | None, gpus: int | None) -> Environments | None:
    """Return what daemons find in their environments; None for what is in that of this process."""
    if variables is None and gpus is None:
        return None
    from ._environments import Environments  # which most have no use for

    return Environments(variables, gpus)


def calls_of_spans(settings: Settings) -> Sequence[Call]:
    """Return the calls by which daemons make spans of their connections; none if nobody traces."""
    if TRACES not in sys.modules:
        return ()
    from ._connection_spans import calls_of_spans  # as above

    return calls_of_spans(settings)


def serial_hooks(given: SerialConfig | Sequence[SerialConfig] | None) -> Hooks | None:
    """Return what the user has for classes that pickle does not know; None if there is nothing.

    Raises:
        TypeError: It is not what ``serial_config`` returns.
        PayloadError: It cannot be sent to daemons.
    """
    if given is None and "mirai_executor._serial" not in sys.modules:  # nor is any registered
        return None
    from mirai_executor._serial import hooks_for  # which most have no use for

    return hooks_for(given)


def most_daemons(
    wanted: int | None, asked_for: int | None, environments: Environments | None
) -> int:
    """Return how many daemons there may be.

    Args:
        wanted: As the user has it; None for as many as this machine has room for.
        asked_for: How many are asked for where they come by themselves; None where they do not.
        environments: What they find there.

    Raises:
        ValueError: There are not as many GPUs.
    """
    if asked_for is not None:
        return asked_for if wanted is None else wanted
    cpus = usable_cpus()
    if environments is None:
        return cpus if wanted is None else wanted
    most = environments.default_workers(cpus) if wanted is None else wanted
    environments.check(most)
    return most
