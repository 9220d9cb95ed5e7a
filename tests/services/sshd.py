"""Runs OpenSSH servers of the tests' own, with keys made for the occasion."""

import contextlib
import fcntl
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

SSHD = "/usr/sbin/sshd"
_PATIENCE = 30.0  # seconds
_CONFIG = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
SetEnv HOME={folder}/home
"""


@dataclass(frozen=True)
class Server:
    """A server that lets one key in, as the user of the tests with a home folder of its own."""

    folder: Path
    port: int

    @property
    def remote(self) -> str:
        return f"ssh://127.0.0.1:{self.port}"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def options(self) -> list[str]:
        """What the client must know, and nothing of what this machine's user has configured."""
        return self.options_with("key")

    def options_with(self, key: str) -> list[str]:
        return [
            f"IdentityFile={self.folder / key}",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            f"UserKnownHostsFile={self.folder}/known_hosts",
            "GlobalKnownHostsFile=/dev/null",
            "StrictHostKeyChecking=accept-new",
        ]

    @property
    def far_options(self) -> list[str]:
        """What leads to a machine without any network: all that it has is this connection."""
        words = f"unshare --net {sys.executable} {__file__} {self.folder}/config"
        return [*self.options, f"ProxyCommand={words}"]


@contextlib.contextmanager
def serve(folder: Path, more: str = "") -> Iterator[Server]:
    """Run a server until the end, with more lines in its configuration."""
    for name in ("host_key", "key", "other_key"):
        keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(keygen, check=True)
    (folder / "authorized_keys").write_bytes((folder / "key.pub").read_bytes())
    (folder / "home").mkdir()
    # Where sshd gives up its rights; Debian's is made by the service, which does not run here.
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    server = Server(folder, free_port())
    config = folder / "config"
    config.write_text(_CONFIG.format(port=server.port, folder=folder) + more)
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen([SSHD, "-D", "-e", "-f", str(config)], stderr=log) as process,
    ):
        try:
            wait_until("sshd", lambda: _answers(server.port))
            yield server
        finally:
            process.terminate()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def wait_until(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} has not started")
        time.sleep(0.05)  # nothing tells when another program is ready


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def serve_one_connection(config: str) -> None:
    """Become a server for who talks to us, in a network that has nothing but itself."""
    up, name = 1, b"lo"  # IFF_UP
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", name, up))  # SIOCSIFFLAGS
    os.execv(SSHD, [SSHD, "-i", "-f", config])


if __name__ == "__main__":
    serve_one_connection(sys.argv[1])
