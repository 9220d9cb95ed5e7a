"""The daemon process: receives calls, runs them, answers, and cleans up behind them."""

import os
import sys

__all__ = ["main"]


def main() -> None:
    """Serve the host at the other end of three inherited descriptors, named on the command line.

    The descriptors are those of the link, of the lifeline and of the shared page.
    """
    from mirai_executor import _place, _transport  # not before the lifeline holds
    from mirai_executor._page import Page

    from . import _lifeline, _streams
    from ._serve import Daemon

    link, lifeline, page = map(int, sys.argv[1:4])
    for fd in (link, lifeline, page):
        os.set_inheritable(fd, False)  # positional in the standard library
    _lifeline.hold(lifeline)
    _streams.prepare()
    _place.enter_daemon()
    _transport.save_threads()
    Daemon(link, Page(page)).serve()
