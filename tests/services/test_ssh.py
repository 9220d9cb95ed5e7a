"""Daemons over a real SSH server of this machine."""

import contextlib
import logging
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from live.afar import (
    hides_its_secret,
    hold,
    listening,
    pids,
    python_words,
    secret_of,
    share,
    shares,
)
from live.mischief import SOON, Bell, answer
from mirai_executor import (
    DaemonLostError,
    LaunchError,
    MiraiExecutor,
    local_url,
    remote_config,
    ssh_config,
)
from mirai_executor._place import fair_share
from mirai_executor.credentials import make_certificate
from mirai_executor.launchers import SshConfig
from services import sshd
from services.sshd import Server, wait_until

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


@pytest.mark.parametrize("by", ["keeper", "daemon"])
def test_daemons_share_the_gpus_and_processors_of_a_machine_and_a_replacement_does_too(
    ssh_server: Server, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = ("/usr/bin/env", "CUDA_VISIBLE_DEVICES=4,5,6,7", *python_words())
    launcher = login(ssh_server, python=python)
    options: dict[str, Any] = {"url": "tcp://127.0.0.1:0", "remote": launcher}
    threads = str(fair_share(2))
    with MiraiExecutor(2, **options, gpus_per_daemon=2) as executor:
        executor.wait_ready(SOON)
        before = shares(executor)
        assert set(before) == {("4,5", threads), ("6,7", threads)}
        for lost in list(before):
            victim = psutil.Process(before[lost])
            ended = victim if by == "daemon" else victim.parent()
            assert ended is not None
            ended.kill()
            wait_for_others(executor, victim.pid, 2)
            after = shares(executor)
            assert set(after) == set(before)
            assert after[lost] != before[lost]
            before = after


def wait_for_others(executor: MiraiExecutor, gone: int, count: int) -> None:
    """Wait until there are so many daemons, none of which is the one that is gone."""

    def are_there() -> bool:
        rows = executor.status().rows
        pids = [row.pid for row in rows if row.state in ("ready", "busy")]
        return len(pids) == count and gone not in pids

    wait_until("another daemon", are_there)


def test_a_lost_daemon_is_replaced_where_its_gpus_are_free(ssh_server: Server) -> None:
    machines = [ssh_server.remote, f"ssh://root@localhost:{ssh_server.port}"]
    python = ("/usr/bin/env", "CUDA_VISIBLE_DEVICES=4,5", *python_words())
    launcher = ssh_config(machines, options=ssh_server.options, python=python)
    with MiraiExecutor(2, url="tcp://127.0.0.1:0", remote=launcher, gpus_per_daemon=1) as executor:
        executor.wait_ready(SOON)
        for _ in range(2):  # whichever machine would be next by its turn
            row = executor.status().rows[0]
            keeper = psutil.Process(row.pid).parent()
            assert keeper is not None
            keeper.kill()
            wait_for_others(executor, row.pid, 4)
            found = [future.result(SOON)[0] for future in executor.everywhere(share)]
            assert sorted(map(str, found)) == ["4", "4", "5", "5"]
        assert executor.info().cumulative == 6  # none was tried where there was none to have


def test_a_login_that_is_dropped_is_a_warning_and_the_other_machine_serves(
    ssh_server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with sshd.serve(tmp_path, "MaxStartups 1\n") as busy, contextlib.ExitStack() as strangers:

        def is_taken() -> bool:
            """Take the only place of those who have yet to log in, once it is free."""
            stranger = strangers.enter_context(socket.create_connection(("127.0.0.1", busy.port)))
            return stranger.recv(4) == b"SSH-"

        wait_until("a stranger's login", is_taken)
        (tmp_path / "key").write_bytes((ssh_server.folder / "key").read_bytes())
        (tmp_path / "authorized_keys").write_bytes((ssh_server.folder / "key.pub").read_bytes())
        launcher = ssh_config(
            [ssh_server.remote, busy.remote], options=ssh_server.options, python=python_words()
        )
        with MiraiExecutor(1, url="tcp://127.0.0.1:0", remote=launcher) as executor:
            assert executor.submit(answer).result(SOON) == 42
            (why,) = executor.status().failures
            assert "Connection" in why or "MaxStartups" in why
            assert why in caplog.text
            strangers.close()
            executor.wait_ready(SOON, count=2)
            assert executor.status().failures == ()


def test_a_good_run_through_a_tunnel_leaves_no_noise(
    ssh_server: Server, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    far = tunnelled(ssh_server)
    # With the first result, the program ends: some of the daemons have yet to dial then.
    with listening(local_url(tcp=True)) as executor:
        executor.launch_remote(6, far, retry=1)
        assert len(executor.submit(bytes, 1_000_000).result(SOON)) == 1_000_000
    assert capfd.readouterr() == ("", "")
    assert [it.getMessage() for it in caplog.records if it.levelno >= logging.WARNING] == []


def test_a_long_bundle_of_authorities_travels_with_a_login_and_with_a_command(
    ssh_server: Server, tmp_path: Path
) -> None:
    files = (tmp_path / "certificate.pem", tmp_path / "key.pem")
    words = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=here"
    words += f" -addext subjectAltName=DNS:here -out {files[0]} -keyout {files[1]}"
    subprocess.run(words.split(), check=True, capture_output=True)
    others = make_certificate().authority * 2000  # more than fits into a variable
    assert len(others) > 1_000_000
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(others + files[0].read_text())
    url = "tls+tcp://127.0.0.1:0"
    with listening(url, tls=files, tls_cert=bundle) as executor:
        executor.launch_remote(1, login(ssh_server))
        executor.launch_remote(1, remote_config("env", python=python_words(), stays=True))
        executor.launch_local(1)
        assert len(pids(executor, 3)) == 3


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
