"""Launching for real, with stand-ins for ssh and the schedulers that run what they are given."""

import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from mirai_executor import cluster_config, http_config, remote_config, ssh_config
from mirai_executor.credentials import DaemonCredentials, Secret
from mirai_executor.errors import LaunchError
from mirai_executor.launchers import (
    Command,
    DaemonCommand,
    Launched,
    Queue,
    Until,
    launch,
    shell_command,
)
from mirai_executor.launchers._task import DaemonTask, run

SECRET = Secret(b"s" * 32)
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB'$x\n-----END CERTIFICATE-----\n"
DAEMON = DaemonCommand(
    ("tls+tcp://127.0.0.1:5555",),
    DaemonCredentials(SECRET, CERTIFICATE, "mirai-0"),
    ("--note", "it's $HOME `id`"),
)
WORDS = ["-P", "-m", "mirai_executor", "daemon", *DAEMON.urls, *DAEMON.options]
VARIABLES = [SECRET.text, CERTIFICATE, "mirai-0"]

# Each writes down what it was called with, and runs what a real one would run.
STAND_INS = {
    # ssh: prints what a careless .bashrc prints, and runs what stands behind the host.
    "ssh": """\
printf '%s\\0' "$@" >> "$RECORDS/ssh.argv"
echo "Welcome! No newline follows"; printf "mirai-executor: d"
echo "Warning: added to the list of known hosts." >&2
while [ "$1" != -- ]; do shift; done
shift 2
exec /bin/sh -c "$*"
""",
    # sbatch, qsub and bsub: as many runs of the script as its array has jobs, in the background.
    "sbatch": """\
cat > "$RECORDS/script"
jobs=$(sed -n 's/^#SBATCH --array=1-\\([0-9]*\\)$/\\1/p' "$RECORDS/script")
. "$RECORDS/../bin/queue"
echo "Submitted batch job 17"
""",
    "qsub": """\
cat > "$RECORDS/script"
jobs=$(sed -n 's/^#[$PBS]* -[tJ] 1-\\([0-9]*\\)$/\\1/p' "$RECORDS/script")
. "$RECORDS/../bin/queue"
echo "17[].server"
""",
    "bsub": """\
cat > "$RECORDS/script"
jobs=$(sed -n 's/^#BSUB -J "mirai\\[1-\\([0-9]*\\)\\]"$/\\1/p' "$RECORDS/script")
. "$RECORDS/../bin/queue"
echo "Job <17> is submitted"
""",
    "queue": """\
for job in $(seq 1 "${jobs:-1}"); do env -i PATH="$PATH" RECORDS="$RECORDS" \
/bin/sh "$RECORDS/script"; done
""",
    # wrap: passes its environment on, and runs its last argument by a shell.
    "wrap": 'while [ $# -gt 1 ]; do shift; done; exec /bin/sh -c "$1"\n',
    # python: can import the package, and is a daemon that ends as soon as it was started.
    "fake python": """\
if [ "$2" = -c ]; then exit 0; fi
printf '%s\\0' "$MIRAI_EXECUTOR_SECRET" "$MIRAI_EXECUTOR_CERTIFICATE" \
"$MIRAI_EXECUTOR_SERVER_NAME" "$@" > "$RECORDS/$$.daemon"
echo "daemon says hello" >&2
""",
    "bare-python": "echo 'ModuleNotFoundError: no mirai_executor' >&2; exit 1\n",
    "refusing": f"echo 'sbatch: error: {SECRET.text} QOSMaxSubmitJob' >&2; exit 7\n",
    "sleeping": 'echo "asleep" >&2; exec sleep 100\n',
}


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the stand-ins on the path; return the folder where they write things down."""
    for folder in ("bin", "records"):
        (tmp_path / folder).mkdir()
    for name, text in STAND_INS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("RECORDS", str(tmp_path / "records"))
    monkeypatch.setenv("HOME", str(tmp_path))  # where cluster_config() puts secrets
    return tmp_path / "records"


@pytest.fixture
def reaped() -> Iterator[Callable[[list[Launched]], list[Popen[bytes]]]]:
    """Return a function that remembers processes, to end them after the test."""
    known: list[Popen[bytes]] = []

    def remember(launched: list[Launched]) -> list[Popen[bytes]]:
        known.extend(one.process for one in launched if one.process is not None)
        return known

    yield remember
    for process in known:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=10)


def daemons_in(records: Path) -> list[list[str]]:
    return [file.read_text().split("\0")[:-1] for file in sorted(records.glob("*.daemon"))]


Reaped = Callable[[list[Launched]], list[Popen[bytes]]]


@pytest.mark.parametrize("tunnel", [False, 21017])
def test_ssh_starts_daemons_whatever_the_login_shell_prints(
    records: Path, reaped: Reaped, tunnel: bool | int
) -> None:
    launcher = ssh_config(["ssh://me@node:222"], tunnel=tunnel, python="fake python")
    (process,) = reaped(launch(launcher.plan(DAEMON, 3)))
    process.communicate(timeout=10)
    assert process.returncode == 0
    dialled = [word.replace("5555", "21017") if tunnel else word for word in WORDS]
    assert daemons_in(records) == [[*VARIABLES, *dialled]] * 3
    argv = (records / "ssh.argv").read_text()
    assert SECRET.text not in argv
    assert ("127.0.0.1:21017:127.0.0.1:5555" in argv) is bool(tunnel)


def test_machines_are_reached_side_by_side(records: Path, reaped: Reaped) -> None:
    # Each waits for the two others.
    meet = f'echo >> "{records}/here"; until [ "$(wc -l < "{records}/here")" = 3 ]; do :; done'
    launcher = ssh_config(["a", "b", "c"], python="fake python", prologue=meet)
    for process in reaped(launch(launcher.plan(DAEMON, 2))):
        process.communicate(timeout=10)
    assert daemons_in(records) == [[*VARIABLES, *WORDS]] * 6


def test_the_status_of_a_daemon_over_ssh_is_that_of_ssh(records: Path, reaped: Reaped) -> None:
    (records.parent / "bin" / "fake python").write_text(
        '#!/bin/sh\n[ "$2" = -c ] || { echo "cannot join" >&2; exit 4; }\n'
    )
    launched = launch(ssh_config("a", python="fake python").plan(DAEMON, 2))
    (process,) = reaped(launched)
    rest = process.communicate(timeout=10)[1].decode()
    assert process.returncode == 4
    assert (launched[0].output + rest).count("cannot join") <= 2


def test_a_python_without_the_package_is_reported_with_its_words(records: Path) -> None:
    launcher = ssh_config("a", python="bare-python")
    with pytest.raises(LaunchError, match=r"exit status 1; .*no mirai_executor") as failed:
        launch(launcher.plan(DAEMON, 2))
    assert failed.value.exitcode == 1
    assert failed.value.command[0] == "ssh"
    assert "known hosts" in failed.value.stderr


@pytest.mark.parametrize(
    ("prologue", "words"),
    [
        ("module load gcc/99", "module.* not found"),
        ("echo fine\ncd /no/such/folder\necho never", "/no/such/folder"),
        (". /no/such/profile", "cannot read /no/such/profile"),
        ("if true; then\n  cd /no/such/folder\nfi", "/no/such/folder"),
    ],
)
def test_a_line_of_the_prologue_that_fails_is_reported_with_its_words(
    records: Path, prologue: str, words: str
) -> None:
    launcher = ssh_config("a", python="fake python", prologue=prologue)
    with pytest.raises(LaunchError, match=f"exit status .*{words}"):
        launch(launcher.plan(DAEMON, 1))


@pytest.mark.parametrize("shell", ["/bin/sh", "bash --norc"])
def test_a_prologue_reads_nothing_of_the_script_and_its_effects_stay(
    records: Path, reaped: Reaped, shell: str
) -> None:
    profile = records / "profile"
    profile.write_text("FOUND=profile\nfalse\n")
    prologue = f"cat > '{records}/read'\n. {profile}\ncd '{records}'\necho $FOUND > where"
    launcher = ssh_config("a", python="fake python", prologue=prologue, shell=shell)
    for process in reaped(launch(launcher.plan(DAEMON, 1))):
        process.communicate(timeout=20)
    assert daemons_in(records) == [[*VARIABLES, *WORDS]]
    assert (records / "read").read_text() == ""
    assert (records / "where").read_text() == "profile\n"


def test_what_a_login_says_on_its_standard_output_is_in_the_error() -> None:
    text = "echo This account is currently not available.; echo Warning: Permanently added >&2"
    command = Command(("/bin/sh", "-c", f"{text}; exit 1"), until=Until.STARTED_LINE)
    with pytest.raises(LaunchError, match="last output: This account is currently") as failed:
        launch([command])
    assert "Permanently added" in failed.value.stderr


def test_a_command_that_goes_on_may_say_that_nothing_will_come() -> None:
    text = "echo Warning: port taken >&2; exec sleep 100"
    command = Command(("/bin/sh", "-c", text), until=Until.STARTED_LINE, refusal="port taken")
    with pytest.raises(LaunchError, match="was refused; last output: Warning: port taken"):
        launch([command])


def test_a_python_that_is_not_there_is_reported(records: Path) -> None:
    with pytest.raises(LaunchError, match="exit status 127"):
        launch(ssh_config("a", python="/no/such/python").plan(DAEMON, 1))


@pytest.mark.parametrize(
    ("command", "scheduler", "answer"),
    [
        ("sbatch", "slurm", "Submitted batch job 17\n"),
        ("qsub", "sge", "17[].server\n"),
        ("qsub", "pbs", "17[].server\n"),
        ("qsub", "torque", "17[].server\n"),
        ("bsub", "lsf", "Job <17> is submitted\n"),
    ],
)
@pytest.mark.parametrize("count", [1, 3])
def test_a_scheduler_runs_the_script_for_each_job_of_the_array(
    records: Path, command: str, scheduler: str, answer: str, count: int
) -> None:
    launcher = cluster_config(
        command, scheduler=scheduler, python="fake python", prologue="set -xv"
    )
    assert launch(launcher.plan(DAEMON, count)) == [Launched(output=answer)]
    assert daemons_in(records) == [[*VARIABLES, *WORDS]] * count


def test_a_job_may_find_the_secret_in_a_file_of_this_user_alone(records: Path) -> None:
    folder = records / "it's shared"
    folder.mkdir(mode=0o700)
    launcher = cluster_config(python="fake python", secret_folder=folder)
    for _ in range(2):
        launch(launcher.plan(DAEMON, 2))
    (file,) = folder.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert SECRET.text not in (records / "script").read_text()
    assert daemons_in(records) == [[*VARIABLES, *WORDS]] * 4


def test_a_folder_that_is_not_there_is_a_launch_error(records: Path) -> None:
    launcher = cluster_config(secret_folder=records / "none")
    with pytest.raises(LaunchError, match=r"cannot write .*none"):
        launch(launcher.plan(DAEMON, 1))


def test_a_script_that_traces_does_not_trace_the_secret(records: Path, reaped: Reaped) -> None:
    launcher = ssh_config("a", python="fake python", prologue="set -xv")
    launched = launch(launcher.plan(DAEMON, 1))
    (process,) = reaped(launched)
    assert SECRET.text not in process.communicate(timeout=10)[1].decode() + launched[0].output


def test_any_command_can_start_daemons_by_its_environment_or_its_input(
    records: Path, reaped: Reaped
) -> None:
    by_environment = remote_config("wrap", ["--x", "."], python="fake python", quote=True)
    by_input = remote_config("env", ["-u", "MIRAI_X", "."], python="fake python", stdin=True)
    staying = remote_config("env", ["-u", "X", "."], python="fake python", stays=True)
    for launcher in (by_environment, by_input, staying):
        for process in reaped(launch(launcher.plan(DAEMON, 1))):
            process.communicate(timeout=10)
    assert daemons_in(records) == [[*VARIABLES, *WORDS]] * 3


def test_the_pasted_command_runs(records: Path, reaped: Reaped) -> None:
    command = Command(("/bin/sh", "-c", shell_command(DAEMON, "fake python")), until=Until.EXIT)
    launch([command])
    assert daemons_in(records) == [[*VARIABLES, *WORDS]]


def test_a_refusal_carries_the_command_the_status_and_what_was_said_but_no_secret(
    records: Path,
) -> None:
    launcher = cluster_config(["refusing", "--hold"], scheduler="slurm")
    with pytest.raises(LaunchError) as failed:
        launch(launcher.plan(DAEMON, 1))
    error = failed.value
    assert error.command == ("refusing", "--hold")
    assert error.exitcode == 7
    assert error.stderr == "sbatch: error: *** QOSMaxSubmitJob\n"
    assert str(error) == (
        "refusing failed with exit status 7; last output: sbatch: error: *** QOSMaxSubmitJob"
    )


def test_what_a_command_answers_shows_no_secret(reaped: Reaped) -> None:
    says = f"echo 'job 17 {SECRET.text}'"
    starts = f"printf 'mirai-executor: daemons started\\nnode7 {SECRET.text}\\n' >&2"
    ends = Command(("/bin/sh", "-c", says), secret=SECRET.text)
    stays = Command(("/bin/sh", "-c", starts), until=Until.STARTED_LINE, secret=SECRET.text)
    launched = launch([ends, stays])
    reaped(launched)
    assert [one.output for one in launched] == ["job 17 ***\n", "node7 ***\n"]


def test_one_refusal_is_enough_and_stops_what_would_have_stayed(records: Path) -> None:
    pidfile = records / "pid"
    staying = Command(
        (
            "/bin/sh",
            "-c",
            f"echo $$ > '{pidfile}'; echo mirai-executor: daemons started >&2; exec sleep 100",
        ),
        until=Until.STARTED_LINE,
    )
    refused = Command(
        ("/bin/sh", "-c", f"until [ -s '{pidfile}' ]; do :; done; exit 3"), until=Until.EXIT
    )
    with pytest.raises(LaunchError, match=r"exit status 3 \(and 1 more like it\)"):
        launch([staying, refused, refused])
    with pytest.raises(ProcessLookupError):
        os.kill(int(pidfile.read_text()), 0)


@pytest.mark.parametrize(("tolerate", "failing"), [(1, 1), (None, 2)])
def test_failures_that_are_tolerated_are_told_beside_what_served(
    tolerate: int | None, failing: int
) -> None:
    commands = [*[Command(("false",))] * failing, Command(("echo", "job 1"))]
    *failed, served = launch(commands, timeout=20, tolerate=tolerate)
    assert served == Launched(output="job 1\n")
    assert all("failed with exit status 1" in str(one.error) for one in failed)


@pytest.mark.parametrize(("tolerate", "failing"), [(1, 2), (None, 3), (5, 3)])
def test_too_many_failures_are_an_error_and_cancel_the_jobs_of_the_others(
    tolerate: int | None, failing: int, tmp_path: Path
) -> None:
    mark = tmp_path / "cancelled"
    queue = Queue("job (\\d)", ("/bin/sh", "-c", f'echo "$@" > {mark}', "sh"))
    served = [Command(("echo", "job 7"), queue=queue)] * (3 - failing)
    with pytest.raises(LaunchError, match="more like it"):
        launch([*[Command(("false",))] * failing, *served], timeout=20, tolerate=tolerate)
    assert mark.exists() is bool(served)
    assert not served or mark.read_text() == "7\n"


def test_a_command_that_is_not_there_is_a_launch_error(records: Path) -> None:
    with pytest.raises(LaunchError, match="cannot run no-such-sbatch") as failed:
        launch(cluster_config("no-such-sbatch", scheduler="slurm").plan(DAEMON, 1))
    assert failed.value.command == ("no-such-sbatch",)


@pytest.mark.parametrize("until", [Until.EXIT, Until.STARTED_LINE])
def test_a_command_that_takes_too_long_is_stopped(records: Path, until: Until) -> None:
    with pytest.raises(LaunchError, match="in time; last output: asleep") as failed:
        launch([Command(("sleeping",), until=until)], timeout=0.5)
    assert failed.value.exitcode is None


def test_a_command_ended_by_a_signal_says_so(records: Path) -> None:
    with pytest.raises(LaunchError, match="was killed by signal 9"):
        launch([Command(("/bin/sh", "-c", "kill -9 $$"))])


def test_a_command_whose_leftovers_hold_its_streams_is_not_waited_for(records: Path) -> None:
    command = Command(("/bin/sh", "-c", f"sleep 100 & echo $! > '{records}/pid'; echo job 1"))
    assert launch([command], timeout=20) == [Launched(output="job 1\n")]
    os.kill(int((records / "pid").read_text()), signal.SIGKILL)


def test_a_long_input_does_not_wait_for_a_command_that_does_not_read(records: Path) -> None:
    assert launch([Command(("true",), stdin=b"x" * 1_000_000)], timeout=20) == [Launched()]


def test_a_command_may_say_much_before_and_after_it_has_started(reaped: Reaped) -> None:
    text = (
        "yes | head -c 50000 >&2; echo mirai-executor: daemons started >&2; yes | head -c 9000 >&2"
    )
    command = Command(("/bin/sh", "-c", text), until=Until.STARTED_LINE)
    (process,) = reaped(launch([command]))
    process.communicate(timeout=10)
    assert process.returncode == 0


def test_nothing_to_launch_is_launched_at_once() -> None:
    assert launch([]) == []


def test_ctrl_c_stops_a_launch_and_what_it_has_started(records: Path) -> None:
    fifo, main = records / "fifo", threading.main_thread().ident
    os.mkfifo(fifo)

    def interrupt() -> None:
        fifo.read_text()  # until the command runs
        assert main is not None
        signal.pthread_kill(main, signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    text = f"echo $$ > '{records}/pid'; echo > '{fifo}'; exec sleep 100"
    with pytest.raises(KeyboardInterrupt):
        launch([Command(("/bin/sh", "-c", text))])
    with pytest.raises(ProcessLookupError):
        os.kill(int((records / "pid").read_text()), 0)


@pytest.mark.parametrize("rest", ["", "; exec sleep 100"])
def test_a_launch_that_is_cut_short_takes_its_jobs_out_of_their_queue(
    rest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark, fifo = tmp_path / "cancelled", tmp_path / "fifo"
    os.mkfifo(fifo)
    queue = Queue("job (\\d)", ("/bin/sh", "-c", f'echo "$@" > {mark}', "sh"))

    def interrupted(futures: Sequence[Future[Any]]) -> None:
        fifo.read_text()  # until the command has told the id
        if not rest:
            wait(futures)
        raise KeyboardInterrupt

    monkeypatch.setattr("mirai_executor.launchers._launch.wait", interrupted)
    text = f"echo job 7; echo > '{fifo}'{rest}"
    with pytest.raises(KeyboardInterrupt):
        launch([Command(("/bin/sh", "-c", text), queue=queue)])
    assert mark.read_text() == "7\n"


@pytest.mark.skipif(shutil.which("ssh") is None, reason="there is no ssh here")
def test_the_real_ssh_understands_its_command() -> None:
    daemon = DaemonCommand(("tcp://[::1]:5555",), DAEMON.credentials)
    (command,) = ssh_config("ssh://me@[::1]:222", tunnel=21017).plan(daemon, 1)
    assert isinstance(command, Command)
    asked = subprocess.run(
        ["ssh", "-F", "none", "-G", *command.argv[1:]], capture_output=True, text=True, check=True
    )
    found = dict(line.split(" ", 1) for line in asked.stdout.splitlines())
    expected = {
        "batchmode": "yes",
        "connecttimeout": "10",
        "controlmaster": "false",
        "exitonforwardfailure": "no",
        "hostname": "::1",
        "port": "222",
        "remoteforward": "[::1]:21017 [::1]:5555",
        "user": "me",
    }
    assert {name: found[name] for name in expected} == expected


@pytest.mark.skipif(shutil.which("ssh") is None, reason="there is no ssh here")
def test_a_machine_that_real_ssh_cannot_reach_is_a_launch_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        launcher = ssh_config(f"ssh://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(LaunchError, match=r"exit status 255; .*refused") as failed:
            launch(launcher.plan(DAEMON, 1))
    assert failed.value.exitcode == 255


# HTTP


class Service(BaseHTTPRequestHandler):
    """Runs the script that it is sent, or refuses, or sends elsewhere."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.startswith("/refuse"):
            self._answer(403, b"no: " + body[-2000:] + SECRET.text.encode())
        elif self.path == "/elsewhere":
            self.send_response(302)
            self.send_header("Location", "/jobs")
            self.end_headers()
        else:
            with Popen(["/bin/sh"], stdin=-1) as shell:
                shell.communicate(body)
            self._answer(201, f"job for {self.headers['Authorization']}".encode())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def service() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Service) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_service_starts_what_it_is_asked_to(records: Path, service: str) -> None:
    launcher = http_config(f"{service}/jobs", token="t", python="fake python")
    assert launch(launcher.plan(DAEMON, 2)) == [Launched(output="job for Bearer t")] * 2
    assert daemons_in(records) == [[*VARIABLES, *WORDS]] * 2


def test_a_proxy_does_not_get_to_read_the_secret(
    records: Path, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    launch(http_config(f"{service}/jobs", python="fake python").plan(DAEMON, 1))
    assert daemons_in(records) == [[*VARIABLES, *WORDS]]


def test_a_service_that_refuses_is_a_launch_error_without_secrets(service: str) -> None:
    launcher = http_config(f"{service}/refuse?key=hidden", token="hidden")
    with pytest.raises(LaunchError, match="/refuse failed: status 403 Forbidden") as failed:
        launch(launcher.plan(DAEMON, 1))
    assert failed.value.stderr.startswith("no: ")
    assert failed.value.command == ("POST", f"{service}/refuse")
    assert SECRET.text not in failed.value.stderr
    assert "hidden" not in f"{failed.value}{failed.value.command}"


def test_a_secret_is_not_taken_elsewhere_by_a_redirect(records: Path, service: str) -> None:
    with pytest.raises(LaunchError, match="status 302"):
        launch(http_config(f"{service}/elsewhere", python="fake python").plan(DAEMON, 1))
    assert daemons_in(records) == []


def test_a_service_that_is_not_there_is_a_launch_error() -> None:
    with HTTPServer(("127.0.0.1", 0), Service) as server:
        port = server.server_port
    with pytest.raises(LaunchError, match=r"failed: .*refused"):
        launch(http_config(f"http://127.0.0.1:{port}").plan(DAEMON, 1))


def test_a_daemon_that_starts_others_does_not_pass_on_what_is_its_own(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("NUMBER", "DAEMONS", "SEAT", "HERE", "HOST", "OTHER"):
        monkeypatch.setenv(f"MIRAI_EXECUTOR_{name}", "2")
    words = ("/bin/sh", "-c", "env | grep ^MIRAI_EXECUTOR_ | sort")
    one = Command(words, environment=(("MIRAI_EXECUTOR_NUMBER", "3"),))
    (launched,) = launch([one])
    expected = "MIRAI_EXECUTOR_NUMBER=3\nMIRAI_EXECUTOR_OTHER=2\n"
    assert launched.output == expected
    engine = DaemonTask(words[1:], (("MIRAI_EXECUTOR_NUMBER", "3"),), words[:1])
    run(engine)  # as a worker does that was started by a daemon
    assert capfd.readouterr().out == expected


def test_a_limit_of_threads_is_a_launch_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(LaunchError, match=r"can't start new thread \(see ulimit -u\)"):
        launch([Command(("true",))])
