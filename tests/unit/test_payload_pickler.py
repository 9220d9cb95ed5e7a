"""What plain pickle is trusted with, and what it is not."""

import multiprocessing
import subprocess
import sys

from mirai_executor._payload.entries import WITH_CARE
from mirai_executor._payload.hooks import REDUCERS
from mirai_executor._payload.pickler import _OWN


def test_all_types_that_need_care_are_defined_where_it_is_looked_for_them() -> None:
    assert {kind.__module__ for kind in (*REDUCERS, *_OWN)} <= WITH_CARE


def test_multiprocessing_has_the_key_of_the_host_as_soon_as_it_is_imported() -> None:
    program = (
        "import sys; from mirai_executor._payload.authkey import set_authkey;"
        "set_authkey(b'secret'); assert 'multiprocessing' not in sys.modules;"
        "import multiprocessing.process as process, multiprocessing as all_of_it;"
        "print(bytes(all_of_it.current_process().authkey), type(process.__loader__).__name__,"
        "process.__spec__.loader is process.__loader__)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert run.stdout == "b'secret' SourceFileLoader True\n"


def test_multiprocessing_that_is_there_gets_the_key_at_once() -> None:
    program = (
        "import multiprocessing; from mirai_executor._payload.authkey import set_authkey;"
        "set_authkey(b'secret'); print(bytes(multiprocessing.current_process().authkey))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert run.stdout == "b'secret'\n"
    assert multiprocessing.current_process().authkey != b"secret"
