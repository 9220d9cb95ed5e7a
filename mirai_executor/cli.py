"""The command line: ``mirai-executor``, also as ``python -m mirai_executor``."""

import argparse
import math
import os
import sys
from collections.abc import Sequence

from ._version import __version__

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status of the process.

    Args:
        argv: The words after the program's name; by default those of this process.
    """
    options = _parser().parse_args(argv)
    status: int = options.run(options)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mirai-executor",
        description="Run Python calls on daemons, through concurrent.futures.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_demo(commands)
    _add_daemon(commands)
    return parser


def _add_demo(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    demo = commands.add_parser(
        "demo",
        help="analyse Python's standard library on daemons, and survive three accidents",
        description="Analyse Python's standard library on daemons, check it against a serial "
        "run, and survive an error, a crash and a runaway task. The exit status is 0 if all held.",
    )
    demo.add_argument(
        "--workers", type=_positive, metavar="N", help="daemons (default: one a processor)"
    )
    demo.add_argument(
        "--files", type=_positive, metavar="N", help="analyse at most N files (default: all)"
    )
    demo.set_defaults(run=_run_demo)


def _run_demo(options: argparse.Namespace) -> int:
    from . import demo  # and with it the executor, which no other command needs

    try:
        return 0 if demo.run(options.workers, options.files) else 1
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130  # as a shell reports SIGINT


def _add_daemon(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    daemon = commands.add_parser(
        "daemon",
        help="run tasks for an executor on this or another machine",
        description="Run tasks for the executor that listens at one of the given addresses, tried "
        "in this order. What proves that it is the right one, and this daemon too, comes in the "
        "environment: start daemons by launch_remote(), or by the command that it returns.",
        epilog="Exit status: 0 the host let it go, or has ended; 2 it was called in a wrong way; "
        "10 the host cannot be reached; 11 its certificate is not the one to trust; 12 it is the "
        "host of another executor; 13 it has another version of Python or of mirai-executor; "
        "14 no interpreter for tasks could be started; 15 the host works with a dispatcher, or "
        "without one, and was to do otherwise.",
    )
    daemon.add_argument("urls", nargs="+", metavar="URL", help="an address of the host")
    daemon.add_argument(
        "--output",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="show what tasks print at the standard output of this daemon",
    )
    daemon.add_argument(
        "--cleanup",
        action=argparse.BooleanOptionalAction,
        help="return to the first state after each task, or do not, whatever the host says",
    )
    daemon.add_argument(
        "--dispatcher",
        action=argparse.BooleanOptionalAction,
        help="join only a host that works with a dispatcher, or only one without (default: any)",
    )
    daemon.add_argument(
        "--idle-time", type=_seconds, metavar="S", help="leave after S seconds without a task"
    )
    daemon.add_argument(
        "--wall-time",
        type=_seconds,
        metavar="S",
        help="take no more tasks after about S seconds, never later, and leave after the one that "
        "runs; daemons that start together leave one after the other",
    )
    daemon.add_argument("--max-tasks", type=_positive, metavar="N", help="leave after N tasks")
    daemon.add_argument(
        "--autoexit",
        choices=("now", "finish", "never"),
        default="now",
        help="when the host is gone: end the task that runs and exit; let it finish first; or "
        "stay, and serve the next host at the same address that has the same secret",
    )
    daemon.add_argument(
        "--retry",
        type=_seconds,
        default=30.0,
        metavar="S",
        help="try for S seconds to reach the host (default: 30)",
    )
    daemon.set_defaults(run=_run_daemon)


def _run_daemon(options: argparse.Namespace) -> int:
    from . import keeper  # and with it sockets and processes, which no other command needs
    from .credentials import DaemonCredentials
    from .urls import Url

    try:
        credentials = DaemonCredentials.take_from(os.environ)
        life = keeper.Options(
            urls=tuple(map(Url.parse, options.urls)),
            output=options.output,
            cleanup=options.cleanup,
            dispatcher=options.dispatcher,
            idle_time=options.idle_time,
            wall_time=options.wall_time,
            max_tasks=options.max_tasks,
            autoexit=keeper.Autoexit(options.autoexit),
            retry=options.retry,
        )
    except ValueError as error:
        print(f"mirai-executor daemon: {error}", file=sys.stderr)
        return keeper.ExitCode.USAGE
    try:
        return keeper.keep(life, credentials)
    except KeyboardInterrupt:
        return keeper.ExitCode.INTERRUPTED


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return int(text)
