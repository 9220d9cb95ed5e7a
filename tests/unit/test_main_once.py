"""Which modules may be run once for several processes, and what a fork of one must not share."""

import random
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy
import pytest

from mirai_executor.daemon import _fitness, _once


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("import os\nPID = os.getpid()", "getpid"),
        ("from os import getpid as number\nPID = number()", "getpid"),
        ("import os\ndef name(): return os.getpid()\nNAME = name()", "getpid"),
        ("import os\ndef a(): return b()\ndef b(): return os.getpid()\nNAME = a()", "getpid"),
        ("import os\nclass Job:\n    pid = os.getpid()", "getpid"),
        ("import os\nPIDS = [os.getpid() for _ in range(3)]", "getpid"),
        ("import os\ndef job(pid=os.getpid()): pass", "getpid"),
        ("import atexit\n@atexit.register\ndef leave(): pass", "atexit"),
        ("import uuid, tempfile\nX = uuid.uuid4(), tempfile.mkdtemp()", "mkdtemp, uuid4"),
        ("import secrets\nKEY = secrets.randbelow(9)", "randbelow"),
        ("import torch\ntorch.manual_seed(1)", "manual_seed"),
        ("import random\nrandom.seed(3)", "random, seed"),
        ("from numpy.random import default_rng\nR = default_rng()", "default_rng"),
        ("import numpy as np\nX = np.random.normal(size=3)", "normal, random"),
        ("import sys\nCOLOUR = sys.stdout.isatty()", "isatty"),
    ],
)
def test_a_module_that_wants_something_of_its_own_for_each_process_is_not_run_once(
    text: str, why: str
) -> None:
    assert why in _once.flaw_of(text)


@pytest.mark.parametrize(
    "text",
    [
        "import os\ndef job(): return os.getpid()",
        "import os\nasync def job(): return os.getpid()",
        "import os\njob = lambda: os.getpid()",
        "import os\ndef job(): return os.getpid()\nif __name__ == '__main__':\n    print(job())",
        "import time\nSTART = time.time()",
        "import random\ndef job(): return random.random()",
        "from os import getpid",
    ],
)
def test_what_only_functions_or_the_main_program_ask_for_is_no_reason(text: str) -> None:
    assert _once.flaw_of(text) == ""


def test_numbers_that_were_drawn_are_told_from_a_seed() -> None:
    generator = random.Random(1)
    start = generator.getstate()
    assert _fitness._is_reached(start, start)
    for draws in (1, 623, 2000):
        [generator.random() for _ in range(draws)]
        assert _fitness._is_reached(generator.getstate(), start)
    generator.seed(2)
    assert not _fitness._is_reached(generator.getstate(), start)


@pytest.mark.parametrize(
    ("bits", "is_unseeded"),
    [
        (numpy.random.PCG64(), True),
        (numpy.random.RandomState()._bit_generator, True),
        (numpy.random.default_rng().spawn(1)[0].bit_generator, True),
        (numpy.random.PCG64(3), False),
        (numpy.random.RandomState(3)._bit_generator, False),
        (numpy.random.PCG64([1, 2]), False),
    ],
)
def test_a_generator_of_numpy_that_nobody_has_seeded_is_known(
    bits: object, *, is_unseeded: bool
) -> None:
    assert _fitness._has_seed_of_system(bits) is is_unseeded


# Threads and forks belong into a process of its own.
HARMLESS = """
    import os, pathlib, threading, warnings
    from mirai_executor.daemon import _fitness

    warnings.simplefilter("error")
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    for thread in os.listdir("/proc/self/task"):
        if int(thread) != os.getpid():
            pathlib.Path(f"/proc/self/task/{{thread}}/comm").write_text({comm!r})
    fitness = _fitness.Fitness()
    fitness.begin()
    print(fitness.flaw())
    if (child := fitness.fork()) == 0:
        os._exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize(
    ("comm", "flaw"),
    [("jemalloc_bg_thd", ""), ("their_own", "it leaves threads running (their_own)")],
)
def test_threads_that_survive_a_fork_are_known_and_nobody_is_warned_of_them(
    comm: str, flaw: str
) -> None:
    program = textwrap.dedent(HARMLESS.format(comm=comm))
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ran.stdout, ran.stderr) == (f"{flaw}\n7\n", "")


def test_the_file_of_code_that_runs_here_may_stay_open() -> None:
    code = Path(_fitness.__file__), Path(sys.executable).resolve()
    for path, found in zip(code, ([str(code[0])], []), strict=True):
        with path.open("rb") as file:
            assert list(_fitness._shared_by_forks({file.fileno()})) == found
