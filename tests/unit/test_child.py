"""What a daemon tells multiprocessing of itself, and when."""

import multiprocessing
import subprocess
import sys

PROGRAM = """
import sys
from mirai_executor._payload.daemon import Preparation
from mirai_executor.daemon._child import Child

HOST = Preparation((), "/", (), b"secret", None, None, None, None, "Boss", 4711, (2,))

def key():
    import multiprocessing
    return bytes(multiprocessing.current_process().authkey)
"""


def run(program: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM + program],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout


def test_multiprocessing_has_the_key_of_the_host_as_soon_as_it_is_imported() -> None:
    program = """
Child(0).introduce(HOST)
assert "multiprocessing" not in sys.modules
import multiprocessing.process as process
print(key(), type(process.__loader__).__name__, process.__spec__.loader is process.__loader__)
"""
    assert run(program) == "b'secret' SourceFileLoader True\n"


def test_multiprocessing_that_is_there_gets_the_key_at_once() -> None:
    assert run("import multiprocessing; Child(0).introduce(HOST); print(key())") == "b'secret'\n"
    assert multiprocessing.current_process().authkey != b"secret"


def test_it_is_a_child_of_its_host_and_one_elsewhere_of_its_keeper() -> None:
    program = """
Child(0).introduce(HOST)
from multiprocessing import current_process, parent_process
this, parent = current_process(), parent_process()
print(this.name, this._identity, this.pid == __import__("os").getpid(), this.daemon)
print(parent.name, parent.pid)
"""
    assert run(program) == "MiraiDaemon-2 (2,) True False\nBoss 4711\n"
    program = """
import os
import multiprocessing as all_of_it
before = key()
Child(0).introduce(HOST._replace(identity=(1, 2)).elsewhere())
this, parent = all_of_it.current_process(), all_of_it.parent_process()
print(this.name, parent.name, parent.pid == os.getppid(), key() == before)
"""
    assert run(program) == "MiraiDaemon-1:2 Boss True True\n"
