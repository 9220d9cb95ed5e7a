"""What executors and hosts are told: when they are made, with each task, where daemons connect."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from mirai_executor._arguments import (
    check_count,
    check_elsewhere,
    check_flags,
    check_launching,
    check_times,
    check_ways,
    check_word,
)
from mirai_executor._core import NO_LIMITS, Limits, Policy
from mirai_executor._place import usable_cpus
from mirai_executor._typing import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from contextvars import ContextVar
    from typing import Literal, NoReturn, TypeAlias, TypedDict

    from mirai_executor._local import LocalLauncher
    from mirai_executor._payload.common.serial import Hooks
    from mirai_executor._payload.host import Call, Inheritance, MainFinder, Mode
    from mirai_executor._payload.host.context import Chosen
    from mirai_executor._serial import SerialConfig
    from mirai_executor._transport import Listener
    from mirai_executor.credentials import Certificate, Password, Secret, Source
    from mirai_executor.launchers import Launcher, PrivateFiles

    from ._environments import Environments, Variables
    from ._log_relay import LogRelay

    Output: TypeAlias = bool | Literal["inherit", "relay", "tagged"]
    # It gets the socket at which it is asked, its lifeline, and what it has from its host.
    BecomeTemplate = Callable[[int, int, Inheritance], NoReturn]

_WARN_AFTER = 30.0  # seconds that tasks wait while no daemon is connected
_FRAME_TIME = 2.5e-3  # seconds: some times what a frame costs on its way there and back
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


class ExecutorOptions(Record):
    """The keywords of ``MiraiExecutor``, which says what they mean, and their defaults.

    ``max_tasks_per_child`` is not among them: it stands in a signature that is the standard
    library's.
    """

    dispatcher: bool = True
    cleanup: bool = False
    idle_time: float | None = None
    start_timeout: float = 60.0
    cancel_grace: float = 2.0
    output: bool | Literal["inherit", "relay", "tagged"] = True
    logging: bool | None = None
    name: str | None = None
    python: str | None = None
    ordering: Literal["bounded", "strict"] = "bounded"
    mode: Literal["daemons", "inline"] = "daemons"
    url: str | Sequence[str] | None = None
    remote: Launcher | None = None
    tls: Source | tuple[Source, Source] | None = None
    tls_password: Password | None = None
    tls_cert: Source | None = None
    tls_minimum: Literal["1.2", "1.3"] = "1.3"
    heartbeat: float = 5.0
    advertise: str | Sequence[str] | None = None
    compression: Literal["auto"] | None = None
    launch_timeout: float = 60.0
    tolerate: int | None = None
    main: Literal["auto", "import", "value"] = "auto"
    env: Mapping[str, str] | Callable[[int], Mapping[str, str]] | None = None
    gpus_per_daemon: int | None = None
    serial: SerialConfig | Sequence[SerialConfig] | None = None
    seed: int | None = None
    memory: int | None = None

    def check(self, max_workers: int | None) -> None:
        """Require values that an executor with so many daemons can work with.

        Raises:
            TypeError: One of them has the wrong type.
            ValueError: One is out of range, or two contradict each other.
        """
        check_times(self.idle_time, self.start_timeout, self.cancel_grace, self.heartbeat)
        _check_main_file(self.main)
        check_flags(dispatcher=self.dispatcher, cleanup=self.cleanup)
        check_count("seed", self.seed, optional=True)
        check_count("memory", self.memory, 1, optional=True)
        check_launching(self.launch_timeout, self.tolerate)
        tls = self.tls, self.tls_cert, self.tls_minimum
        where = self.url, self.remote
        check_elsewhere(max_workers, *where, tls, self.advertise, self.compression)
        check_ways(self.ordering, self.mode, self.logging, self.output, where, self.name)

    @property
    def is_open(self) -> bool:
        """Whether daemons connect by themselves."""
        return self.url is not None or self.remote is not None

    @property
    def asked_for(self) -> int | None:
        """How many of these are asked for at once, by default; None if there are no such."""
        return int(self.remote is not None) if self.is_open else None

    def policy(self, most: int, max_tasks: int | None) -> Policy:
        """Return how the dispatcher is to treat the daemons.

        Args:
            most: How many there may be.
            max_tasks: How many tasks each of them runs; None for any number.
        """
        return Policy(
            max_daemons=max(1, most),
            launches=not self.is_open,
            direct=not self.dispatcher,
            max_tasks=max_tasks,
            idle_time=self.idle_time,
            start_timeout=self.start_timeout,
            cancel_grace=self.cancel_grace,
            failure_window=60.0 + 10 * self.start_timeout,  # five starts that time out are in it
            frame_time=0.0 if self.ordering == "strict" else _FRAME_TIME,
            warn_after=_WARN_AFTER,
        )


if TYPE_CHECKING:

    class SharedKeywords(TypedDict, total=False):
        """What ``MiraiExecutor`` and ``daemons()`` both take as ``**options``."""

        dispatcher: bool
        cleanup: bool
        idle_time: float | None
        start_timeout: float
        cancel_grace: float
        output: bool | Literal["inherit", "relay", "tagged"]
        logging: bool | None
        name: str | None
        python: str | None
        ordering: Literal["bounded", "strict"]
        mode: Literal["daemons", "inline"]
        tls: Source | tuple[Source, Source] | None
        tls_password: Password | None
        tls_cert: Source | None
        tls_minimum: Literal["1.2", "1.3"]
        heartbeat: float
        advertise: str | Sequence[str] | None
        compression: Literal["auto"] | None
        launch_timeout: float
        tolerate: int | None
        main: Literal["auto", "import", "value"]
        env: Mapping[str, str] | Callable[[int], Mapping[str, str]] | None
        gpus_per_daemon: int | None
        serial: SerialConfig | Sequence[SerialConfig] | None
        seed: int | None
        memory: int | None

    class ExecutorKeywords(SharedKeywords, total=False):
        """The fields of ``ExecutorOptions``, any of which may be given."""

        url: str | Sequence[str] | None
        remote: Launcher | None

    class DaemonsKeywords(SharedKeywords, total=False):
        """What ``daemons()`` hands on, beside what it names itself."""

        mp_context: Any
        initializer: Callable[..., object] | None
        initargs: tuple[Any, ...]
        max_tasks_per_child: int | None


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
        find_main: Knows the file of that, once a call has referred to it.
        start_timeout: Seconds that it may take until it is ready.
    """

    calls: Sequence[Call]
    cleanup: bool
    log: LogRelay | None
    environments: Environments | None
    name: str | None
    main: Mode = "auto"
    find_main: MainFinder | None = None
    start_timeout: float = 60.0


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


def _check_main_file(main: Mode) -> None:
    """Require a way in which daemons come by the script, and a file if they import it anyway."""
    check_word("main", main, ("auto", "import", "value"))
    if main == "import":
        from mirai_executor._payload.host import main_file  # else it is asked for when needed

        main_file(main)


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
