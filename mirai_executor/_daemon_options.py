"""The options of a daemon that connects to its host, and how they are given.

Each is a field of ``DaemonOptions``, and of ``DaemonKeywords`` for type checkers. The command line
of a daemon, the keyword arguments of what launches it, and their checks follow from these::

    launch_local(idle_time=5) ── words_for() ──► mirai-executor daemon --idle-time 5
                                                                 └──► DaemonOptions(idle_time=5)
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import Enum, auto
from typing import Any, Literal, TypedDict, cast, get_args

from ._arguments import check_count, check_options, check_seconds, check_word

Autoexit = Literal["now", "finish", "never"]


class OptionKind(Enum):
    """What values an option takes."""

    SWITCH = auto()  # yes or no
    SECONDS = auto()  # a number, zero or positive
    COUNT = auto()  # a positive integer
    AUTOEXIT = auto()  # one of the words of Autoexit


def _about(kind: OptionKind, description: str) -> dict[str, Any]:
    return {"kind": kind, "description": description}


@dataclass(frozen=True)
class DaemonOptions:
    """How a daemon lives that connects to its host; each field says what it is about.

    ``mirai-executor daemon --help`` and the docs (by ``docs/conf.py``) show these descriptions.
    """

    output: bool = field(
        default=True,
        metadata=_about(
            OptionKind.SWITCH,
            "print what tasks print on the standard output of this daemon, or discard it "
            "(default: print it)",
        ),
    )
    cleanup: bool | None = field(
        default=None,
        metadata=_about(
            OptionKind.SWITCH,
            "reset the state of the interpreter after each task, or do not (default: as the host "
            "decides)",
        ),
    )
    dispatcher: bool | None = field(
        default=None,
        metadata=_about(
            OptionKind.SWITCH,
            "accept only a host with a dispatcher, or only one without (default: either)",
        ),
    )
    idle_time: float | None = field(
        default=None,
        metadata=_about(
            OptionKind.SECONDS,
            "exit after S seconds without a task; starting, the initializer and everywhere() are "
            "not idle time",
        ),
    )
    wall_time: float | None = field(
        default=None,
        metadata=_about(
            OptionKind.SECONDS,
            "accept no more tasks after 0.9 S to S seconds, and exit when the current one is "
            "finished; daemons that start together exit one after the other",
        ),
    )
    max_tasks_per_child: int | None = field(
        default=None,
        metadata=_about(
            OptionKind.COUNT,
            "exit after N tasks; those that were cancelled before they began do not count",
        ),
    )
    autoexit: Autoexit = field(
        default="now",
        metadata=_about(
            OptionKind.AUTOEXIT,
            "when the host is gone: stop the current task and exit (now, the default); finish the "
            "task first, though nobody gets its result (finish); or stop it, and stay (never), to "
            "serve the next host with the same address and secret, unless SIGTERM, its idle time "
            "or its wall time ends the wait",
        ),
    )
    retry: float = field(
        default=30.0,
        metadata=_about(
            OptionKind.SECONDS,
            "keep trying to reach the host for S seconds (default: 30)",
        ),
    )
    grace: float = field(
        default=5.0,
        metadata=_about(
            OptionKind.SECONDS,
            "after SIGTERM, let the running task go on for up to S seconds (default: 5), and "
            "accept no other; SIGUSR1 does the same without a limit",
        ),
    )


class DaemonKeywords(TypedDict, total=False):
    """The fields of ``DaemonOptions``, any of which may be given."""

    output: bool
    cleanup: bool | None
    dispatcher: bool | None
    idle_time: float | None
    wall_time: float | None
    max_tasks_per_child: int | None
    autoexit: Autoexit
    retry: float
    grace: float


@dataclass(frozen=True)
class Option:
    """One of the options, as a command line has it."""

    name: str
    kind: OptionKind
    default: object
    description: str

    @property
    def flag(self) -> str:
        """What it is called there."""
        return f"--{self.name.replace('_', '-')}"

    def check(self, value: object) -> None:
        """Require a value of the right kind, or None.

        Raises:
            TypeError: It has the wrong type.
            ValueError: It is out of range.
        """
        if self.kind is OptionKind.SECONDS:
            check_seconds(self.name, value, optional=True, zero=True)
        elif self.kind is OptionKind.COUNT:
            check_count(self.name, value, 1, optional=True)
        elif self.kind is OptionKind.AUTOEXIT and value is not None:
            check_word(self.name, value, get_args(Autoexit))

    def words(self, value: object) -> tuple[str, ...]:
        """Return the words of a command line that give it this value."""
        if self.kind is OptionKind.SWITCH:
            return (self.flag if value else f"--no-{self.flag[2:]}",)
        return (self.flag, str(value))


OPTIONS = {
    each.name: Option(each.name, each.metadata["kind"], each.default, each.metadata["description"])
    for each in fields(DaemonOptions)
}


def words_for(keywords: DaemonKeywords) -> tuple[str, ...]:
    """Return the words of a command line that say the same; None says nothing.

    What is wrong with them is reported here: a daemon's own complaint would come too late.

    Raises:
        TypeError: There is no such option, or a value has the wrong type.
        ValueError: A value is out of range.
    """
    options = cast("Mapping[str, object]", keywords)
    check_options(options, tuple(OPTIONS))
    words: list[str] = []
    for name, value in options.items():
        OPTIONS[name].check(value)
        if value is not None:
            words += OPTIONS[name].words(value)
    return tuple(words)
