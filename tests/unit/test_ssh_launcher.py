"""The launcher over SSH as data: which command starts daemons on which machine."""

import pytest

from mirai_executor import (
    remote_config,
    ssh_config,
)
from mirai_executor.credentials import DaemonCredentials, Token
from mirai_executor.launchers import (
    Command,
    DaemonCommand,
    Until,
    shell_command,
)
from unit.plans import (
    DAEMON,
    EXPORTS,
    HERE,
    PLAIN,
    PYTHON,
    RUN,
    SECRET,
    only,
    script,
)

OURS = (
    *("BatchMode=yes", "ConnectTimeout=10", "ServerAliveInterval=20", "IgnoreUnknown=*"),
    "RemoteCommand=none",
    *("SessionType=default", "StdinNull=no", "ForkAfterAuthentication=no", "ControlMaster=no"),
)


def as_words(*options: str) -> list[str]:
    return [word for option in options for word in ("-o", option)]


def test_ssh_gets_one_command_for_each_machine_and_the_script_on_its_standard_input() -> None:
    launcher = ssh_config(
        ["ssh://10.75.32.90", "ssh://me@10.75.32.91:222", "ssh://[2001:db8::7]:23", "node7"],
        python=PYTHON,
        prologue=". ~/.profile\n  module load gcc",
    )
    plan = launcher.plan(DAEMON, 2)
    begin = ("ssh", "-T", *as_words(*OURS, "ClearAllForwardings=yes"))
    assert [one.argv for one in plan if isinstance(one, Command)] == [
        (*begin, "--", "10.75.32.90", "/bin/sh"),
        (*begin, "-p", "222", "-l", "me", "--", "10.75.32.91", "/bin/sh"),
        (*begin, "-p", "23", "--", "2001:db8::7", "/bin/sh"),
        (*begin, "--", "node7", "/bin/sh"),
    ]
    assert {one.until for one in plan if isinstance(one, Command)} == {Until.STARTED_LINE}
    assert script(plan[:1]) == (
        "{\n[ -r ~/.profile ] || { echo cannot read ~/.profile >&2; exit 1; }\n. ~/.profile\n"
        "module load gcc || exit\n} </dev/null\n"
        + EXPORTS
        + f"""\
'/opt/py thon/bin/python' -P -c 'import mirai_executor' </dev/null >&2 || exit
echo 'mirai-executor: daemons started' >&2 || exit
pids=
for number in 1 2; do
    MIRAI_EXECUTOR_NUMBER=$number MIRAI_EXECUTOR_DAEMONS=2 \\
        MIRAI_EXECUTOR_SEAT=10.75.32.90/$number {RUN} </dev/null >&2 &
    pids="$pids $!"
done
status=0
for pid in $pids; do wait "$pid" || status=$?; done
exit "$status"
"""
    )


def test_daemons_that_are_started_one_by_one_have_a_token_each() -> None:
    launch = SECRET.new_token()
    daemon = DaemonCommand(("tcp://node:1",), DaemonCredentials(launch))
    tokens = set()
    for command in remote_config("run", ["."]).plan(daemon, 3):
        assert isinstance(command, Command)
        assert dict(command.environment)["MIRAI_EXECUTOR_SECRET"] == command.secret
        tokens.add(Token.from_text(command.secret))
    assert len(tokens) == 3
    assert tokens == {SECRET.token(*token.id) for token in tokens}
    assert {token.id.launch for token in tokens} == {launch.id.launch}
    assert launch.text in shell_command(daemon)  # a user may paste it more than once


def test_a_tunnel_uses_the_port_that_it_is_given_and_one_connection() -> None:
    launcher = ssh_config("node", tunnel=21017, command=["ssh", "-F", "none"])
    command = only(launcher.plan(HERE, 4))
    forward = ("ExitOnForwardFailure=no", "LogLevel=INFO", "ControlPath=none")
    assert command.argv == (
        *("ssh", "-F", "none", "-T", *as_words(*OURS, *forward)),
        *("-R", "127.0.0.1:21017:127.0.0.1:5555", "--", "node", "/bin/sh"),
    )
    assert b"for number in 1 2 3 4; do" in command.stdin
    assert b"daemon tcp://127.0.0.1:21017 " in command.stdin
    assert command.refusal == "remote port forwarding failed for listen port 21017"


def test_each_login_through_a_tunnel_has_a_port_of_its_own() -> None:
    plan = ssh_config(["a", "a", "b", "c"], tunnel=True).plan(HERE, 1)
    forwards = [one.argv[one.argv.index("-R") + 1] for one in plan if isinstance(one, Command)]
    ports = [int(forward.split(":")[1]) for forward in forwards]
    assert len(set(ports)) == len(ports)
    assert all(20_000 <= port < 32_000 for port in ports)


def test_a_machine_may_have_what_others_have_not() -> None:
    launcher = ssh_config(
        {"a": {"python": "/a/python", "prologue": "module load a", "daemons": 3}, "b": {}},
        prologue="module load b",
    )
    a, b = (one.stdin.decode() for one in launcher.plan(DAEMON, 1) if isinstance(one, Command))
    assert "module load a || exit" in a
    assert "/a/python -P -m mirai_executor daemon" in a
    assert "for number in 1 2 3; do" in a
    assert "module load b || exit" in b
    assert "for number in 1; do" in b
    with pytest.raises(TypeError, match="phyton"):
        ssh_config({"a": {"phyton": "/a/python"}})  # type: ignore[typeddict-unknown-key]
    with pytest.raises(ValueError, match="daemons"):
        ssh_config({"a": {"daemons": 0}})


def test_a_tunnel_leads_to_where_a_daemon_dials_an_ipv4_address_in_the_way_of_ipv6() -> None:
    daemon = DaemonCommand(("tcp://[::ffff:127.0.0.1]:7",), PLAIN)
    command = only(ssh_config("node", tunnel=17).plan(daemon, 1))
    assert command.argv[command.argv.index("-R") + 1] == "127.0.0.1:17:127.0.0.1:7"


def test_a_tunnel_takes_the_loopback_address_that_it_finds() -> None:
    daemon = DaemonCommand(("tcp://10.0.0.1:1", "tls+tcp://[::1]:2"), PLAIN)
    command = only(ssh_config("node", tunnel=17).plan(daemon, 1))
    assert command.argv[command.argv.index("-R") + 1] == "[::1]:17:[::1]:2"
    with pytest.raises(ValueError, match=r"local_url\(tcp=True\)"):
        ssh_config("node", tunnel=True).plan(DAEMON, 1)


def test_the_users_ssh_options_come_before_ours() -> None:
    launcher = ssh_config("node", options=["BatchMode=no", "IdentityFile=/a b"])
    argv = only(launcher.plan(DAEMON, 1)).argv
    values = [argv[at + 1] for at, word in enumerate(argv) if word == "-o"]
    assert values[:3] == ["BatchMode=no", "IdentityFile=/a b", "BatchMode=yes"]


@pytest.mark.parametrize(
    "remote",
    [
        "-oProxyCommand=evil",
        "ssh://-oProxyCommand=evil",
        "ssh://-l@node",
        "a b",
        "node:0",
        "node:70000",
        "::1",
        "ssh://node/path",
        "http://node",
        "node\n",
        "node;reboot",
        "$(reboot)@node",
        "n\u00f6de",
        "no\x07de",
        "",
    ],
)
def test_what_is_no_machine_is_refused(remote: str) -> None:
    with pytest.raises(ValueError, match=r"machine|port|invalid word"):
        ssh_config(remote)


def test_ssh_needs_a_machine() -> None:
    with pytest.raises(ValueError, match="at least one machine"):
        ssh_config([])
