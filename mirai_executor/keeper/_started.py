"""Starts the daemon of a session, with what passes on all that it writes."""

import os
import sys
from typing import NamedTuple

from mirai_executor._local import DaemonProcess, LocalLauncher, Relay, Spawner
from mirai_executor._place import fair_share
from mirai_executor._waiting import Reactor

from ._options import KeeperOptions, daemons_here
from ._output import Output


class Started(NamedTuple):
    """A daemon of this machine, and what there is here for it alone.

    Attributes:
        reactor: Waits for all that concerns it.
        daemon: Its process.
        output: Passes on what it prints.
        spawner: Has started it.
        relay: Passes on what it writes to standard error.
    """

    reactor: Reactor
    daemon: DaemonProcess
    output: Output
    spawner: Spawner
    relay: Relay

    def close(self) -> None:
        """Pass on the rest, and leave nothing behind; the daemon has ended, and is closed."""
        self.spawner.close()
        self.output.close()
        self.relay.close()


def start(options: KeeperOptions) -> Started:
    """Start a daemon.

    Raises:
        LaunchError: That was not possible; nothing is left behind.
    """
    reactor, relay = Reactor(), Relay()
    output = Output(reactor)
    launcher = LocalLauncher(
        python=sys.executable,
        output=options.output,
        stdout=output.fd,
        threads=fair_share(daemons_here(os.environ)),
    )
    spawner = Spawner(launcher)
    try:
        daemon = DaemonProcess(spawner, relay)
    except BaseException:
        spawner.close()
        output.close()
        relay.close()
        reactor.close()
        raise
    finally:
        output.hand_over()
    return Started(reactor, daemon, output, spawner, relay)
