"""Daemons that launchers start through stand-ins, which run what they are given as the real would.

For an SSH server, Slurm and Grid Engine themselves, see ``tests/services``.
"""

import contextlib
import logging
import os
import pty
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from live.afar import hides_its_secret, hold, listening, pids, python_words, secret_of
from live.mischief import SOON, Bell, answer
from mirai_executor import (
    DaemonLostError,
    LaunchError,
    MiraiExecutor,
    cluster_config,
    http_config,
    local_url,
    remote_config,
)
from mirai_executor.credentials import Token

pytestmark = [pytest.mark.transports, pytest.mark.own_url]

# Reads a script on its standard input, takes out of it what the scheduler would look for, and runs
# it for each job of the array: detached, in an environment and a folder that are not ours.
QUEUE = """\
#!/bin/sh
script=$(mktemp -p "$SPOOL"); cat > "$script"
jobs=$(sed -n '{array}' "$script")
shell=$(sed -n 's/^#PBS -S //p' "$script")
for job in $(seq 1 "${{jobs:-1}}"); do
    cd /; setsid env -i PATH=/usr/bin:/bin HOME="$HOME" {index}="$job" \
        "${{shell:-/bin/sh}}" "$script" </dev/null >"$SPOOL/out.$job" 2>&1 &
done
echo "{answer}"
"""
# qsub(1) of PBS Professional and of Torque, bsub(1) of LSF: what each finds, sets and answers.
QUEUES = {
    "pbs": ("qsub", r"s/^#PBS -J 1-\([0-9]*\)$/\1/p", "PBS_ARRAY_INDEX", "17[].server"),
    "torque": ("qsub", r"s/^#PBS -t 1-\([0-9]*\)$/\1/p", "PBS_ARRAYID", "17[].server"),
    "lsf": (
        "bsub",
        r"s/^#BSUB -J \"mirai\[1-\([0-9]*\)\]\"$/\1/p",
        "LSB_JOBINDEX",
        "Job <17> is submitted to default queue <normal>.",
    ),
}


# condor_submit(1), which is told where the script is and sends it along; flux-batch(1); oarsub(1).
# Each runs jobs as above.
OTHERS = {
    "condor_submit": """\
#!/bin/sh
test "$*" = "-terse -" && cat > "$SPOOL/description"
of() { sed -n "s/^$1 = *//p" "$SPOOL/description"; }
cp "$(of transfer_input_files)" "$SPOOL"; cd "$SPOOL"
set -- $(of arguments)
for job in $(seq 1 "$(sed -n 's/^queue //p' description)"); do
    setsid env -i PATH=/usr/bin:/bin HOME="$HOME" $(of executable) "./$1" "$job" \
        </dev/null >"$SPOOL/out.$job" 2>&1 &
done
""",
    "flux": """\
#!/bin/sh
test "$1" = batch || exit
script=$(mktemp -p "$SPOOL"); cat > "$script"; cd /
setsid env -i PATH=/usr/bin:/bin HOME="$HOME" /bin/sh "$script" </dev/null >"$script.out" 2>&1 &
""",
    "oarsub": """\
#!/bin/sh
while [ $# -gt 1 ]; do case "$1" in --array) jobs=$2;; esac; shift; done
cd /
for job in $(seq 1 "${jobs:-1}"); do
    setsid env -i PATH=/usr/bin:/bin HOME="$HOME" /bin/sh -c "$1" \
        </dev/null >"$SPOOL/out.$job" 2>&1 &
done
""",
}


@pytest.fixture(params=QUEUES)
def queue(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Put the commands of a scheduler on the path; return its name."""
    command, array, index, answer = QUEUES[request.param]
    program = tmp_path / "bin" / command
    program.parent.mkdir()
    program.write_text(QUEUE.format(array=array, index=index, answer=answer))
    program.chmod(0o755)
    (tmp_path / "spool").mkdir()
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SPOOL", str(tmp_path / "spool"))
    return str(request.param)


def test_one_submission_to_a_queue_brings_all_daemons(
    queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    command, _, _, said = QUEUES[queue]
    launcher = cluster_config(command, scheduler=queue, python=python_words())
    with listening() as executor:
        assert executor.launch_remote(2, launcher) == [f"{said}\n"]
        assert len(pids(executor, 2)) == 2
        assert executor.submit(answer).result(SOON) == 42
        assert hides_its_secret(executor)
        assert secret_of(executor) not in caplog.text


@pytest.mark.parametrize("queue", ["pbs"], indirect=True)
def test_tasks_run_where_the_job_wants_to_and_else_where_the_host_does(queue: str) -> None:
    ours = str(Path.cwd())
    for options, where in [("", ours), ("cd /usr", "/usr"), ('cd "$HOME"', ours)]:
        launcher = cluster_config("qsub", options, scheduler=queue, python=python_words())
        with MiraiExecutor(1, url="tcp://127.0.0.1:0", remote=launcher) as executor:
            assert executor.submit(os.getcwd).result(SOON) == where


@pytest.mark.parametrize("queue", ["pbs"], indirect=True)
def test_a_queue_keeps_no_copy_of_a_secret_in_a_file_that_goes_with_the_executor(
    queue: str, tmp_path: Path
) -> None:
    folder = tmp_path / "shared"
    folder.mkdir(mode=0o700)
    launcher = cluster_config("qsub", scheduler=queue, python=python_words(), secret_folder=folder)
    with listening("tls+tcp://127.0.0.1:0") as executor:
        executor.launch_remote(2, launcher)
        assert len(pids(executor, 2)) == 2
        (file,) = folder.iterdir()  # as these may come again, as far as anybody knows
        token = Token.from_text(file.read_text().strip()).text
        spooled = [copy.read_text() for copy in (tmp_path / "spool").iterdir()]
        for confidential in (token, secret_of(executor)):
            assert not any(confidential in text for text in spooled)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("command", OTHERS)
def test_a_scheduler_with_a_way_of_its_own_brings_all_daemons(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, folder = tmp_path / "bin" / command, tmp_path / "its files"
    for needed in (program.parent, tmp_path / "spool", folder):
        needed.mkdir()
    program.write_text(OTHERS[command])
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SPOOL", str(tmp_path / "spool"))
    words = ["flux", "batch"] if command == "flux" else command
    launcher = cluster_config(words, python=python_words(), secret_folder=folder)
    with MiraiExecutor(2, url="tls+tcp://127.0.0.1:0", remote=launcher) as executor:
        assert len(pids(executor, 2)) == 2
        assert hides_its_secret(executor)
        until_empty(folder)
        keeper = psutil.Process(executor.status().rows[0].pid).parent()
        assert keeper is not None
        keeper.kill()
        executor.wait_ready(SOON, count=2)  # who comes in its place has a file of its own
        until_empty(folder)
    assert list(folder.iterdir()) == []


def until_empty(folder: Path) -> None:
    """Wait until all daemons have read what they had to, while they serve."""
    deadline = time.monotonic() + SOON
    while list(folder.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.01)  # nothing tells when a file is removed


def test_no_file_is_left_of_a_launch_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, folder = tmp_path / "bin" / "sbatch", tmp_path / "its files"
    for needed in (program.parent, folder):
        needed.mkdir()
    program.write_text(f"#!/bin/sh\nls '{folder}' >&2; exit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    with listening() as executor:
        with pytest.raises(LaunchError, match=r"last output: mirai-[0-9a-f]{16}$"):
            executor.launch_remote(2, cluster_config("sbatch", secret_folder=folder))
        assert list(folder.iterdir()) == []


# HTTP


class Service(BaseHTTPRequestHandler):
    """Starts the script that it is sent, for whom it knows."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Authorization"] != "Bearer letmein":
            self._answer(401, b"who are you?")
            return
        shell = subprocess.Popen(["/bin/sh"], stdin=subprocess.PIPE, env={}, cwd="/")
        assert shell.stdin is not None
        with shell.stdin:
            shell.stdin.write(body)
        self.server.jobs.append(shell)  # type: ignore[attr-defined]  # of the fixture
        self._answer(201, b"started")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def service() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        jobs: list[subprocess.Popen[bytes]] = []
        server.jobs = jobs  # type: ignore[attr-defined]  # what it has started
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
    for job in jobs:
        job.wait(SOON)


def test_a_service_starts_a_daemon_for_each_request(service: str) -> None:
    launcher = http_config(service, token="letmein", python=python_words())
    with listening() as executor:
        assert executor.launch_remote(2, launcher) == ["started"] * 2
        assert len(pids(executor, 2)) == 2
        assert hides_its_secret(executor)


def test_tasks_fail_with_the_words_of_a_service_that_refuses(service: str) -> None:
    launcher = http_config(service, token="sesame", python=python_words())
    with MiraiExecutor(2, url="tcp://127.0.0.1:0", remote=launcher) as executor:
        error = executor.submit(answer).exception(SOON)
        assert isinstance(error, LaunchError)
        assert "401" in str(error)
        assert error.stderr == "who are you?"
        assert secret_of(executor) not in f"{error}{error.command}"
        assert "sesame" not in f"{error}{error.command}"


# Any command


def test_tasks_fail_with_the_words_of_a_command_that_fails(tmp_path: Path) -> None:
    command = "echo 'no licence for you' >&2; exit 3"
    launcher = remote_config("/bin/sh", ["-c", command, "."])
    with MiraiExecutor(2, url="tcp://127.0.0.1:0", remote=launcher) as executor:
        error = executor.submit(answer).exception(SOON)
        assert isinstance(error, LaunchError)
        assert error.exitcode == 3
        assert error.stderr == "no licence for you\n"
        with pytest.raises(LaunchError, match="no licence for you"):
            executor.submit(answer)
        with pytest.raises(LaunchError, match="no licence for you"):
            executor.wait_ready(SOON)


def noticed(words: str, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Return an event that is set when the host says so in its log."""
    event = threading.Event()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if words in record.getMessage():
                event.set()

    log = logging.getLogger("mirai_executor")
    monkeypatch.setattr(log, "handlers", [*log.handlers, Listener()])
    return event


@pytest.mark.parametrize("first", ["command", "daemon"])
def test_what_waits_hears_why_a_command_has_ended_whoever_is_gone_first(
    bell: Bell, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A daemon that goes on after its command has failed must not have tasks wait for ever.
    words = '"$@" & echo $$ > "$0"; read _ < "$0.stop"; echo "cut off" >&2; exit 3'
    name = str(bell.path.with_name("started"))
    os.mkfifo(name)
    os.mkfifo(f"{name}.stop")
    launcher = remote_config(
        "/bin/sh", ["-c", words, name, "."], python=python_words(), stays=True
    )
    with listening() as executor:
        executor.launch_remote(1, launcher)
        Path(name).read_text()
        future = hold(executor, bell)
        waiting = executor.submit(answer)
        stop, daemon = Path(f"{name}.stop"), psutil.Process(executor.status().rows[0].pid)
        if first == "command":
            noted = noticed("exited with status 3", monkeypatch)
            stop.write_text("now\n")
            assert noted.wait(SOON)
        keeper = daemon.parent()  # which would start another
        assert keeper is not None
        keeper.kill()
        assert isinstance(future.exception(SOON), DaemonLostError)
        if first == "daemon":
            stop.write_text("now\n")
        error = waiting.exception(SOON)
        assert isinstance(error, LaunchError)
        assert "cut off" in error.stderr


# The commands that users paste


@pytest.fixture
def python(tmp_path: Path) -> str:
    """Return the path of an interpreter that has this package."""
    program = tmp_path / "it's python"
    program.write_text(f'#!/bin/sh\nexec {" ".join(python_words())} "$@"\n')
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize("url", ["tcp://127.0.0.1:0", "tls+tcp://127.0.0.1:0", "ipc"])
def test_the_commands_start_daemons_wherever_they_are_pasted(python: str, url: str) -> None:
    with listening(local_url() if url == "ipc" else url, python=python) as executor:
        commands = executor.launch_remote(2)
        shells = [
            subprocess.Popen(
                ["/usr/bin/env", "-i", "PATH=/usr/bin:/bin", "HOME=/", "/bin/sh", *words],
                stdin=subprocess.PIPE,
                bufsize=0,
                cwd="/",
            )
            for words in (["-c", commands[0]], ["-s"])
        ]
        try:
            assert shells[1].stdin is not None
            shells[1].stdin.write(commands[1].encode() + b"\n")
            assert len(pids(executor, 2)) == 2
        finally:
            for shell in shells:
                assert shell.stdin is not None
                shell.stdin.close()
        executor.shutdown()
        assert [shell.wait(SOON) for shell in shells] == [0, 0]


@pytest.mark.skipif(shutil.which("tcsh") is None, reason="there is no tcsh here: install tcsh")
def test_the_commands_start_daemons_at_a_prompt_of_tcsh(python: str) -> None:
    with listening("tls+tcp://127.0.0.1:0", python=python) as executor:
        (command,) = executor.launch_remote(1)
        ours, theirs = pty.openpty()
        environment = {"PATH": "/usr/bin:/bin", "PS1": "of sh> ", "PS2": "", "TERM": "dumb"}
        with subprocess.Popen(
            ["setsid", "--ctty", "--wait", "tcsh", "-f"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
            cwd="/",
        ) as shell:
            os.close(theirs)
            try:
                read_until(ours, b"# ", b"> ")  # the prompt of root, or of others
                os.write(ours, b"sh\n")  # as the docs have it
                read_until(ours, b"of sh> ")
                reader = threading.Thread(target=read_until, args=(ours,))
                reader.start()  # or what is echoed would fill the terminal
                os.write(ours, command.encode() + b"\n")
                assert len(pids(executor, 1)) == 1
                executor.shutdown()
                os.write(ours, b"exit\nexit\n")
                assert shell.wait(SOON) == 0
                reader.join()
            finally:
                shell.kill()
                os.close(ours)


def read_until(terminal: int, *ends: bytes) -> None:
    """Read what a terminal shows, until one of these, or until nobody writes to it any more."""
    shown = b""
    with contextlib.suppress(OSError):  # EIO: they have closed it
        while not any(end in shown for end in ends):
            shown += os.read(terminal, 4096)


def test_a_command_that_is_pasted_into_a_shell_shows_its_secret_to_nobody(python: str) -> None:
    with listening(python=python) as executor:
        (command,) = executor.launch_remote(1)
        with subprocess.Popen(["/bin/sh"], stdin=subprocess.PIPE, bufsize=0) as shell:
            assert shell.stdin is not None
            shell.stdin.write(command.encode() + b"\n")
            shell.stdin.close()
            assert len(pids(executor, 1)) == 1
            assert hides_its_secret(executor)
            assert (
                executor.submit(os.environ.copy)
                .result(SOON)
                .keys()
                .isdisjoint({"MIRAI_EXECUTOR_SECRET", "MIRAI_EXECUTOR_CERTIFICATE"})
            )
            executor.shutdown()
