"""The options that ``daemons()`` hands on, as type checkers and editors are to know them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypedDict

from mirai_executor._provisioning._listening import Password, Source
from mirai_executor._serial import SerialConfig


class ExecutorKeywords(TypedDict, total=False):
    """What ``MiraiExecutor`` takes beside what ``daemons`` names itself; any may be given."""

    mp_context: Any
    initializer: Callable[..., object] | None
    initargs: tuple[Any, ...]
    max_tasks_per_child: int | None
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
