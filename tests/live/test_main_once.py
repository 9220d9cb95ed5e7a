"""Live: daemons that a fork server forks have a guarded script imported, wherever they may."""

import os
import textwrap
from pathlib import Path

import pytest

from live.hosts import GONE, printed_by, script

# What the scripts begin with: each import leaves a line, with the number of its process.
BEGINNING = """
import os, signal, sys, threading, time
from mirai_executor import MiraiExecutor

with open("imports", "a") as _file:
    _file.write(open("/proc/self/stat").read().split()[0] + "\\n")
if __name__ == "__main__":
    while time.process_time() < 0.4: pass  # as if its imports took long
TIMEOUT = 60.0
def is_first(): return open("/proc/self/comm").read() == "mirai-imports\\n"
"""

# How they go on: twelve daemons, one after the other or two at a time.
TASKS = """
def job(n): return os.getpid()

if __name__ == "__main__":
    import logging
    class Said(logging.Handler):
        def emit(self, record):
            if "itself: " in record.getMessage(): print(record.getMessage())
    logging.getLogger("mirai_executor").addHandler(Said())
    logging.getLogger("mirai_executor").setLevel("DEBUG")
    with MiraiExecutor(2, max_tasks_per_child=1, start_timeout=TIMEOUT) as executor:
        pids = [executor.submit(job, n).result() for n in range(2)]
        pids += executor.map(job, range(4))
    imported = open("imports").read().split()
    assert len({*pids}) == 6, pids
    print(len(imported), [str(pid) in imported for pid in pids].count(True))
"""
ONCE = "3 1\n"  # the host, the first daemon, and the process that the others were forked from


def test_replacements_have_what_was_imported_once(tmp_path: Path) -> None:
    assert printed_by(tmp_path, BEGINNING + TASKS) == ONCE


def test_siblings_have_it_and_so_has_what_comes_for_one_that_was_killed(tmp_path: Path) -> None:
    program = """
        def pid(): return os.getpid()
        def die(): os.kill(os.getpid(), signal.SIGKILL)
        def all_three():
            executor.wait_ready(3)
            return {future.result() for future in executor.everywhere(pid)}
        if __name__ == "__main__":
            with MiraiExecutor(3) as executor:
                executor.submit(pid).result()
                before = all_three()
                print(type(executor.submit(die).exception()).__name__)
                print(len(before), len(all_three() - before))
            print(len(open("imports").read().split()))
    """
    printed = printed_by(tmp_path, BEGINNING + textwrap.dedent(program))
    assert printed == "DaemonLostError\n3 1\n3\n"


def test_a_module_that_was_run_by_m_is_imported_once_too(tmp_path: Path) -> None:
    printed = printed_by(tmp_path, BEGINNING + TASKS, "-m", "package.tool", name="package/tool.py")
    assert printed == ONCE


UNFIT = {
    "a thread": (
        "threading.Thread(target=threading.Event().wait, daemon=True).start()",
        "threads",
    ),
    "a child": ('import subprocess; C = subprocess.Popen(["true"])', "processes running"),
    "a socket": ("import socket; S = socket.socket()", "open"),
    "a file that it writes": ('F = open("written", "w")', "open"),
    "a file that it reads": ("F = open(__file__)", "open"),
    "a value of multiprocessing": (
        'import multiprocessing; V = multiprocessing.get_context("fork").Value("i", 0)',
        "finalizers",
    ),
    "a handler": ("signal.signal(signal.SIGUSR1, lambda *_: None)", "handlers"),
    "a timer": ("signal.setitimer(signal.ITIMER_REAL, 3600)", "timers"),
    "a blocked signal": (
        "if is_first(): signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})",
        "signals blocked",
    ),
    "a directory": ("if is_first(): os.chdir('/')", "working directory"),
    "a stream": ("sys.stderr = open(os.devnull, 'w')", "standard error"),
    "a patch": ("import functools; os.fork = functools.partial(os.fork)", "replaced"),
    "a finalizer": (
        "import weakref; X = is_first; W = getattr(weakref, 'final' 'ize')(X, bool)",
        "finalizers",
    ),
    "a mapping": ("import mmap; M = mmap.mmap(-1, 4096)", "shared"),
    "a hook that warns": (
        "import warnings\n"
        "if is_first(): os.register_at_fork(before=lambda: warnings.warn('no forks'))",
        "no forks",
    ),
    "a generator": ("import random; R = random.Random(3)", "it uses Random, random"),
    "a seed": ("import random; random.seed(3)", "it uses random, seed"),
    "a number by chance": ("import random; X = random.random()", "it uses random"),
    "a seed of NumPy's": ("import numpy; numpy.random.seed(3)", "it uses "),
    "a generator of NumPy's": ("import numpy; R = numpy.random.default_rng()", "it uses "),
    "a number of NumPy's": ("import numpy; X = numpy.random.random()", "it uses "),
    "a library's seed": (
        'sys.path.insert(0, "site-packages"); import library',
        "seeds random numbers",
    ),
    "a source of seeds": ("import numpy; S = numpy.random.SeedSequence()", "it uses "),
    "its own number": ("NAME = f'worker-{os.getpid()}'", "getpid"),
    "a folder of its own": ("import tempfile; T = tempfile.TemporaryDirectory()", "Temporary"),
    "an error": ("if is_first(): 1 / 0", "ZeroDivisionError"),
    "an exit": ("if is_first(): os._exit(3)", "ended"),
    "a kill": ("if is_first(): signal.raise_signal(signal.SIGKILL)", "ended"),
    "a fork": ("if is_first(): os.fork()", "processes running"),
    "an import without an end": (
        "TIMEOUT = 20.0\nif is_first(): threading.Event().wait()",
        "too long",
    ),
}


@pytest.mark.parametrize("what", UNFIT)
def test_each_daemon_imports_for_itself_what_must_not_be_forked_after(
    tmp_path: Path, what: str
) -> None:
    statement, why = UNFIT[what]
    library = tmp_path / "site-packages" / "library.py"
    library.parent.mkdir()
    library.write_text("import random; random.seed(3)")
    program = BEGINNING + statement + TASKS
    reason, counts = printed_by(tmp_path, program).splitlines()
    assert why in reason
    assert counts.endswith(" 6")


def test_a_log_that_is_appended_to_can_be_shared(tmp_path: Path) -> None:
    program = BEGINNING + 'F, N = open("log", "a"), open(os.devnull)\n' + TASKS
    assert printed_by(tmp_path, program) == ONCE


def test_daemons_that_were_forked_draw_numbers_of_their_own(tmp_path: Path) -> None:
    program = """
        import random, numpy
        def draw(_): return random.random(), numpy.random.random()
        if __name__ == "__main__":
            with MiraiExecutor(1, max_tasks_per_child=1) as executor:
                drawn = list(executor.map(draw, range(4)))
            print(len(open("imports").read().split()), [len({*each}) for each in zip(*drawn)])
    """
    assert printed_by(tmp_path, BEGINNING + textwrap.dedent(program)) == "3 [4, 4]\n"


def test_what_tasks_have_written_into_open_files_is_there_at_the_end(tmp_path: Path) -> None:
    program = """
        LOG = open("log", "a")
        def job(n):
            global own
            own = open(f"out{n}", "w")
            own.write("0123456789"), LOG.write("x")
        if __name__ == "__main__":
            with MiraiExecutor(1, max_tasks_per_child=1) as executor:
                list(executor.map(job, range(4)))
            print([os.path.getsize(f"out{n}") for n in range(4)], os.path.getsize("log"))
            print(len(open("imports").read().split()))
    """
    printed = printed_by(tmp_path, BEGINNING + textwrap.dedent(program))
    assert printed == "[10, 10, 10, 10] 4\n3\n"


def test_what_an_import_in_vain_has_made_goes_with_it(tmp_path: Path) -> None:
    (tmp_path / "keeping.py").write_text(
        "import atexit, shutil, tempfile, multiprocessing\n"
        "folder = tempfile.mkdtemp(dir='folders')\n"
        "atexit.register(shutil.rmtree, folder)\n"
        "lock = multiprocessing.get_context('spawn').Lock()\n"
    )
    (tmp_path / "folders").mkdir()
    printed = printed_by(tmp_path, BEGINNING + "import keeping\n" + TASKS)
    assert printed.endswith(" 6\n")
    assert list((tmp_path / "folders").iterdir()) == []


def test_a_restart_imports_nothing_in_the_server_that_it_retires(tmp_path: Path) -> None:
    program = """
        def job(): return os.getpid()
        if __name__ == "__main__":
            with MiraiExecutor(1) as executor:
                executor.submit(job).result()
                executor.restart()
                executor.submit(job).result()
            print(len(open("imports").read().split()))
    """
    assert printed_by(tmp_path, BEGINNING + textwrap.dedent(program)) == "3\n"


def test_what_the_host_changes_reaches_daemons_that_were_forked_after_the_import(
    tmp_path: Path,
) -> None:
    program = """
        RATE, SHARED = 1, []
        NAMES = {"list": SHARED}
        class Model:
            def rate(self): return RATE
        def factor(): return 1
        def unnamed(): return True
        def job(model):
            assert globals()["unnamed"]()
            SHARED.append(0)
            return isinstance(model, Model), model.rate(), factor(), NAMES["list"] is SHARED, state
        def initialize(value):
            global state
            state = value
        if __name__ == "__main__":
            with MiraiExecutor(1, initializer=initialize, initargs=("set",)) as executor:
                def ask(): return executor.submit(job, Model()).result()
                print(ask())
                executor.restart()
                RATE = 2
                def factor(): return 3
                print(ask())
                executor.submit(os._exit, 1).exception()
                print(ask())
                Model.rate = lambda self: -RATE
                print(ask())
    """
    assert printed_by(tmp_path, BEGINNING + textwrap.dedent(program)) == (
        "(True, 1, 1, True, 'set')\n(True, 2, 3, True, 'set')\n"
        "(True, 2, 3, True, 'set')\n(True, -2, 3, True, 'set')\n"
    )


def test_an_error_of_the_script_is_that_of_each_daemon(tmp_path: Path) -> None:
    program = """
        if __name__ != "__main__": raise OSError("no licence")
        def job(): return 1
        if __name__ == "__main__":
            with MiraiExecutor(1, max_tasks_per_child=1) as executor:
                for _ in range(3): print(str(executor.submit(job).exception()).split(";")[0])
    """
    error = "importing the host's main module failed (OSError: no licence)\n"
    assert printed_by(tmp_path, BEGINNING + textwrap.dedent(program)) == 3 * error


def test_a_daemon_that_was_forked_after_the_import_cleans_up_as_one_that_has_imported(
    tmp_path: Path,
) -> None:
    (tmp_path / "moving.py").write_text("from os import chdir\n")
    program = """
        import moving
        COUNT = OTHER = 0
        def job():
            global COUNT, extra
            COUNT, extra = COUNT + 1, 1
            globals()["OTHER"] += 1
            moving.chdir("/")
        def look():
            noticed = moving.chdir is os.chdir
            return COUNT, globals()["OTHER"], "extra" in globals(), os.getcwd() == "/", noticed
        if __name__ == "__main__":
            with MiraiExecutor(1, cleanup=True) as executor:
                for _ in range(2):
                    executor.submit(job).result()
                    code = executor.submit_source("'OTHER' in globals()").result()
                    print(executor.submit(look).result(), code)
                    executor.submit(os._exit, 1).exception()
                print(len(open("imports").read().split()))
    """
    printed = printed_by(tmp_path, BEGINNING + textwrap.dedent(program))
    assert printed == 2 * "(1, 1, False, False, True) False\n" + "3\n"


def test_records_of_a_script_that_configures_logging_reach_the_host_once(tmp_path: Path) -> None:
    program = """
        import logging
        logging.basicConfig(format="%(message)s", stream=sys.stdout)
        def job(n): logging.warning("record %d", n)
        if __name__ == "__main__":
            logging.root.handlers[0].setFormatter(logging.Formatter("host: %(message)s"))
            with MiraiExecutor(1, max_tasks_per_child=1) as executor:
                for n in range(3): executor.submit(job, n).result()
            print(len(open("imports").read().split()))
    """
    assert printed_by(tmp_path, BEGINNING + textwrap.dedent(program)) == "".join(
        [*(f"host: record {n}\n" for n in range(3)), "3\n"]
    )


def test_daemons_with_an_environment_of_their_own_import_in_it(tmp_path: Path) -> None:
    program = """
        FOUND = os.environ.get("SLOT")
        def job(n): return os.environ["SLOT"]
        if __name__ == "__main__":
            with MiraiExecutor(1, max_tasks_per_child=1, env={"SLOT": "1"}) as executor:
                print(*executor.map(job, range(3)), len(open("imports").read().split()))
    """
    assert printed_by(tmp_path, BEGINNING + textwrap.dedent(program)) == "1 1 1 4\n"


def test_what_a_script_does_at_the_exit_is_done_by_each_daemon(tmp_path: Path) -> None:
    (tmp_path / "leaving.py").write_text(
        "import importlib\n"
        "def leave():\n"
        "    with open('exits', 'a') as file: file.write('x')\n"
        "importlib.import_module('at' 'exit').register(leave)\n"
    )
    program = """
        import leaving
        def job(n): return n
        if __name__ == "__main__":
            with MiraiExecutor(1, max_tasks_per_child=1) as executor:
                print(*executor.map(job, range(3)))
            print(len(open("imports").read().split()), open("exits").read())
    """
    assert printed_by(tmp_path, BEGINNING + textwrap.dedent(program)) == "0 1 2\n3 xxx\n"


def test_a_host_that_is_killed_while_the_script_is_imported_leaves_nothing(tmp_path: Path) -> None:
    program = """
        if is_first():
            with open("gate", "w") as file: file.write("x")
            threading.Event().wait()
        def job(n): return n
        if __name__ == "__main__":
            with MiraiExecutor(1, max_tasks_per_child=1) as executor:
                executor.map(job, range(3))
    """
    os.mkfifo(tmp_path / "gate")
    (tmp_path / "program.py").write_text(BEGINNING + textwrap.dedent(program))
    code = "import os, sys; os.execv(sys.executable, [sys.executable, 'program.py'])"
    with script(code, prelude="", cwd=tmp_path) as host:
        assert (tmp_path / "gate").read_text() == "x"
        host.kill()
        assert host.leaves_nothing(GONE)


def test_a_server_whose_candidate_was_killed_goes_on(tmp_path: Path) -> None:
    program = """
        def job(n): return os.getppid(), os.getpid()
        if __name__ == "__main__":
            with MiraiExecutor(1, max_tasks_per_child=1) as executor:
                first = executor.submit(job, 0).result()[0]
                candidate = executor.submit(job, 1).result()[0]
                assert candidate != first
                executor.wait_ready(1)
                os.kill(candidate, signal.SIGKILL)
                print([executor.submit(job, n).result()[0] == first for n in range(3)])
    """
    assert printed_by(tmp_path, BEGINNING + textwrap.dedent(program)) == "[False, True, True]\n"
