"""The command line: ``mirai-executor``, also as ``python -m mirai_executor``."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any, get_args

from ._daemon_options import OPTIONS, Autoexit, Option, OptionKind
from ._version import __version__

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command, and return the exit status of the process.

    Args:
        argv: The words after the name of the program; by default, those of this process.
    """
    options = _parser().parse_args(argv)
    status: int = options.run(options)
    return status


class _Parser(argparse.ArgumentParser):
    """Rejects an unknown option with the usage of the command that it was given to."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:
            kind = "unknown option" if unknown[0].startswith("-") else "unexpected argument"
            self.error(f"{kind}: {unknown[0]}")
        return namespace, unknown


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="mirai-executor",
        description="Run Python calls on daemons (worker processes), on this machine or others.",
        epilog="See mirai-executor COMMAND --help for the options and exit statuses of a command.",
    )
    parser.add_argument("-V", "--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_demo(commands)
    _add_daemon(commands)
    return parser


def _add_demo(commands: "argparse._SubParsersAction[_Parser]") -> None:
    demo = commands.add_parser(
        "demo",
        help="analyse the standard library in parallel; recover from an error, a crash, a timeout",
        description="Analyse the source files of Python's standard library on daemons, and "
        "compare the results with those of a serial run. Then let tasks fail in three ways, with "
        "an exception, a crash and a timeout, and check that the others are not affected.",
        epilog="Exit status: 0 all checks passed; 1 some checks failed; 2 invalid command line; "
        "130 interrupted by Ctrl-C; 141 the reader of the output went away.",
    )
    demo.add_argument(
        "--workers",
        type=_positive,
        metavar="N",
        help="number of daemons (default: one for each processor)",
    )
    demo.add_argument(
        "--files",
        type=_positive,
        metavar="N",
        help="analyse only the first N files (default: all)",
    )
    demo.set_defaults(run=_run_demo)


def _run_demo(options: argparse.Namespace) -> int:
    try:
        from . import demo  # and with it the executor, which no other command needs

        return 0 if demo.run(options.workers, options.files) else 1
    except KeyboardInterrupt:
        return 130  # as a shell reports SIGINT
    except BrokenPipeError:
        # What is left in the buffer would fail once more, at exit (signal(7), Python's manual).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # as a shell reports SIGPIPE


def _add_daemon(commands: "argparse._SubParsersAction[_Parser]") -> None:
    daemon = commands.add_parser(
        "daemon",
        help="run tasks for an executor on this or another machine",
        description="Run tasks for the executor that listens on one of the given addresses, which "
        "are tried in this order. The environment must contain the secret of the executor, so "
        "start daemons with launch_remote(), or with a command that it returns.",
        epilog="Exit status: 0 the host released this daemon, or has ended; 2 invalid command "
        "line, or no secret in the environment; 10 the host cannot be reached; 11 its certificate "
        "is not trusted; 12 it is the host of another executor; 13 it has another version of "
        "Python or of mirai-executor; 14 no Python interpreter for tasks could be started; 15 the "
        "host's dispatcher mode does not match --dispatcher or --no-dispatcher; 130 interrupted "
        "by Ctrl-C; 143 terminated by SIGTERM.",
    )
    daemon.add_argument(
        "urls",
        nargs="+",
        metavar="URL",
        help="an address of the host, such as tls+tcp://10.75.32.70:5555",
    )
    daemon.add_argument("--request", default="", help=argparse.SUPPRESS)  # our launchers' own
    for option in OPTIONS.values():
        daemon.add_argument(
            option.flag, default=option.default, help=option.description, **_how_to_read(option)
        )
    daemon.set_defaults(run=_run_daemon)


def _how_to_read(option: Option) -> dict[str, Any]:
    """Return what argparse has to know of the values of an option."""
    match option.kind:
        case OptionKind.SWITCH:
            return {"action": argparse.BooleanOptionalAction}
        case OptionKind.SECONDS:
            return {"type": _seconds, "metavar": "S"}
        case OptionKind.COUNT:
            return {"type": _positive, "metavar": "N"}
        case OptionKind.AUTOEXIT:
            return {"choices": get_args(Autoexit)}


def _run_daemon(options: argparse.Namespace) -> int:
    from . import keeper  # and with it sockets and processes, which no other command needs
    from .credentials import DaemonCredentials
    from .urls import Url

    try:
        credentials = DaemonCredentials.take_from(os.environ)
        given = {name: getattr(options, name) for name in OPTIONS}
        life = keeper.KeeperOptions(
            urls=tuple(map(Url.parse, options.urls)), request=options.request, **given
        )
    except ValueError as error:
        print(f"mirai-executor daemon: {error}", file=sys.stderr)
        return keeper.ExitCode.USAGE
    # Not before the secret is out of the environment: what process 1 was started with stays to be
    # read by every task, as long as the container.
    keeper.leave_first_place()
    try:
        return keeper.keep(life, credentials)
    except KeyboardInterrupt:
        return keeper.ExitCode.INTERRUPTED


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:  # NaN is not
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds (zero or more)")
    return seconds


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")
    return int(text)
