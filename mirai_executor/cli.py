"""The command line: ``mirai-executor``, also as ``python -m mirai_executor``."""

import argparse
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


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return int(text)
