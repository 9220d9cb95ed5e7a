"""Live: what daemons see of a script with a guard, as they import it."""

import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from live.hosts import PATIENCE, printed_by
from mirai_executor import MiraiExecutor

AS_SPAWN = """
    import contextvars, copyreg, ctypes, decimal, functools, json, multiprocessing, threading
    import warnings
    from concurrent.futures import ProcessPoolExecutor
    from mirai_executor import MiraiExecutor

    decimal.getcontext().prec = 7
    __version__ = "1.5"
    LOCK, LOCAL, VARIABLE = threading.Lock(), threading.local(), contextvars.ContextVar("v")
    LOCAL.value = 5
    VARIABLE.set(6)
    MISSING = object()

    class Registered:
        def __init__(self, n): self.n = n
    copyreg.pickle(Registered, lambda it: (Registered, (it.n + 1,)))

    class Base:
        kinds = {}
        def __init_subclass__(cls, /, name, **others):
            super().__init_subclass__(**others)
            Base.kinds[name] = cls
    class Derived(Base, name="derived"): pass

    class Meta(type):
        def __new__(meta, name, bases, body):
            body["named"] = [each for each in body if not each.startswith("_")]
            return super().__new__(meta, name, bases, body)
    class WithBody(metaclass=Meta):
        x = 1
        def method(self): pass

    class Structure(ctypes.Structure):
        _fields_ = [("n", ctypes.c_int)]

    class Locked:
        lock = threading.Lock()
        def work(self):
            with self.lock: return type(self).__name__

    def locked(function):
        lock = threading.Lock()
        @functools.wraps(function)
        def wrapped(*args):
            with lock: return function(*args)
        return wrapped

    def of_the_context(): return decimal.getcontext().prec
    def by_name(): return globals()["of_the_context"](), eval("of_the_context")(), __version__
    def with_a_lock():
        with LOCK: return LOCAL.value, VARIABLE.get()
    def default(x=MISSING, lock=LOCK): return x is MISSING, lock is LOCK
    def registered(it): return it.n
    def keyword(): return Base.kinds["derived"] is Derived, Derived in Base.__subclasses__()
    def body(): return WithBody.named
    def structure(): return Structure(5).n
    def method(it): return it.work()
    @locked
    def decorated(n): return n + 1
    def annotated(x: "Derived") -> "Base": pass
    def hints():
        import typing
        return typing.get_type_hints(annotated)["x"] is Derived
    @functools.lru_cache
    def cached(n): return n, cached.cache_info().misses
    def initialize():
        global state
        state = "set"
    def of_the_initializer(): return state

    CALLS = [
        (of_the_context,), (by_name,), (with_a_lock,), (default,), (registered, Registered(1)),
        (keyword,), (body,), (structure,), (method, Locked()), (decorated, 1), (hints,),
        (cached, 3), (of_the_initializer,),
    ]
    spawn = multiprocessing.get_context("spawn")

    if __name__ == "__main__":
        found = {call[0].__name__: [] for call in CALLS}
        for make in (functools.partial(ProcessPoolExecutor, mp_context=spawn), MiraiExecutor):
            with make(1, initializer=initialize) as executor:
                for call in CALLS:
                    found[call[0].__name__].append(executor.submit(*call).result())
        print(json.dumps(found))
"""
KINDS = [
    *("of_the_context", "by_name", "with_a_lock", "default", "registered", "keyword", "body"),
    *("structure", "method", "decorated", "hints", "cached", "of_the_initializer"),
]


@pytest.fixture(scope="module")
def as_spawn(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, list[Any]]:
    """What each function returned, in a child of spawn and at a daemon."""
    found: dict[str, list[Any]] = json.loads(printed_by(tmp_path_factory.mktemp("main"), AS_SPAWN))
    assert list(found) == KINDS
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_daemon_sees_of_a_guarded_script_what_a_child_of_spawn_sees(
    kind: str, as_spawn: Mapping[str, list[Any]]
) -> None:
    there, here = as_spawn[kind]
    assert here == there


def test_an_import_that_fails_is_the_error_of_each_task_that_needs_it(tmp_path: Path) -> None:
    program = """
        import os, sys, traceback
        from mirai_executor import MiraiExecutor
        if __name__ == "__mp_main__":
            match os.environ["HOW"]:
                case "raise": raise KeyError("of the script")
                case "exit": sys.exit("bye")
                case "use": MiraiExecutor(1).submit(abs, 1)
        def f(): return "fine"
        if __name__ == "__main__":
            for how in ("raise", "exit", "use"):
                os.environ["HOW"] = how
                with MiraiExecutor(1) as executor:
                    for _ in range(2):
                        error = executor.submit(f).exception()
                        text = "".join(traceback.format_exception(error))
                        said = str(error).split("; move")[0].split(" importing the")[0]
                        print(type(error).__name__, said, __file__ in text)
                    print('main="value"' in str(error), executor.submit(abs, -1).result())
            with MiraiExecutor(1, main="value") as executor:
                print(executor.submit(f).result())
    """
    printed = printed_by(tmp_path, program)
    *lines, last = printed.splitlines()
    failed = "PayloadError importing the host's main module failed"
    assert last == "fine"
    assert lines == [
        *[f"{failed} (KeyError: 'of the script') True"] * 2,
        "True 1",
        *[f"{failed} (SystemExit: bye) True"] * 2,
        "True 1",
        *[f"{failed} (RuntimeError: an executor was used while a daemon was True"] * 2,
        "True 1",
    ]


def test_what_the_import_has_set_up_outlives_cleanup_and_only_names_need_it(
    tmp_path: Path,
) -> None:
    program = """
        import os, warnings
        from mirai_executor import MiraiExecutor
        if __name__ == "__mp_main__":
            os.environ["SET_UP"] = "yes"
            warnings.simplefilter("ignore", BytesWarning)
        def f(): return os.environ.get("SET_UP"), warnings.filters[0][2] is BytesWarning
        if __name__ == "__main__":
            with MiraiExecutor(1, cleanup=True) as executor:
                print(executor.submit(os.getenv, "SET_UP").result())
                print(executor.submit_source("__import__('os').getenv('SET_UP')").result())
                print(executor.submit(f).result(), executor.submit(f).result())
                print(executor.submit(os.getenv, "SET_UP").result())
    """
    assert printed_by(tmp_path, program) == "None\nNone\n('yes', True) ('yes', True)\nyes\n"


def test_a_module_that_is_run_by_name_is_imported_with_its_package(tmp_path: Path) -> None:
    program = """
        import threading
        from mirai_executor import MiraiExecutor
        from . import other
        LOCK = threading.Lock()
        def f():
            with LOCK: return other.__name__, __package__
        if __name__ == "__main__":
            with MiraiExecutor(1) as executor:
                print(executor.submit(f).result())
    """
    package = tmp_path / "package"
    package.mkdir()
    (package / "other.py").touch()
    printed = printed_by(tmp_path, program, "-m", "package.program", name="package/program.py")
    assert printed == "('package.other', 'package')\n"


def test_an_executor_outside_of_the_guard_has_no_daemon_import_it(tmp_path: Path) -> None:
    program = """
        from mirai_executor import MiraiExecutor
        def f(): return "fine"
        if __name__ == "__main__":
            print("guarded")
        with MiraiExecutor(1) as executor:
            print(executor.submit(f).result())
    """
    assert printed_by(tmp_path, program) == "guarded\nfine\n"


@pytest.mark.parametrize("name", ["tool", "tool.pyw", "tool.v2", "a tool.py"])
@pytest.mark.parametrize(
    "guard",
    [
        'if __name__ == "__main__": main()',
        'main() if __name__ == "__main__" else None',
        'if __name__ != "__main__": pass\nelse: main()',
        'if multiprocessing.current_process().name == "MainProcess": main()',
    ],
)
def test_a_script_may_have_any_name_and_several_forms_of_a_guard(
    guard: str, name: str, tmp_path: Path
) -> None:
    program = """
import multiprocessing, threading
from mirai_executor import MiraiExecutor
LOCK = threading.Lock()  # which cannot travel
def is_free(): return not LOCK.locked()
def main():
    with MiraiExecutor(1) as executor:
        print(executor.submit(is_free).result())
"""
    assert printed_by(tmp_path, program + guard + "\n", name=name) == "True\n"


def test_python_warns_of_what_a_script_says_as_often_as_with_spawn(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(r"""
            import sys
            from concurrent.futures import ProcessPoolExecutor
            from multiprocessing import get_context
            from mirai_executor import MiraiExecutor
            TEXT = "\d"  # a DeprecationWarning on 3.11
            def is_one(x): return x is 1
            if __name__ == "__main__":
                make = {"spawn": ProcessPoolExecutor, "mirai": MiraiExecutor}[sys.argv[1]]
                with make(1, mp_context=get_context("spawn")) as executor:
                    executor.submit(is_one, 2).result()
        """)
    )
    said = [
        subprocess.run(
            [sys.executable, "-W", "default", str(program), how],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=True,
        ).stderr.count("Warning: ")
        for how in ("spawn", "mirai")
    ]
    assert said[0] == said[1] > 2


def test_what_is_missing_without_a_guard_is_told_with_the_way_to_it(tmp_path: Path) -> None:
    program = """
        import threading
        from mirai_executor import MiraiExecutor
        LOCK = threading.Lock()
        def is_free(): return not LOCK.locked()
        with MiraiExecutor(1) as executor:
            print(*executor.submit(is_free).exception().__notes__)
    """
    assert printed_by(tmp_path, program) == (
        "'LOCK' is in the host's __main__, but cannot be pickled: TypeError: cannot pickle "
        "'_thread.lock' object; daemons have their own if what starts the script is below "
        '`if __name__ == "__main__":`\n'
    )


def test_what_is_missing_beside_a_guard_is_told_with_the_option_that_keeps_it_out(
    tmp_path: Path,
) -> None:
    program = """
        import threading
        from mirai_executor import MiraiExecutor
        LOCK = threading.Lock()
        def is_free(): return not LOCK.locked()
        if __name__ == "__main__":
            with MiraiExecutor(1, main="value") as executor:
                print(*executor.submit(is_free).exception().__notes__)
    """
    assert printed_by(tmp_path, program) == (
        "'LOCK' is in the host's __main__, but cannot be pickled: TypeError: cannot pickle "
        "'_thread.lock' object; daemons have their own unless the executor was created with "
        'main="value"\n'
    )


def test_the_top_level_runs_under_the_name_of_spawn_and_functions_see_that_of_the_host(
    tmp_path: Path,
) -> None:
    program = """
        import os
        from mirai_executor import MiraiExecutor
        os.environ["NAME_OF_TOP"] = __name__
        def names(): return os.environ["NAME_OF_TOP"], __name__
        if __name__ == "__main__":
            with MiraiExecutor(1) as executor:
                print(*executor.submit(names).result())
    """
    assert printed_by(tmp_path, program) == "__mp_main__ __main__\n"


def test_a_script_without_a_guard_is_imported_on_request_and_may_not_start_itself_anew(
    tmp_path: Path,
) -> None:
    program = """
        import decimal
        from mirai_executor import MiraiExecutor, on_daemon
        decimal.getcontext().prec = 7
        def precision(): return decimal.getcontext().prec
        def main(main):
            with MiraiExecutor(1, main=main) as executor:
                future = executor.submit(precision)
                print(future.exception() or future.result())
                print(executor.submit(abs, -1).result())
        if not on_daemon():
            main("value")
            main("import")
    """
    assert printed_by(tmp_path, program) == "28\n1\n7\n1\n"
    program = program.replace("if not on_daemon()", "if True").replace('main("value")', "pass")
    error, last = printed_by(tmp_path, program).splitlines()
    assert "(RuntimeError: an executor was used while a daemon was importing" in error
    assert 'move what only the host can do below `if __name__ == "__main__":`' in error
    assert last == "1"


def test_what_is_no_script_cannot_be_imported() -> None:
    with pytest.raises(ValueError, match='main="import" needs a main module that is a script'):
        MiraiExecutor(1, main="import")


@pytest.mark.parametrize("guard", ['if __name__ == "__main__":', "if True:"])
def test_a_large_global_crosses_once_and_anew_when_it_has_changed(
    guard: str, tmp_path: Path
) -> None:
    program = """
        from mirai_executor import MiraiExecutor
        from mirai_executor._transport import Link
        TABLE = {n: str(n) * 10 for n in range(20_000)}
        SIZE = sum(map(len, TABLE.values()))
        sent = 0
        def look(n): return TABLE[n]
        def other(n): return len(TABLE) + n
        GUARD
            send = Link.send
            def count(self, *pieces):
                global sent
                sent += sum(map(len, pieces))
                return send(self, *pieces)
            Link.send = count
            with MiraiExecutor(1) as executor:
                def crossed(function):
                    global sent
                    before = sent
                    for n in range(10): executor.submit(function, n).result()
                    return (sent - before) // SIZE
                print(crossed(look), crossed(look), crossed(other))
                TABLE[0] = "another value"
                print(crossed(look), executor.submit(look, 0).result())
    """.replace("GUARD", guard)
    assert printed_by(tmp_path, program) == "1 0 0\n1 another value\n"


CONFIGURED = """
    import logging
    import sys
    from pathlib import Path
    from mirai_executor import MiraiExecutor

    class Task(logging.Filter):
        def filter(self, record):
            record.task = getattr(record, "mirai_task", "host")
            return True

    logging.basicConfig(filename="all.log", filemode="w", format="%(task)s %(message)s")
    logging.root.handlers[0].addFilter(Task())
    alone = logging.getLogger("alone")
    alone.propagate = False
    alone.addHandler(logging.StreamHandler(sys.stdout))

    def work(n):
        logging.getLogger("job").info("from %d", n)
        alone.warning("printed %d", n)

    if __name__ == "__main__":
        logging.root.setLevel("INFO")
        logging.info("begin")
        for _ in range(2):
            with MiraiExecutor(1) as executor:
                assert [*executor.map(work, range(2))] == [None, None]
        logging.shutdown()
        print(Path("all.log").read_text(), end="")
"""


BY_DICT = """logging.config.dictConfig({
        "version": 1,
        "formatters": {"short": {"format": "%(task)s %(message)s"}},
        "filters": {"task": {"()": Task}},
        "handlers": {"file": {
            "class": "logging.FileHandler", "filename": "all.log", "formatter": "short",
            "filters": ["task"],
        }},
        "root": {"handlers": ["file"]},
    })
"""


@pytest.mark.parametrize("how", ["basicConfig", "dictConfig"])
def test_handlers_of_the_script_are_those_of_the_host_alone(how: str, tmp_path: Path) -> None:
    program = CONFIGURED
    if how == "dictConfig":
        configures = re.compile(r"logging\.basicConfig.*?addFilter\(Task\(\)\)\n", re.DOTALL)
        program = configures.sub(BY_DICT, program).replace(
            "import sys", "import logging.config, sys"
        )
    text = re.sub(r"^\d+", "task", printed_by(tmp_path, program), flags=re.MULTILINE)
    lines = text.splitlines()
    # Each record once, where the host has it, and no daemon has emptied the file.
    both = ["task from 0", "task from 1", "printed 0", "printed 1"]
    assert sorted(lines) == sorted(["host begin", *both, *both])
