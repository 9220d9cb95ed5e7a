"""On how many processors a process may run, from folders that look like the kernel's."""

from pathlib import Path

import pytest

from mirai_executor import _place


def control_groups(tmp_path: Path, own: str, files: dict[str, str]) -> list[int]:
    """Return the quotas found in a made-up tree of control groups."""
    (tmp_path / "own").write_text(own)
    for name, text in files.items():
        file = tmp_path / "fs" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return list(_place._quotas(str(tmp_path / "fs"), str(tmp_path / "own")))


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
