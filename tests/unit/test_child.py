"""What a daemon tells multiprocessing of itself, and when."""

import multiprocessing
import subprocess
import sys

PROGRAM = """
import sys
from mirai_executor._payload import Preparation
from mirai_executor.daemon._child import Child

HOST = Preparation((), "/", (), b"secret", None, None, None, None)

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
Child().introduce(HOST)
assert "multiprocessing" not in sys.modules
import multiprocessing.process as process
print(key(), type(process.__loader__).__name__, process.__spec__.loader is process.__loader__)
"""
    assert run(program) == "b'secret' SourceFileLoader True\n"


def test_multiprocessing_that_is_there_gets_the_key_at_once() -> None:
    assert run("import multiprocessing; Child().introduce(HOST); print(key())") == "b'secret'\n"
    assert multiprocessing.current_process().authkey != b"secret"
