"""What the host does with commands that have started daemons elsewhere."""

import subprocess
import sys

import pytest

from mirai_executor._host._launch_processes import LaunchProcesses
from mirai_executor._local import Relay, RelayedStream
from mirai_executor._waiting import Reactor

LEFT_ALONE = "mirai-executor daemon (pid 7 on far): cannot reach the host: tcp://here:5: reset"
OF_THE_TUNNEL = "connect_to 127.0.0.1 port 5: failed."
SCRIPT = "import sys; sys.stdin.read(); sys.stderr.write(sys.argv[1])"


class Leaving(subprocess.Popen[bytes]):
    """A command that says something, and ends, once somebody waits for its end."""

    def wait(self, timeout: float | None = None) -> int:
        assert self.stdin is not None
        self.stdin.close()
        return super().wait(timeout)


@pytest.mark.parametrize(
    ("says", "passed_on"),
    [
        pytest.param(LEFT_ALONE + "\n", "", id="daemon"),
        pytest.param(OF_THE_TUNNEL + "\r\n", "", id="tunnel"),
        pytest.param(f"a\n{LEFT_ALONE}\nb\n{LEFT_ALONE}\nc\n", "a\nb\nc\n", id="between lines"),
        pytest.param("a: cannot reach the host: b\n", "a: cannot reach the host: b\n", id="other"),
    ],
)
def test_that_daemons_find_no_host_is_no_news_as_it_ends(says: str, passed_on: str) -> None:
    assert said_at_the_end(says) == passed_on


class World:
    """A host's commands, and what it has passed on of what they say."""

    def __init__(self) -> None:
        self._heard: list[bytes] = []
        self.reactor, self._relay = Reactor(), Relay(self._write)
        self.commands = LaunchProcesses(self.reactor, self._relay, lambda _: None)

    def _write(self, _: RelayedStream, data: bytes) -> None:
        self._heard.append(data)

    def close(self) -> str:
        """End as the host does; return all that was passed on."""
        self.commands.close()
        self._relay.close()
        self.reactor.close()
        return b"".join(self._heard).decode()


def said_at_the_end(says: str) -> str:
    """Return what is passed on of what a command says while the host closes."""
    world = World()
    command = [sys.executable, "-S", "-c", SCRIPT, says]
    process = Leaving(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    world.commands.keep([process], lambda _: None, stay=False)
    return world.close()


def test_that_daemons_find_no_host_is_passed_on_while_it_runs() -> None:
    world = World()
    command = [sys.executable, "-S", "-c", SCRIPT, LEFT_ALONE]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    ended: list[object] = []
    world.commands.keep([process], ended.append, stay=False)
    while not ended:
        world.reactor.turn()
    assert world.close() == LEFT_ALONE
