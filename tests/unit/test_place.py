"""What a control group allows and counts, from folders that look like the kernel's."""

from pathlib import Path

import pytest

from mirai_executor import _place


def control_groups(tmp_path: Path, own: str, files: dict[str, str]) -> list[int]:
    """Return the quotas found in a made-up tree of control groups."""
    return list(_place._quotas(*tree(tmp_path, own, files)))


def tree(tmp_path: Path, own: str, files: dict[str, str]) -> tuple[str, str]:
    """Make up a tree of control groups; return its root, and the file that tells one's own."""
    (tmp_path / "own").write_text(own)
    for name, text in files.items():
        file = tmp_path / "fs" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return str(tmp_path / "fs"), str(tmp_path / "own")


def test_a_quota_of_version_2_is_rounded_up(tmp_path: Path) -> None:
    assert control_groups(tmp_path, "0::/a\n", {"a/cpu.max": "150000 100000\n"}) == [2]


def test_quotas_of_the_groups_around_count_too(tmp_path: Path) -> None:
    files = {"a/b/cpu.max": "400000 100000\n", "a/cpu.max": "100000 100000\n"}
    assert control_groups(tmp_path, "0::/a/b\n", files) == [4, 1]


def test_a_group_without_a_limit_has_no_quota(tmp_path: Path) -> None:
    assert control_groups(tmp_path, "0::/a\n", {"a/cpu.max": "max 100000\n"}) == []


def test_a_quota_of_version_1_is_found_in_its_controller(tmp_path: Path) -> None:
    files = {
        "cpu/a/cpu.cfs_quota_us": "300000\n",
        "cpu/a/cpu.cfs_period_us": "100000\n",
        "cpu/cpu.cfs_quota_us": "-1\n",
        "cpu/cpu.cfs_period_us": "100000\n",
    }
    assert control_groups(tmp_path, "3:cpu,cpuacct:/a\n2:pids:/a\n", files) == [3]


@pytest.mark.parametrize(
    ("own", "files", "count"),
    [
        ("0::/a\n", {"a/memory.events": "low 0\noom 9\noom_kill 2\n"}, 2),
        ("4:memory:/a\n0::/\n", {"memory/a/memory.oom_control": "under_oom 0\noom_kill 3\n"}, 3),
        # A container sees its own group as the root.
        ("4:memory:/a/b\n", {"memory/memory.oom_control": "oom_kill 4\n"}, 4),
        ("4:memory:/a\n", {"memory/a/memory.oom_control": "under_oom 0\n"}, 0),
        ("0::/a\n", {}, 0),
    ],
)
def test_kills_for_lack_of_memory_are_counted(
    own: str, files: dict[str, str], count: int, tmp_path: Path
) -> None:
    assert _place.oom_kills(*tree(tmp_path, own, files)) == count


def test_a_system_without_control_groups_has_no_quota(tmp_path: Path) -> None:
    assert list(_place._quotas(str(tmp_path), str(tmp_path / "missing"))) == []


def test_the_smallest_number_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_place, "_affinity", lambda: 8)
    monkeypatch.setattr(_place, "_quotas", lambda: iter([4, 6]))
    monkeypatch.delenv("PYTHON_CPU_COUNT", raising=False)
    assert _place.usable_cpus() == 4
    monkeypatch.setenv("PYTHON_CPU_COUNT", "3")
    assert _place.usable_cpus() == 3
    monkeypatch.setenv("PYTHON_CPU_COUNT", "default")
    assert _place.usable_cpus() == 4


def test_there_is_always_one_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHON_CPU_COUNT", "0")
    assert _place.usable_cpus() == 1
