"""The files that hold a secret: where they may be, who may read them, and when they are gone."""

import errno
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from mirai_executor import cluster_config
from mirai_executor.credentials import DaemonCredentials, Secret
from mirai_executor.errors import LaunchError
from mirai_executor.launchers import (
    Command,
    DaemonCommand,
    PrivateFile,
    PrivateFiles,
    launch,
)
from mirai_executor.launchers import _files as files

SECRET = Secret(b"s" * 32)
DAEMON = DaemonCommand(("tcp://127.0.0.1:5555",), DaemonCredentials(SECRET))
SHOW = ("sh", "-c", 'echo "got $MIRAI_EXECUTOR_SECRET"')


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "secrets"
    folder.mkdir(mode=0o700)
    return folder


def run(script: bytes) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["/bin/sh"], input=script.decode(), capture_output=True, text=True, timeout=30
    )


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o722])
@pytest.mark.parametrize("above", [False, True])
def test_a_folder_that_others_may_write_to_is_refused(
    folder: Path, mode: int, above: bool
) -> None:
    inner = folder / "inner"
    inner.mkdir(mode=0o700)
    (folder if above else inner).chmod(mode)
    with pytest.raises(LaunchError, match=r"may be written to by others \(chmod go-w /"):
        files.write(PrivateFile(inner / "file", "secret"))
    assert list(inner.iterdir()) == []


def test_a_folder_of_another_user_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    if folder.stat().st_uid == 0:  # whose folders are everybody's, so another one's is needed
        os.chown(folder, 65534, -1)
    with pytest.raises(LaunchError, match="belongs to another user"):
        files.write(PrivateFile(folder / "file", "secret"))


def test_a_folder_in_which_nobody_can_take_the_place_of_another_is_fine(folder: Path) -> None:
    folder.chmod(0o1777)
    files.write(PrivateFile(folder / "file", "secret"))
    assert (folder / "file").read_text() == "secret"


def test_what_lies_above_the_home_folder_is_the_business_of_its_administrator(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = folder / "home"
    home.mkdir(mode=0o700)
    folder.chmod(0o777)
    monkeypatch.setenv("HOME", str(home))
    files.write(PrivateFile(home / ".new" / "file", "secret", makes_folder=True))
    assert stat.S_IMODE((home / ".new").stat().st_mode) == 0o700


def test_a_script_reads_the_secret_and_runs_nothing_that_is_in_the_file(folder: Path) -> None:
    launcher = cluster_config(python=SHOW, secret_folder=folder)
    (command,) = launcher.plan(DAEMON, 1)
    assert isinstance(command, Command)
    (file,) = command.files
    files.write(file)
    assert run(command.stdin).stdout == f"got {SECRET.text}\n"
    file.path.write_text("$(echo evil >&2); echo evil\n")
    done = run(command.stdin)
    assert (done.stdout, done.stderr) == ("got $(echo evil >&2); echo evil\n", "")


@pytest.mark.parametrize("whose", ["nobody's", "another's"])
def test_a_script_says_why_it_has_no_secret(folder: Path, whose: str) -> None:
    launcher = cluster_config(python=SHOW, secret_folder=folder)
    (command,) = launcher.plan(DAEMON, 1)
    assert isinstance(command, Command)
    if whose == "another's":
        if os.geteuid() != 0:
            pytest.skip("only root can give a file away")
        command.files[0].path.write_text("evil\n")
        os.chown(command.files[0].path, 65534, -1)
    done = run(command.stdin)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "the executor has ended, or does not need this job any more" in done.stderr


FULL = """\
import resource, signal, sys
from pathlib import Path
from mirai_executor.errors import LaunchError
from mirai_executor.launchers import PrivateFile
from mirai_executor.launchers._files import write
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
try:
    write(PrivateFile(Path(sys.argv[1]), "secret" * 10))
except LaunchError as error:
    sys.exit(not str(error).endswith("; choose another secret_folder"))
sys.exit(2)
"""


def test_nothing_is_left_when_there_is_no_room(folder: Path) -> None:
    program = [sys.executable, "-B", "-c", FULL, str(folder / "file")]
    subprocess.run(program, check=True, timeout=60)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "free some room, or choose another secret_folder"),
        (errno.EDQUOT, "free some room, or choose another secret_folder"),
        (errno.EROFS, "choose another secret_folder"),
    ],
)
def test_room_is_what_is_to_be_made_where_there_is_none(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: int, advice: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(LaunchError, match=f"no; {advice}$"):
        files.write(PrivateFile(folder / "file", "secret"))


KILLED = """\
import os, signal, sys
from pathlib import Path
from mirai_executor.launchers import PrivateFile, PrivateFiles
from mirai_executor.launchers._files import write
path, files = Path(sys.argv[1]), PrivateFiles()
files.keep(path)
write(PrivateFile(path, "secret"))
Path(f"{path}.half").write_text("sec")  # as if it were killed while it writes
print(files._sweeper[""].pid, flush=True)
input()
os.kill(0, signal.SIGKILL)
"""


def wait_until_ignored(signum: signal.Signals, pid: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        status = Path(f"/proc/{pid}/status").read_text()
        (mask,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigIgn:"))
        if int(mask, 16) >> (signum - 1) & 1:
            return
        assert time.monotonic() < deadline
        time.sleep(0.01)  # nothing tells how far a shell has come


@pytest.mark.parametrize("told", [(), (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)])
def test_nothing_is_left_when_the_host_is_killed(
    folder: Path, told: tuple[signal.Signals, ...]
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder / "it's a file")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as host:
        assert host.stdin is not None
        assert host.stdout is not None
        sweeper = psutil.Process(int(host.stdout.readline()))
        assert len(list(folder.iterdir())) == 2
        for signum in told:  # as at the end of a job, or of a login
            wait_until_ignored(signum, sweeper.pid)
            sweeper.send_signal(signum)
        host.stdin.write("\n")
    assert host.returncode == -signal.SIGKILL
    sweeper.wait(60)
    assert list(folder.iterdir()) == []


def test_files_go_with_their_executor_and_a_forked_child_leaves_them(folder: Path) -> None:
    path, kept = folder / "file", PrivateFiles()
    kept.keep(path)
    kept.keep(path)
    files.write(PrivateFile(path, "secret"))
    pid = os.fork()
    if pid == 0:
        kept.close()
        os._exit(0 if path.exists() else 1)
    assert os.waitpid(pid, 0)[1] == 0
    kept.close()
    assert list(folder.iterdir()) == []


def test_launches_side_by_side_may_write_the_same_file(folder: Path) -> None:
    command = Command(("true",), files=(PrivateFile(folder / "file", "secret"),))
    launch([command] * 8)
    assert [file.name for file in folder.iterdir()] == ["file"]


def test_a_file_is_gone_once_none_of_the_launches_needs_it_any_more(folder: Path) -> None:
    kept, path, other = PrivateFiles(), folder / "file", folder / "other"
    for one in (path, path, other):
        kept.keep(one)
        files.write(PrivateFile(one, "secret"))
    kept.release([path])
    assert {*folder.iterdir()} == {path, other}
    kept.release([path])
    assert {*folder.iterdir()} == {other}
    kept.close()
    assert list(folder.iterdir()) == []
    files.write(PrivateFile(path, "secret"))  # by a launch that hears too late of the end
    kept.release([path])
    assert list(folder.iterdir()) == []


def test_a_file_that_cannot_be_removed_now_is_removed_at_the_end_or_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "read-only file system")

    kept, path = PrivateFiles(), folder / "file"
    kept.keep(path)
    files.write(PrivateFile(path, "secret"))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        kept.release([path])
    kept.close()
    assert list(folder.iterdir()) == []
    kept.keep(path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        kept.close()
    assert caplog.messages == [f"cannot remove {path}, which still holds a token of this executor"]
