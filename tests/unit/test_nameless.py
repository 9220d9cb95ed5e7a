"""Files without a name, in memory or where else there is room."""

import ctypes
import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from mirai_executor import _nameless


def fail(number: int) -> Callable[..., NoReturn]:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.fixture(autouse=True)
def ask_anew() -> Iterator[None]:
    _nameless._memfd_create.cache_clear()
    yield
    _nameless._memfd_create.cache_clear()


def where(fd: int) -> str:
    """Return where a file lies; it must have no name there."""
    place = str(Path(f"/proc/self/fd/{fd}").readlink())
    assert place.endswith(" (deleted)")
    return place


def open_descriptors() -> list[str]:
    return [path.name for path in Path("/proc/self/fd").iterdir()]


def content(fd: int) -> bytes:
    try:
        return os.pread(fd, 100, 0)
    finally:
        os.close(fd)


@pytest.mark.parametrize("by", ["os", "ctypes"])
def test_a_file_lies_in_memory_though_python_has_no_name_for_it(
    by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by == "ctypes":
        monkeypatch.delattr(os, "memfd_create")
    fd = _nameless.create("mirai-test", b"data")
    assert where(fd).startswith("/memfd:mirai-test")
    assert not os.get_inheritable(fd)
    assert content(fd) == b"data"


def test_what_the_c_library_refuses_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    with pytest.raises(OSError, match="Invalid argument"):
        _nameless.create_in_memory("mirai-test", 1 << 30)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM])
def test_where_memory_is_refused_a_file_lies_in_shared_memory(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "memfd_create", fail(number))
    fd = _nameless.create("mirai-test", b"data")
    assert where(fd).startswith("/dev/shm/")
    assert not os.get_inheritable(fd)
    assert content(fd) == b"data"


@pytest.mark.parametrize("why", ["not there", "full"])
def test_without_shared_memory_a_file_lies_in_the_temporary_folder(
    why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "memfd_create", fail(errno.ENOSYS))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if why == "full":
        monkeypatch.setattr(_nameless, "_SHARED_MEMORY", "/dev/shm")
        writes, write = [], os.pwrite

        def write_the_second_time(*args: object) -> int:
            writes.append(args)
            if len(writes) == 1:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return write(*args)  # type: ignore[arg-type]  # those of os.pwrite

        monkeypatch.setattr(os, "pwrite", write_the_second_time)
    else:
        monkeypatch.setattr(_nameless, "_SHARED_MEMORY", str(tmp_path / "none"))
    before = open_descriptors()
    fd = _nameless.create("mirai-test", b"data")
    assert where(fd).startswith(str(tmp_path))
    assert not os.get_inheritable(fd)
    assert content(fd) == b"data"
    assert open_descriptors() == before
    assert list(tmp_path.iterdir()) == []


def test_where_no_place_is_left_the_error_says_why_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "memfd_create", fail(errno.EPERM))
    monkeypatch.setattr(_nameless, "_SHARED_MEMORY", str(tmp_path / "none"))
    monkeypatch.setattr(tempfile, "TemporaryFile", fail(errno.EROFS))
    with pytest.raises(OSError, match="a file of 4 bytes can lie neither in memory") as raised:
        _nameless.create("mirai-test", b"data")
    told = str(raised.value)
    assert "memory ([Errno 1] Operation not permitted), nor" in told
    assert f"nor in {tmp_path}/none ([Errno 2] No such file" in told
    assert "nor in the temporary folder ([Errno 30] Read-only" in told


def test_where_no_descriptor_is_free_nothing_else_is_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "memfd_create", fail(errno.EMFILE))
    with pytest.raises(OSError, match="Too many open files"):
        _nameless.create("mirai-test", b"data")


def test_an_old_c_library_has_no_files_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old(ctypes.CDLL):
        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(name)

    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr(ctypes, "CDLL", Old)
    with pytest.raises(OSError, match="Function not implemented"):
        _nameless.create_in_memory("mirai-test")
