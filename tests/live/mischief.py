"""Tasks that misbehave, and the means to watch them. Daemons import this module by name.

Hundreds of them do in a run of the tests: what few tasks need is imported there.
"""

import atexit
import contextlib
import ctypes
import decimal
import importlib
import logging
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from mirai_executor import MiraiExecutor

SOON = 20.0  # seconds that no passing test waits, however loaded the machine is
T = TypeVar("T")

REQUEST: ContextVar[Any] = ContextVar("REQUEST", default="none")


@contextlib.contextmanager
def running(daemons: int = 1, **options: Any) -> Iterator["MiraiExecutor"]:
    """Make an executor whose daemons are connected; a test that fails does not wait for it.

    They clean up, unless the test says otherwise: what a task leaves must not reach the next one.
    """
    from mirai_executor import MiraiExecutor

    with ending(MiraiExecutor(daemons, **{"cleanup": True, **options})) as executor:
        executor.wait_ready(SOON)
        yield executor


@contextlib.contextmanager
def ending(executor: "MiraiExecutor") -> Iterator["MiraiExecutor"]:
    """Shut an executor down at the end; a test that fails does not wait for it."""
    try:
        yield executor
    except BaseException:
        executor.kill_workers()
        raise
    finally:
        executor.shutdown()


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, which comes in time."""
    import asyncio

    async def in_time() -> T:
        async with asyncio.timeout(60):
            return await coroutine

    return asyncio.run(in_time())


@contextlib.contextmanager
def default_timeout(seconds: float) -> Iterator[None]:
    """Have new sockets of this process time out, as some programs do for what they download."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


class Bell:
    """A FIFO on which tasks report, and on which the test waits."""

    def __init__(self, folder: Path, name: str = "bell") -> None:
        self.path = folder / name
        os.mkfifo(self.path)
        self._fd = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)  # open for writing: never at EOF

    def wait(self, seconds: float = SOON) -> str:
        """Return the next report, or fail."""
        text = b""
        deadline = time.monotonic() + seconds
        while not text.endswith(b"\n"):
            left = max(0.0, deadline - time.monotonic())
            if not select.select([self._fd], [], [], left)[0]:
                raise TimeoutError(f"nobody rang {self.path.name}")
            text += os.read(self._fd, 1)
        return text.decode().rstrip("\n")

    def wait_for_byte(self) -> None:
        """Wait until anything has come."""
        if not select.select([self._fd], [], [], SOON)[0]:
            raise TimeoutError(f"nobody rang {self.path.name}")

    def close(self) -> None:
        os.close(self._fd)


class Tally:
    """A file to which each execution appends its name, in one write."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "tally"
        self.path.touch()

    def counts(self) -> Counter[str]:
        return Counter(self.path.read_text().split())


def ring(path: Path, text: object = "rang") -> None:
    """Write a line to a FIFO or a file, at once."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(fd, f"{text}\n".encode())
    finally:
        os.close(fd)


def own_pid() -> int:
    return os.getpid()


def pid_of(executor: "MiraiExecutor") -> int:
    """Return the process id of the only daemon, which a task of it says."""
    return executor.submit(own_pid).result(SOON)


def answer() -> int:
    return 42


def give(value: Any) -> Any:
    return value


def count_and_return(tally: Path, name: str, value: Any = None) -> Any:
    """Leave a mark, so that a second execution would be seen."""
    ring(tally, name)
    return value


def count_and_call(tally: Path, name: str, what: Any = None) -> Any:
    """Leave a mark, and do what is asked: the same function may be quick, slow or deadly."""
    ring(tally, name)
    return name if what is None else what()


def count_and_spin(tally: Path, name: str, seconds: float) -> str:
    """As the above, and take a little time."""
    ring(tally, name)
    spin(seconds)
    return name


def count_at_exit(tally: Path, name: str, seconds: float) -> None:
    """Have the exit of this process take a little time, and count."""
    atexit.register(ring, tally, name)
    atexit.register(spin, seconds)  # the last one goes first


def spin(seconds: float) -> None:
    """Take up time as a computation does."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def count_spin_and_return(tally: Path, name: str, seconds: float, size: int) -> tuple[str, bytes]:
    """As the above, with a result whose content is known."""
    count_and_spin(tally, name, seconds)
    return content_of(name, size)


def content_of(name: str, size: int) -> tuple[str, bytes]:
    pattern = name.encode() + b"."
    return name, (pattern * (size // len(pattern) + 1))[:size]


def ring_and(bell: Path, what: Any, *args: Any) -> Any:
    """Report that the task runs, then do something else."""
    ring(bell, os.getpid())
    return what(*args)


def square_unless_extreme(x: float) -> float:
    """Return a square; crash above 3, and hang below -3."""
    if x > 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if x < -3:
        time.sleep(3600)
    return x * x


def delegate(what: Any, *args: Any) -> Any:
    """Have a daemon of this daemon do something, and wait for it."""
    from mirai_executor import mirai

    return mirai(what, *args).result()


def delegate_and_forget(what: Any, *args: Any) -> None:
    """Have a daemon of this daemon do something."""
    from mirai_executor import mirai

    mirai(what, *args)


# Ways to die, and to fail


def exit_python() -> NoReturn:
    sys.exit("enough")


def exit_at_once() -> NoReturn:
    os._exit(77)


def exit_in_c() -> None:
    ctypes.CDLL(None).exit(5)


def crash() -> None:
    ctypes.string_at(0)


def fail() -> NoReturn:
    raise ArithmeticError("on purpose")


def die_by(signum: int) -> int:
    os.kill(os.getpid(), signum)
    return signum


def close_descriptors() -> str:
    os.closerange(0, 4096)
    return "closed"


def call_and_exit(what: Any) -> NoReturn:
    what()
    os._exit(1)


def say_and_exit() -> NoReturn:
    print("my last words", file=sys.stderr)
    os._exit(9)


def die_unless_second(flag: Path) -> None:
    """Die in the first process that comes here."""
    try:
        flag.touch(exist_ok=False)
    except FileExistsError:
        return
    os._exit(1)


def die_then_stay(tally: Path) -> None:
    """Die at the first try, and do not end at the second."""
    ring(tally, "try")
    if tally.read_text() == "try\n":
        os._exit(1)
    time.sleep(600)


class SlowToShowError(Exception):
    def __str__(self) -> str:
        time.sleep(600)
        return "never"


def raise_slow_error() -> NoReturn:
    raise SlowToShowError


class SlowToDie:
    def __del__(self) -> None:
        time.sleep(600)


def leave_a_slow_finalizer() -> int:
    vars(sys.modules["__main__"])["left"] = SlowToDie()
    return 42


class AtUnpickle:
    """Does something while it is unpickled, in daemons or at the host."""

    def __init__(self, what: Any) -> None:
        self.what = what

    def __reduce__(self) -> Any:
        return call, (self.what,)


class AtPickle:
    """Does something while it is pickled."""

    def __init__(self, what: Any) -> None:
        self.what = what

    def __reduce__(self) -> Any:
        self.what()
        return AtPickle, (self.what,)


def call(what: Any) -> Any:
    return what()


def give_at_pickle(what: Any) -> AtPickle:
    return AtPickle(what)


def give_at_unpickle(what: Any) -> AtUnpickle:
    return AtUnpickle(what)


# Ways not to end


def sleep_long() -> None:
    time.sleep(600)  # ended from outside


def wait_for_ever() -> None:
    threading.Event().wait()


def loop_for_ever() -> None:
    while True:
        pass


def hold_the_gil(bell: Path) -> None:
    """Report from inside a C function that keeps the GIL."""
    ctypes.PyDLL(None).system(f"echo $$ > {bell}; exec sleep 600".encode())


def wait_for_a_lock() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def wait_for_a_child() -> None:
    subprocess.run(["sleep", "600"], check=True)


def read_a_pipe() -> bytes:
    out, into = os.pipe()
    try:
        return os.read(out, 1)
    finally:
        os.close(out)
        os.close(into)


def ring_from_c(bell: Path) -> None:
    """Report once this process has used some more processor time, whatever code it is in then."""
    signal.signal(signal.SIGVTALRM, lambda *_: None)
    # Python's own handler, which is C, writes to this descriptor at once.
    signal.set_wakeup_fd(os.open(bell, os.O_WRONLY | os.O_NONBLOCK))
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.1)


def raise_a_huge_power(bell: Path) -> None:
    ring_from_c(bell)
    decimal.getcontext().prec = decimal.MAX_PREC
    decimal.getcontext().Emax = decimal.MAX_EMAX
    _ = decimal.Decimal(7) ** (10**9)


def match_for_ever() -> None:
    re.match(r"(a+)+$", "a" * 100 + "b")


def ignore_signals_and_sleep(bell: Path) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)
    ring(bell, os.getpid())
    time.sleep(600)


def import_from(folder: Path, module: str) -> Any:
    sys.path.insert(0, str(folder))
    return importlib.import_module(module)


def look_modules_up(bell: Path) -> None:
    ring(bell)
    while True:
        importlib.import_module("json.decoder")


def spin_and_return(seconds: float, value: Any) -> Any:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return value


def sleep_and_tell(bell: Path) -> None:
    try:
        time.sleep(600)
    finally:
        ring(bell, "interrupted")


def set_in_main(name: str, value: Any) -> None:
    setattr(sys.modules["__main__"], name, value)


def look_into_main(*names: str) -> tuple[Any, ...]:
    main = vars(sys.modules["__main__"])
    return tuple(main[name] for name in names)


def look_around() -> dict[str, Any]:
    return {
        "names": sorted(vars(sys.modules["__main__"])),
        "environ": dict(os.environ),
        "cwd": os.getcwd(),  # noqa: PTH109 - what a task would call
        "path": list(sys.path),
        "argv": list(sys.argv),
        "filters": list(warnings.filters),
        "handlers": [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGALRM)],
        "level": logging.root.level,
    }


def make_a_mess(folder: str) -> None:
    vars(sys.modules["__main__"])["invented"] = 1
    os.environ["INVENTED"] = "1"
    os.environ.pop("PATH", None)
    os.chdir(folder)
    sys.path.insert(0, folder)
    sys.argv.append("mess")
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    logging.root.setLevel(1)


def look_around_and_wander(_: int) -> tuple[str, object]:
    """Return what the task before could have left, having left the same."""
    seen = os.getcwd(), signal.getsignal(signal.SIGTERM)  # noqa: PTH109 - as above
    os.chdir("/")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return seen


_libc = ctypes.CDLL(None)


def wander_in_c(_: int) -> int:
    """Change the directory behind Python's back, in a few microseconds."""
    status: int = _libc.chdir(b"/")
    return status


def count_and_return_pid(tally: Path, name: str) -> int:
    ring(tally, name)
    return os.getpid()


def read_stdin() -> str:
    return sys.stdin.read()


def flood_from_a_child(size: int) -> int:
    """Return the exit status of a child that writes so many bytes to its standard error."""
    write = f"import os; [os.write(2, b'x' * 1000) for _ in range({size // 1000})]"
    return subprocess.run([sys.executable, "-c", write], check=False).returncode


def leave_a_flooding_child(bell: Path) -> NoReturn:
    """Die, and leave a child in a session of its own that writes to our standard error."""
    write = f"""
import os
with open({str(bell)!r}, "w") as bell:
    print(os.getpid(), file=bell)
while True:
    try:
        os.write(2, b"x" * 60000)
    except BlockingIOError:
        pass
"""
    child = subprocess.Popen([sys.executable, "-c", write], start_new_session=True)
    select.select([], [], [], 0.3)  # let it flood for a while
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError(child)


def wait_for(seconds: float) -> None:
    """Let time pass, where the passing of time itself is the test."""
    threading.Event().wait(seconds)


def by_value() -> Any:
    """Return a function that travels with its code."""
    return lambda: 42


def ring_wait_and_count(bell: Path, gate: Path, tally: Path, name: str) -> None:
    ring(bell)
    gate.read_bytes()
    ring(tally, name)


def wait_for_end(pidfd: int) -> None:
    """At the host: wait until a process has ended."""
    if not select.select([pidfd], [], [], SOON)[0]:
        raise TimeoutError("the process goes on")


def swallow_everything(bell: Path) -> None:
    while True:
        try:
            ring(bell, os.getpid())
            time.sleep(600)
        except BaseException:
            ring(bell, "swallowed")


def swallow_once(bell: Path) -> str:
    with contextlib.suppress(KeyboardInterrupt):
        ring(bell, os.getpid())
        time.sleep(600)
    return "went on"


def block_until_open(gate: Path) -> bytes:
    return gate.read_bytes()


def fork_and(parent: Any, child_bell: Path) -> Any:
    """Fork; the child reports its pid and stays until it is killed."""
    pid = os.fork()
    if pid == 0:
        ring(child_bell, os.getpid())
        signal.pause()
        os._exit(0)
    return parent()


def fork_and_return(bell: Path) -> int:
    """Fork; the child returns from the task, too."""
    me = os.getpid()
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
    ring(bell, "parent" if os.getpid() == me else "child")
    return os.getpid()


def request() -> Any:
    return REQUEST.get()


def leave_a_thread_and(what: Any) -> Any:
    """Start a thread that nobody joins and that never ends."""
    threading.Thread(target=signal.sigwait, args=({signal.SIGUSR1},)).start()
    return what()


def leave_open(connection: "Connection") -> None:
    """Use an executor in a child of multiprocessing, and end without a shutdown."""
    from mirai_executor import MiraiExecutor

    executor = MiraiExecutor(1)
    connection.send(executor.submit(abs, -1).result(SOON))
    executor.submit(connection.send, "the last").add_done_callback(lambda _: executor.size)
