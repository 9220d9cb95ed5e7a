"""Daemons to be launched, and looks at the plans that launchers make for them."""

from mirai_executor.credentials import DaemonCredentials, Secret
from mirai_executor.launchers import (
    Command,
    DaemonCommand,
    Submission,
)

SECRET = Secret(b"s" * 32)
PLAIN = DaemonCredentials(SECRET)
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB'\"$x\n-----END CERTIFICATE-----\n"
PYTHON = "/opt/py thon/bin/python"
DAEMON = DaemonCommand(("tcp://10.0.0.1:5555",), PLAIN, options=("--idletime", "60"))
TLS = DaemonCommand(
    ("tls+tcp://10.0.0.1:5555", "tls+tcp://[2001:db8::1]:5555"),
    DaemonCredentials(SECRET, CERTIFICATE, "mirai-0123"),
)
HERE = DaemonCommand(("tcp://127.0.0.1:5555",), PLAIN)

RUN = "'/opt/py thon/bin/python' -P -m mirai_executor daemon tcp://10.0.0.1:5555 --idletime 60"
EXPORTS = f"""\
{{ set +xv; }} 2>/dev/null
MIRAI_EXECUTOR_SECRET={SECRET.text}
export MIRAI_EXECUTOR_SECRET
"""


def only(plan: list[Submission]) -> Command:
    (command,) = plan
    assert isinstance(command, Command)
    return command


def script(plan: list[Submission]) -> str:
    return only(plan).stdin.decode()
