"""Each way in which a task can leave a trace, and what cleanup makes of it.

Those that would disturb the tests beside them run as a script in a process of their own.
"""

import ctypes
import faulthandler
import logging
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
import types
import warnings
import weakref
from collections.abc import Iterator
from importlib.abc import MetaPathFinder
from pathlib import Path

import pytest

from mirai_executor.daemon._cleanup import CleanupError, Snapshot

NONE: frozenset[str] = frozenset()

PRELUDE = """
import contextlib, faulthandler, io, os, signal, sys, tempfile, threading, types
from pathlib import Path
from mirai_executor.daemon._cleanup import CleanupError, Snapshot

main = types.ModuleType("main")

"""


def in_a_process(script: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the script, warnings being errors, and check that it ends well and without noise."""
    done = attempt(script, *options)
    assert (done.returncode, done.stderr) == (0, "")
    return done


def attempt(script: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", *options, "-c", PRELUDE + textwrap.dedent(script)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """The namespace that tasks live in. Cleanup takes pytest's own timer and faulthandler away."""
    monkeypatch.setattr(faulthandler, "enable", lambda *_: None)
    timer = signal.getitimer(signal.ITIMER_REAL)
    yield types.ModuleType("main")
    signal.setitimer(signal.ITIMER_REAL, *timer)


@pytest.fixture
def snapshot(main: types.ModuleType) -> Snapshot:
    vars(main).update(kept="as it was", none=None)
    return Snapshot(main)


class Thing:
    """A value that a task made."""


# Globals of __main__


def test_a_global_that_a_task_invents_is_removed(
    main: types.ModuleType, snapshot: Snapshot
) -> None:
    vars(main).update(invented=1, _hidden=2, __dunder__=3)
    snapshot.restore(NONE)
    assert vars(main).keys().isdisjoint({"invented", "_hidden", "__dunder__"})


def test_a_global_that_the_host_has_keeps_the_value_that_a_task_gave_it(
    main: types.ModuleType, snapshot: Snapshot
) -> None:
    vars(main)["model"] = model = Thing()
    snapshot.restore(frozenset({"model"}))
    assert vars(main)["model"] is model


def test_a_global_of_the_snapshot_that_the_host_has_too_keeps_the_value_that_a_task_gave_it(
    main: types.ModuleType, snapshot: Snapshot
) -> None:
    vars(main)["kept"] = "another"
    snapshot.restore(frozenset({"kept"}))
    snapshot.restore(frozenset({"kept"}))
    assert vars(main)["kept"] == "another"


def test_a_global_of_the_snapshot_comes_back_if_rebound_to_something_equal_or_deleted(
    main: types.ModuleType,
) -> None:
    vars(main).update(rebound=(rebound := [1]), deleted=(deleted := [2]), none=None)
    snapshot = Snapshot(main)
    vars(main)["rebound"] = [1]
    del vars(main)["deleted"], vars(main)["none"]
    snapshot.restore(NONE)
    assert vars(main)["rebound"] is rebound
    assert vars(main)["deleted"] is deleted
    assert vars(main)["none"] is None


def test_a_global_that_was_deleted_and_put_back_does_not_hide_what_else_changed(
    main: types.ModuleType, snapshot: Snapshot
) -> None:
    del vars(main)["kept"]
    snapshot.restore(NONE)  # from here on, the names stand in another order
    vars(main).update(kept="rebound", invented=1, of_the_host=2)
    snapshot.restore(frozenset({"of_the_host"}))
    assert vars(main)["kept"] == "as it was"
    assert "invented" not in vars(main)
    assert vars(main)["of_the_host"] == 2


def test_cleanup_never_compares_globals_by_the_code_of_their_class(
    main: types.ModuleType, snapshot: Snapshot
) -> None:
    class Unequal:
        def __eq__(self, other: object) -> bool:
            raise AssertionError("compared")

        __hash__ = None  # type: ignore[assignment]  # as of an array

    vars(main)["kept"] = Unequal()
    snapshot.restore(NONE)
    assert vars(main)["kept"] == "as it was"


def test_a_retaken_snapshot_keeps_what_everywhere_has_set(
    main: types.ModuleType, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    vars(main)["table"] = table = Thing()
    monkeypatch.setenv("MIRAI_TEST", "everywhere")
    snapshot.retake()
    vars(main)["table"] = os.environ["MIRAI_TEST"] = "a task"
    snapshot.restore(NONE)
    assert vars(main)["table"] is table
    assert os.environ["MIRAI_TEST"] == "everywhere"


def test_a_task_cannot_go_back_to_the_snapshot_before_the_last_one(snapshot: Snapshot) -> None:
    before = list(sys.argv)
    snapshot.restore(NONE)  # what pytest has changed since the snapshot
    sys.argv.append("--more")
    snapshot.retake()
    try:
        sys.argv[:] = before  # by a task
        snapshot.restore(NONE)
        assert sys.argv == [*before, "--more"]
    finally:
        sys.argv[:] = before


def test_the_snapshot_keeps_nothing_that_a_task_made(
    main: types.ModuleType, snapshot: Snapshot
) -> None:
    invented, rebound, hosted = Thing(), Thing(), Thing()
    references = [weakref.ref(invented), weakref.ref(rebound), weakref.ref(hosted)]
    vars(main).update(invented=invented, kept=rebound, hosted=hosted)
    del invented, rebound, hosted
    snapshot.restore(frozenset({"hosted"}))
    del vars(main)["hosted"]
    assert [reference() for reference in references] == [None, None, None]


def test_the_snapshot_lets_go_of_what_a_name_of_the_host_was_bound_to_before(
    main: types.ModuleType, snapshot: Snapshot
) -> None:
    vars(main)["model"] = Thing()
    old = weakref.ref(vars(main)["model"])
    snapshot.retake()
    vars(main)["model"] = "another"
    snapshot.restore(frozenset({"model"}))
    assert old() is None


def test_what_the_finalizer_of_a_removed_global_changes_is_undone_as_well(
    main: types.ModuleType, snapshot: Snapshot
) -> None:
    class Spiteful:
        def __del__(self) -> None:
            os.environ["MIRAI_TEST"] = "left by a finalizer"

    vars(main)["spiteful"] = Spiteful()
    snapshot.restore(NONE)
    assert "MIRAI_TEST" not in os.environ


def test_a_module_stays_imported(snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("mirai_test_module")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    snapshot.restore(NONE)
    assert sys.modules[module.__name__] is module


def test_a_task_cannot_leave_another_main_module() -> None:
    in_a_process("""
        true_main = sys.modules["__main__"]
        snapshot = Snapshot(main)
        sys.modules["__main__"] = types.ModuleType("__main__")
        snapshot.restore(set())
        assert sys.modules["__main__"] is true_main
    """)


# The process as others see it


def test_the_environment_is_restored_in_python_and_in_c(
    main: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIRAI_CHANGED", "before")
    monkeypatch.setenv("MIRAI_DELETED", "before")
    snapshot = Snapshot(main)
    os.environ.update(MIRAI_CHANGED="after", MIRAI_ADDED="after")
    del os.environ["MIRAI_DELETED"]
    snapshot.restore(NONE)
    names = ("MIRAI_CHANGED", "MIRAI_DELETED", "MIRAI_ADDED")
    assert [os.environ.get(name) for name in names] == ["before", "before", None]
    getenv = ctypes.CDLL(None).getenv
    getenv.restype = ctypes.c_char_p
    assert [getenv(name.encode()) for name in names] == [b"before", b"before", None]


def test_another_mapping_in_the_place_of_the_environment_is_taken_away(snapshot: Snapshot) -> None:
    mapping = os.environ
    os.environ = {"PATH": "a task's"}  # type: ignore[assignment]  # noqa: B003 - as a task might
    snapshot.restore(NONE)
    assert os.environ is mapping


def test_the_time_zone_returns_with_the_environment(
    main: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    snapshot = Snapshot(main)
    os.environ["TZ"] = "XYZ-5"
    time.tzset()
    snapshot.restore(NONE)
    assert time.tzname[0] == "UTC"


def test_the_working_directory_is_restored() -> None:
    in_a_process("""
        before = os.getcwd()
        snapshot = Snapshot(main)
        os.chdir("/")
        snapshot.restore(set())
        assert os.getcwd() == before
    """)


def test_a_task_that_deletes_its_working_directory_returns_to_that_of_the_daemon() -> None:
    in_a_process("""
        before = os.getcwd()
        snapshot = Snapshot(main)
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
        snapshot.restore(set())
        assert os.getcwd() == before
    """)


def test_a_daemon_whose_own_directory_is_deleted_goes_on_and_returns_once_it_is_back() -> None:
    in_a_process("""
        with tempfile.TemporaryDirectory() as parent:
            home = Path(parent, "home")
            home.mkdir()
            os.chdir(home)
            snapshot = Snapshot(main)
            home.rmdir()
            snapshot.restore(set())
            os.chdir("/")
            snapshot.restore(set())
            home.mkdir()
            snapshot.restore(set())
            assert Path.cwd() == home.resolve()
            os.chdir("/")
    """)


# The import path, arguments, warnings and hooks


def test_sys_path_is_restored_changed_in_place_or_rebound(snapshot: Snapshot) -> None:
    path, entries = sys.path, list(sys.path)
    sys.path.insert(0, "/a/task")
    snapshot.restore(NONE)
    assert sys.path == entries
    sys.path = ["/a/task"]
    snapshot.restore(NONE)
    assert sys.path is path
    assert sys.path == entries


def test_a_new_path_of_the_host_holds_at_once_and_after_each_task_and_moves_nothing_else(
    main: types.ModuleType, snapshot: Snapshot
) -> None:
    before = list(sys.path)
    vars(main)["invented"] = 1
    snapshot.keep_path([*before, "/of/the/host"])
    assert sys.path == [*before, "/of/the/host"]
    sys.path.append("/of/a/task")
    snapshot.restore(NONE)
    assert sys.path == [*before, "/of/the/host"]
    assert "invented" not in vars(main)
    snapshot.keep_path(before)


def test_a_new_path_of_the_host_counts_in_the_next_look(snapshot: Snapshot) -> None:
    before = list(sys.path)
    snapshot.restore(NONE)  # what pytest has changed since the snapshot
    snapshot.keep_path([*before, "/of/the/host"])
    sys.path[:] = before  # by the very first task
    snapshot.restore(NONE)
    assert sys.path == [*before, "/of/the/host"]
    snapshot.keep_path(before)


def test_sys_argv_is_restored(snapshot: Snapshot) -> None:
    before = list(sys.argv)
    sys.argv[:] = ["a", "task"]
    snapshot.restore(NONE)
    assert sys.argv == before


def test_warning_filters_are_restored_and_take_effect_again(snapshot: Snapshot) -> None:
    before = list(warnings.filters)
    warnings.simplefilter("ignore")
    warnings.warn("unheard", stacklevel=1)
    snapshot.restore(NONE)
    assert list(warnings.filters) == before
    with pytest.raises(UserWarning, match="heard"):
        warnings.warn("heard", stacklevel=1)


def test_a_recording_of_warnings_that_a_task_never_left_ends(snapshot: Snapshot) -> None:
    before = warnings.filters, warnings.showwarning, vars(warnings)["_showwarnmsg_impl"]
    never_left = warnings.catch_warnings(record=True)
    never_left.__enter__()
    warnings.simplefilter("always")
    snapshot.restore(NONE)
    assert before == (
        warnings.filters,
        warnings.showwarning,
        vars(warnings)["_showwarnmsg_impl"],
    )
    assert warnings.filters is before[0]


def test_logging_can_capture_warnings_again_after_a_task_that_did(snapshot: Snapshot) -> None:
    before = warnings.showwarning
    for _ in range(2):
        logging.captureWarnings(True)
        assert warnings.showwarning is not before
        snapshot.restore(NONE)
        assert warnings.showwarning is before


def test_an_import_hook_stays_because_its_module_does(
    snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Finder(MetaPathFinder):
        """Finds nothing."""

    finder = Finder()
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, finder])
    snapshot.restore(NONE)
    assert sys.meta_path[-1] is finder


def test_what_an_import_sets_up_stays_and_what_its_task_sets_up_does_not(tmp_path: Path) -> None:
    (tmp_path / "inner.py").write_text("import sys; sys.argv.append('inner')")
    (tmp_path / "outer.py").write_text(
        "import inner, os, warnings\n"
        "os.environ['OUTER'] = 'yes'\n"
        "os.environ['SHARED'] = 'outer'\n"
        "warnings.simplefilter('ignore', BytesWarning)\n"
    )
    in_a_process(f"""
        import warnings
        sys.path.append({str(tmp_path)!r})
        snapshot = Snapshot(main)
        snapshot.watch_imports()
        for _ in range(2):
            import outer
            os.environ.update(SHARED="a task's", ADDED="yes")
            sys.path.append("/of/a/task")
            vars(main)["outer"] = outer
            snapshot.restore(set())
            assert os.environ["OUTER"] == "yes"
            assert os.environ["SHARED"] == "outer"
            assert "ADDED" not in os.environ
            assert sys.argv[-1] == "inner"
            assert sys.path[-1] == {str(tmp_path)!r}
            assert warnings.filters[0][2] is BytesWarning
            assert not vars(main).keys() & {{"outer"}}
    """)


def test_what_an_import_changes_where_its_task_had_changed_the_same_is_taken_back(
    tmp_path: Path,
) -> None:
    (tmp_path / "module.py").write_text("import os; os.environ['OF_A_MODULE'] = 'yes'")
    in_a_process(f"""
        sys.path.append({str(tmp_path)!r})
        snapshot = Snapshot(main)
        snapshot.watch_imports()
        os.environ["OF_A_TASK"] = "yes"
        import module
        snapshot.restore(set())
        assert not os.environ.keys() & {{"OF_A_TASK", "OF_A_MODULE"}}
    """)


def test_a_watched_import_that_fails_has_the_traceback_of_any_other(tmp_path: Path) -> None:
    (tmp_path / "faulty.py").write_text("import sys; sys.argv.append('faulty'); 1 / 0")
    (tmp_path / "needs.py").write_text("import faulty")
    in_a_process(f"""
        import traceback
        def frames_of(module):
            try:
                __import__(module)
            except Exception as error:
                return [frame.name for frame in traceback.extract_tb(error.__traceback__)]

        sys.path.append({str(tmp_path)!r})
        plain = frames_of("needs"), frames_of("missing_module")
        snapshot = Snapshot(main)
        snapshot.watch_imports()
        sys.argv.pop()
        snapshot.restore(set())
        assert (frames_of("needs"), frames_of("missing_module")) == plain
        snapshot.restore(set())
        assert sys.argv[-1] == "faulty"  # what has run may have left it elsewhere, too
    """)


# Signals, timers, tracers


def test_every_signal_handler_that_a_task_set_is_taken_away() -> None:
    in_a_process("""
        settable = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
        before = [signal.getsignal(number) for number in settable]
        snapshot = Snapshot(main)
        for number in settable:
            signal.signal(number, print)
        snapshot.restore(set())
        assert [signal.getsignal(number) for number in settable] == before
    """)


def test_a_signal_that_a_task_ignored_ends_the_daemon_again() -> None:
    done = attempt("""
        snapshot = Snapshot(main)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        snapshot.restore(set())
        os.kill(os.getpid(), signal.SIGTERM)
    """)
    assert done.returncode == -signal.SIGTERM


def test_the_handlers_of_the_daemon_cannot_be_moved_by_a_task_nor_by_everywhere() -> None:
    in_a_process("""
        def of_the_daemon(*_): ...
        own = frozenset({signal.SIGINT})
        signal.signal(signal.SIGINT, of_the_daemon)
        snapshot = Snapshot(main, untouched=own)

        signal.signal(signal.SIGINT, signal.SIG_IGN)
        snapshot.restore(set())
        assert signal.getsignal(signal.SIGINT) is of_the_daemon

        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGUSR2})
        snapshot.retake()
        snapshot.restore(set())
        assert signal.getsignal(signal.SIGINT) is of_the_daemon
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == {signal.SIGUSR2}
    """)


def test_blocked_signals_are_restored() -> None:
    in_a_process("""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        snapshot = Snapshot(main)
        signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGUSR2})
        snapshot.restore(set())
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == {signal.SIGUSR1}
    """)


@pytest.mark.parametrize("timer", ["ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF"])
def test_a_timer_is_cleared(timer: str) -> None:
    in_a_process(f"""
        snapshot = Snapshot(main)
        signal.setitimer(signal.{timer}, 1000)
        snapshot.restore(set())
        assert signal.getitimer(signal.{timer}) == (0, 0)
    """)


def test_an_alarm_that_went_off_while_a_task_blocked_it_does_not_kill_the_daemon() -> None:
    in_a_process("""
        snapshot = Snapshot(main)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
        os.kill(os.getpid(), signal.SIGALRM)
        assert signal.sigpending() == {signal.SIGALRM}
        snapshot.restore(set())
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
    """)


def test_a_descriptor_that_a_task_left_for_signals_is_not_written_to() -> None:
    in_a_process("""
        snapshot = Snapshot(main)
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer)
        snapshot.restore(set())
        assert signal.set_wakeup_fd(-1) == -1
    """)


def test_a_tracer_and_a_profiler_that_a_task_left_are_taken_away() -> None:
    in_a_process("""
        def installed():
            return sys.gettrace(), sys.getprofile(), threading.gettrace(), threading.getprofile()

        before = installed()  # nothing, unless coverage is measured
        snapshot = Snapshot(main)
        threading.settrace(print)
        threading.setprofile(print)
        sys.setprofile(lambda *_: None)
        sys.settrace(lambda *_: None)
        snapshot.restore(set())
        assert installed() == before
    """)


def test_a_crash_is_reported_even_if_a_task_had_replaced_the_handler_of_its_signal() -> None:
    done = attempt("""
        faulthandler.enable()
        snapshot = Snapshot(main)
        signal.signal(signal.SIGSEGV, signal.SIG_IGN)
        snapshot.restore(set())
        os.kill(os.getpid(), signal.SIGSEGV)
    """)
    assert done.returncode == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in done.stderr


# Standard streams


def test_a_closed_standard_output_is_opened_again() -> None:
    done = in_a_process("""
        snapshot = Snapshot(main)
        encoding = sys.stdout.encoding
        print("before", flush=True)
        sys.stdout.close()
        snapshot.restore(set())
        print("after")
        assert sys.stdout is sys.__stdout__
        assert (sys.stdout.encoding, sys.stdout.fileno()) == (encoding, 1)
        snapshot.restore(set())
        assert sys.stdout is sys.__stdout__
    """)
    assert done.stdout == "before\nafter\n"


def test_all_three_closed_streams_are_opened_again_in_unbuffered_mode_too() -> None:
    done = attempt(
        """
        snapshot = Snapshot(main)
        for stream in (sys.stdin, sys.stdout, sys.stderr):
            stream.close()
        snapshot.restore(set())
        print("out", sys.stdin.read(), "in")
        print("err", file=sys.stderr)
        os._exit(0)
        """,
        "-u",
    )
    assert (done.stdout, done.stderr) == ("out  in\n", "err\n")


def test_a_closed_stream_of_the_daemons_own_kind_is_made_again_of_that_kind() -> None:
    in_a_process("""
        class Lossy(io.RawIOBase):
            def __init__(self, fd): self._fd = fd
            def fileno(self): return self._fd
            def writable(self): return True
            def write(self, data): return len(data)

        sys.stderr = sys.__stderr__ = io.TextIOWrapper(
            io.BufferedWriter(Lossy(2)), encoding="utf-8", line_buffering=True
        )
        snapshot = Snapshot(main)
        sys.stderr.close()
        snapshot.restore(set())
        assert type(sys.stderr.buffer.raw) is Lossy
        assert sys.stderr.line_buffering
        print("dropped", file=sys.stderr)
    """)


def test_a_stream_that_a_task_put_in_its_place_is_taken_away() -> None:
    done = in_a_process("""
        snapshot = Snapshot(main)
        before = sys.stdout
        sys.stdout = io.StringIO()
        snapshot.restore(set())
        assert sys.stdout is before
        print("seen")
    """)
    assert done.stdout == "seen\n"


def test_a_wrapper_around_the_buffer_of_standard_output_does_not_close_it_for_good() -> None:
    done = in_a_process("""
        snapshot = Snapshot(main)
        sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8")
        print("wrapped")
        snapshot.restore(set())
        print("restored")
        sys.stdout.flush()
        sys.stdout.detach()
        snapshot.restore(set())
        print("after a detached one")
    """)
    assert done.stdout == "wrapped\nrestored\nafter a detached one\n"


def test_everywhere_cannot_make_a_closed_stream_the_snapshot() -> None:
    done = in_a_process("""
        snapshot = Snapshot(main)
        sys.stdout.close()
        snapshot.retake()
        print("open")
    """)
    assert done.stdout == "open\n"


def test_a_daemon_with_a_closed_standard_descriptor_must_leave() -> None:
    in_a_process("""
        snapshot = Snapshot(main)
        os.close(0)
        try:
            snapshot.restore(set())
        except CleanupError as error:
            [failure] = error.failures
            assert failure.startswith("standard streams: OSError: [Errno 9]"), failure
        else:
            raise AssertionError
        os._exit(0)
    """)


def test_a_daemon_that_was_started_without_standard_streams_is_cleaned_up() -> None:
    in_a_process("""
        sys.stdin = sys.__stdin__ = None
        os.close(0)
        snapshot = Snapshot(main)
        snapshot.restore(set())
        assert sys.stdin is None
    """)


def test_a_stream_that_cannot_be_opened_again_must_not_be_left_closed() -> None:
    in_a_process("""
        before = sys.stdout
        for stream in (io.StringIO(), io.TextIOWrapper(io.BytesIO())):
            sys.stdout = stream
            snapshot = Snapshot(main)
            stream.close()
            try:
                snapshot.restore(set())
            except CleanupError as error:
                assert "closed sys.stdout" in str(error)
            else:
                raise AssertionError
        sys.stdout = before
    """)


# What goes on from task to task


def test_the_root_logger_is_restored_so_that_the_next_task_can_configure_it(
    snapshot: Snapshot,
) -> None:
    level, handlers = logging.root.level, list(logging.root.handlers)
    logging.root.setLevel(logging.DEBUG)
    logging.root.handlers[:] = [logging.NullHandler()]
    logging.disable(logging.CRITICAL)
    snapshot.restore(NONE)
    assert (logging.root.level, logging.root.handlers) == (level, handlers)
    assert logging.root.isEnabledFor(logging.CRITICAL)


def test_the_state_of_random_goes_on() -> None:
    in_a_process("""
        import random
        random.seed(1)
        expected = [random.random(), random.random()]
        random.seed(1)
        snapshot = Snapshot(main)
        drawn = [random.random()]
        snapshot.restore(set())
        drawn.append(random.random())
        assert drawn == expected
    """)


# A look at everything


STREAMS = ("stdin", "stdout", "stderr", "__stdin__", "__stdout__", "__stderr__")


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("sys.settrace(lambda *_: None)", "sys.gettrace()"),
        ("sys.setprofile(lambda *_: None)", "sys.getprofile()"),
        ("threading.settrace(print)", "threading.gettrace()"),
        ("threading.setprofile(print)", "threading.getprofile()"),
        ("logging.root.setLevel(1)", "logging.root.level"),
        ("logging.disable(1)", "logging.root.manager.disable"),
        ("logging.root.addHandler(logging.NullHandler())", "list(logging.root.handlers)"),
        ("logging._warnings_showwarning = print", "logging._warnings_showwarning"),
        ("warnings.showwarning = print", "warnings.showwarning"),
        ("warnings.formatwarning = print", "warnings.formatwarning"),
        ("warnings._showwarnmsg_impl = print", "warnings._showwarnmsg_impl"),
        ("warnings.filters = list(warnings.filters)", "id(warnings.filters)"),
        ("sys.path = list(sys.path)", "id(sys.path)"),
        ("del os.environ['PATH']", "os.environ.get('PATH')"),
        *((f"sys.{name} = io.StringIO()", f"sys.{name}") for name in STREAMS),
        *((f"sys.{name}.close()", f"sys.{name}.closed") for name in STREAMS[:3]),
    ],
)
def test_a_single_change_is_seen_among_all_that_is_as_it_was(change: str, value: str) -> None:
    in_a_process(f"""
        import logging, warnings
        snapshot = Snapshot(main)
        snapshot.restore(set())
        before = {value}
        {change}
        assert {value} != before
        snapshot.restore(set())
        assert {value} == before
    """)


@pytest.mark.parametrize("descriptor", [0, 1, 2])
def test_each_closed_standard_descriptor_is_seen(descriptor: int) -> None:
    in_a_process(f"""
        snapshot = Snapshot(main)
        os.close({descriptor})
        try:
            snapshot.restore(set())
        except CleanupError:
            os._exit(0)
        os._exit(1)
    """)


def test_a_global_that_was_deleted_and_put_back_does_not_make_each_cleanup_a_long_one(
    main: types.ModuleType, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    del vars(main)["kept"]
    snapshot.restore(NONE)

    def go_through(_: object) -> None:
        raise AssertionError("restored")

    monkeypatch.setattr("mirai_executor.daemon._cleanup._go_through", go_through)
    snapshot.restore(NONE)


# Failures


def test_a_trace_that_cannot_be_restored_is_named_and_stops_no_other(
    main: types.ModuleType, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(value: str) -> None:
        raise PermissionError(value)

    monkeypatch.setattr(os, "chdir", refuse)
    monkeypatch.setattr(os, "getcwd", lambda: "/elsewhere")
    vars(main)["invented"] = 1
    before = list(sys.argv)
    sys.argv.append("--more")  # comes after the directory
    with pytest.raises(CleanupError) as caught:
        snapshot.restore(NONE)
    [failure] = caught.value.failures
    assert failure.startswith("working directory: PermissionError: ")
    assert failure in str(caught.value)
    assert "invented" not in vars(main)
    assert sys.argv == before


def test_a_task_that_raises_once_in_the_middle_of_cleanup_does_not_cost_the_daemon() -> None:
    in_a_process("""
        class Spiteful(str):
            asked = 0
            __hash__ = str.__hash__
            def __eq__(self, other):
                Spiteful.asked += 1
                if Spiteful.asked == 1:
                    sys.exit("in the middle")
                return False

        before = list(sys.argv)
        snapshot = Snapshot(main)
        sys.argv[:] = [Spiteful("a task's")] * len(before)
        snapshot.restore(set())
        assert (sys.argv, Spiteful.asked) == (before, 2)
    """)


def test_a_cleanup_error_survives_pickling() -> None:
    error = CleanupError(failures=("working directory: PermissionError",))
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.failures) == (str(error), error.failures)


def test_nothing_is_written_where_nothing_has_changed(
    snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    def written(*_: object) -> None:
        raise AssertionError("written")

    monkeypatch.setattr(os, "chdir", written)
    monkeypatch.setattr(signal, "signal", written)
    monkeypatch.setattr(signal, "pthread_sigmask", written)
    monkeypatch.setattr(logging, "disable", written)
    snapshot.restore(NONE)
