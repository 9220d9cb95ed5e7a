"""Which folders of a host a daemon on another machine takes over, and in which order."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mirai_executor._payload.common import folders
from mirai_executor._payload.common.folders import is_ours, path_of
from mirai_executor._payload.common.preparation import Preparation
from mirai_executor.credentials import DaemonCredentials, Secret
from mirai_executor.launchers import DaemonCommand

HOST = Preparation((), "/work", (), b"", None, None, None, None, "Boss", 4711, (1,))


def elsewhere(cwd: Path = Path("/work")) -> Preparation:
    return HOST._replace(cwd=str(cwd), prefixes=("/opt/python",))


def become_another(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a folder belong to another user than this one, who is not root."""
    if os.geteuid() == 0:
        os.chown(folder, 65533, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 65533)


def test_a_folder_of_this_user_is_ours_also_in_a_sticky_one(tmp_path: Path) -> None:
    sticky = tmp_path / "sticky"
    sticky.mkdir()
    sticky.chmod(0o1777)
    (sticky / "job").mkdir()
    assert is_ours(str(sticky / "job"))
    assert not is_ours(str(sticky))
    assert not is_ours(str(sticky / "missing"))  # anybody can make it
    assert is_ours(str(tmp_path / "missing"))


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o707])
def test_a_folder_that_others_can_write_to_is_not_ours_nor_what_is_in_it(
    tmp_path: Path, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "_is_private_group", lambda gid: False)
    shared = tmp_path / "shared"
    (shared / "inside").mkdir(parents=True)
    shared.chmod(mode)
    assert not is_ours(str(shared))
    assert not is_ours(str(shared / "inside"))


def test_a_group_of_one_user_shares_nothing(tmp_path: Path) -> None:
    tmp_path.chmod(0o770)
    os.chown(tmp_path, -1, os.getegid())
    assert is_ours(str(tmp_path)) is folders._is_private_group(os.getegid())
    assert folders._is_private_group(0)
    assert not folders._is_private_group(2**31 - 7)  # which has no name


def test_a_folder_of_another_user_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    become_another(theirs, monkeypatch)
    assert not is_ours(str(theirs))


def test_a_link_is_ours_if_its_target_is(tmp_path: Path) -> None:
    for name, mode in (("ours", 0o755), ("shared", 0o777)):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(mode)
        (tmp_path / f"to {name}").symlink_to(name)
    (tmp_path / "loop").symlink_to("loop")
    assert is_ours(str(tmp_path / "to ours"))
    assert not is_ours(str(tmp_path / "to shared"))
    assert not is_ours(str(tmp_path / "loop"))


def test_what_root_owns_looks_like_nobodys_where_only_this_user_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert folders._is_owner_trusted(65534, is_shared=False) is folders._knows_no_other_user()
    monkeypatch.setattr(folders, "_knows_no_other_user", lambda: True)
    assert folders._is_owner_trusted(65534, is_shared=False)
    assert not folders._is_owner_trusted(65534, is_shared=True)


def test_the_daemons_own_folders_come_first_then_the_users_then_the_hosts_libraries(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)
    shared, work = str(tmp_path / "shared"), str(tmp_path)
    host_path = [work, shared, "lib", "/opt/python/lib", "/usr"]
    own = ["/usr", "/usr/lib/python3"]
    for _ in range(2):
        found = path_of(elsewhere(tmp_path), host_path, own)
        assert found == [*own, work, f"{work}/lib", "/opt/python/lib"]
    said = capsys.readouterr().err
    assert said.count(f"{shared} is not on sys.path here") == 1


def test_a_daemon_imports_nothing_from_the_folder_where_it_starts(tmp_path: Path) -> None:
    for name in ("random", "socket", "signal", "argparse", "mirai_executor"):
        (tmp_path / f"{name}.py").write_text("open('imported', 'w').close()\n")
    secret = Secret(b"s" * 32)
    daemon = DaemonCommand(
        ("tcp://127.0.0.1:9",), DaemonCredentials(secret), options=("--retry", "0")
    )
    done = subprocess.run(
        daemon.argv([sys.executable]),
        cwd=tmp_path,
        env={**os.environ, **daemon.environment},
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 10, done.stderr
    assert not (tmp_path / "imported").exists()
