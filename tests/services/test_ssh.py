"""Daemons over a real SSH server of this machine."""

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from live.afar import hides_its_secret, hold, listening, pids, python_words, secret_of
from live.mischief import SOON, Bell, answer
from mirai_executor import DaemonLostError, LaunchError, MiraiExecutor, local_url, ssh_config
from mirai_executor.launchers import SshConfig
from services.sshd import Server

CONFIGURED = """\
RemoteCommand echo not ours
RequestTTY yes
StdinNull yes
ControlMaster auto
ControlPersist yes
LogLevel QUIET
"""


def login(server: Server, **options: Any) -> SshConfig:
    return ssh_config(
        server.remote, **{"options": server.options, "python": python_words(), **options}
    )


def tunnelled(server: Server) -> SshConfig:
    """Lead to a machine that has no network, and so no port in common with this one."""
    if subprocess.run(["unshare", "--net", "true"], check=False, capture_output=True).returncode:
        pytest.skip("no network of its own can be made here")
    return login(server, options=server.far_options, tunnel=True)


def cut_logins() -> None:
    """End the SSH clients of this process at once."""
    clients = [child for child in psutil.Process().children() if child.name() == "ssh"]
    assert clients
    for client in clients:
        client.kill()  # who waits for them here would take their status from the host


def complain(stream: str, times: int) -> int:
    for number in range(times):
        print(f"{number}" * 100_000, file=getattr(sys, stream), flush=True)
    return times


def test_daemons_join_and_their_secret_is_in_no_command_line(ssh_server: Server) -> None:
    with listening() as executor:
        assert executor.launch_remote(3, login(ssh_server)) == [""]
        assert len(pids(executor, 3)) == 3
        assert list(executor.map(abs, range(-50, 0))) == list(range(50, 0, -1))
        assert hides_its_secret(executor)


def test_an_executor_starts_its_own_daemons(ssh_server: Server) -> None:
    with MiraiExecutor(2, url="tls+tcp://127.0.0.1:0", remote=login(ssh_server)) as executor:
        assert executor.submit(answer).result(SOON) == 42
        assert len(pids(executor, 2)) == 2
        assert hides_its_secret(executor)


def test_each_machine_gets_as_many_daemons_as_are_asked_for(ssh_server: Server) -> None:
    machines = [ssh_server.remote, f"ssh://root@localhost:{ssh_server.port}"]
    launcher = ssh_config(machines, options=ssh_server.options, python=python_words())
    with listening() as executor:
        executor.launch_remote(2, launcher)
        assert len(pids(executor, 4)) == 4


def test_a_tunnel_is_all_that_a_far_machine_needs(ssh_server: Server) -> None:
    far = tunnelled(ssh_server)
    with listening(local_url(tcp=True)) as executor:
        executor.launch_remote(2, far)
        assert len(pids(executor, 2)) == 2
        sizes = [len(executor.submit(bytes, 1_000_000).result(SOON)) for _ in range(3)]
        assert sizes == [1_000_000] * 3


def test_a_tunnel_to_a_port_that_is_taken_is_a_launch_error(ssh_server: Server) -> None:
    with listening(local_url(tcp=True)) as executor:
        assert executor.url is not None
        port = int(executor.url.rpartition(":")[2])  # this machine is that of the server, too
        with pytest.raises(LaunchError, match="forwarding failed"):
            executor.launch_remote(1, login(ssh_server, tunnel=port))


def test_several_logins_lead_to_one_machine_through_tunnels_of_their_own(
    ssh_server: Server,
) -> None:
    with listening(local_url(tcp=True)) as executor:
        for _ in range(2):
            executor.launch_remote(1, login(ssh_server, tunnel=True))
        assert len(pids(executor, 2)) == 2


def test_what_the_user_has_configured_for_logins_of_their_own_does_not_matter(
    ssh_server: Server, tmp_path: Path
) -> None:
    config = tmp_path / "config"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        forward = f"LocalForward 127.0.0.1:{taken.getsockname()[1]} 127.0.0.1:9"
        config.write_text(f"{forward}\n{CONFIGURED}ControlPath {tmp_path}/master\n")
        command = ["ssh", "-F", str(config)]
        with listening(local_url(tcp=True)) as executor:
            executor.launch_remote(1, login(ssh_server, command=command))
            executor.launch_remote(1, login(ssh_server, command=command, tunnel=True))
            assert len(pids(executor, 2)) == 2
    assert not (tmp_path / "master").exists()


def test_the_login_shell_may_print_what_it_likes(ssh_server: Server) -> None:
    noise = ssh_server.home / ".bashrc"
    noise.write_text("echo Welcome; printf 'mirai-executor: daemons'; echo careful >&2\n")
    try:
        with listening() as executor:
            executor.launch_remote(2, login(ssh_server))
            assert len(pids(executor, 2)) == 2
    finally:
        noise.unlink()


def test_a_wrong_key_is_a_launch_error_with_the_words_of_ssh(ssh_server: Server) -> None:
    wrong = login(ssh_server, options=ssh_server.options_with("other_key"))
    with listening() as executor:
        with pytest.raises(LaunchError, match="Permission denied") as failed:
            executor.launch_remote(2, wrong)
        assert failed.value.exitcode == 255
        assert failed.value.command[0] == "ssh"
        assert "Permission denied" in failed.value.stderr
        assert secret_of(executor) not in f"{failed.value}{failed.value.command}"


def test_tasks_fail_with_the_words_of_ssh_if_their_executor_cannot_log_in(
    ssh_server: Server,
) -> None:
    wrong = login(ssh_server, options=ssh_server.options_with("other_key"))
    with MiraiExecutor(2, url="tcp://127.0.0.1:0", remote=wrong) as executor:
        future = executor.submit(answer)
        error = future.exception(SOON)
        assert isinstance(error, LaunchError)
        assert "Permission denied" in error.stderr
        with pytest.raises(LaunchError, match="Permission denied"):
            executor.submit(answer)


def test_a_python_without_the_package_is_a_launch_error(ssh_server: Server) -> None:
    bare = login(ssh_server, python=("/usr/bin/env", "-i", "/bin/sh", "-c", "exit 3"))
    with listening() as executor, pytest.raises(LaunchError, match="exit status 3"):
        executor.launch_remote(1, bare)


def test_a_login_that_is_cut_costs_no_daemon_that_has_a_connection_of_its_own(
    ssh_server: Server,
) -> None:
    with listening() as executor:
        executor.launch_remote(1, login(ssh_server))
        assert len(pids(executor, 1)) == 1
        cut_logins()
        assert executor.submit(answer).result(SOON) == 42
        # What it complains of is heard by nobody from now on, and that does not stop it.
        assert executor.submit(complain, "stderr", 3).result(SOON) == 3
        assert executor.submit(complain, "stdout", 3).result(SOON) == 3
        assert executor.submit(answer).result(SOON) == 42


def test_a_tunnel_that_is_cut_costs_the_task_that_ran_and_those_that_wait_hear_why(
    ssh_server: Server, bell: Bell
) -> None:
    far = tunnelled(ssh_server)
    with listening(local_url(tcp=True)) as executor:
        executor.launch_remote(1, far)
        future = hold(executor, bell)
        waiting = executor.submit(answer)
        cut_logins()
        assert isinstance(future.exception(SOON), DaemonLostError)
        assert isinstance(waiting.exception(SOON), LaunchError)
