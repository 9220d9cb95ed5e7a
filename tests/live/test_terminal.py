"""Tasks ask at the terminal of their host, and get what is typed there."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from live.hosts import GONE, PATIENCE, Script, script
from live.terminals import SHELL, Terminal
from mirai_executor._local import end_group

pytestmark = pytest.mark.local_link("daemons elsewhere do not have the terminal of their host")

# What scripts begin with. A task that is announced says when its daemon waits for its turn, and
# when it comes to the front.
TASKS = '''
    import fcntl, getpass, multiprocessing, subprocess

    def announced(task, *args):
        real = os.setpgid, os.killpg, fcntl.flock

        def setpgid(pid, group):
            real[0](pid, group)
            if group:
                say("front", os.getpid())

        def killpg(group, number):
            real[1](group, number)
            if (group, number) == (os.getpid(), signal.SIGCONT):
                say("front", os.getpid())

        def flock(fd, operation):
            if operation == fcntl.LOCK_EX:
                say("waits", os.getpid())
            real[2](fd, operation)

        os.setpgid, os.killpg, fcntl.flock = setpgid, killpg, flock
        try:
            return task(*args)
        finally:
            os.setpgid, os.killpg, fcntl.flock = real

    def by_itself(_=0):
        with open("/dev/tty") as terminal:
            return terminal.readline()

    def in_a_thread(_=0):
        lines = []
        thread = threading.Thread(target=lambda: lines.append(by_itself()))
        thread.start()
        thread.join()
        return lines[0]

    def by_a_program(_=0):
        read = "import sys; sys.stdout.write(open('/dev/tty').readline())"
        return subprocess.check_output([sys.executable, "-c", read], text=True)

    def by_a_program_that_stops_itself(_=0):
        # As ssh does, which first turns the echo on again; here, after it was told to go on.
        read = """if True:
            import os, signal, sys
            def on_read(number, _):
                signal.sigwait([signal.SIGCONT])
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCONT])
            signal.signal(signal.SIGTTIN, on_read)
            sys.stdout.write(open("/dev/tty").readline())
        """
        return subprocess.check_output([sys.executable, "-c", read], text=True)

    def by_a_fork(_=0):
        reads, writes = os.pipe()
        if (child := os.fork()) == 0:
            os.write(writes, by_itself().encode())
            os._exit(0)
        os.close(writes)
        os.waitpid(child, 0)
        return os.read(reads, 100).decode()

    def password(n=0):
        return getpass.getpass(f"secret {n}? ")
'''
WAYS = ["by_itself", "in_a_thread", "by_a_program", "by_a_fork"]


@contextmanager
def at_a_terminal(code: str) -> Iterator[tuple[Terminal, Script]]:
    with Terminal() as terminal, script(TASKS + code, **terminal.options) as host:
        yield terminal, host


def daemon_in_front(host: Script, status: str = psutil.STATUS_SLEEPING) -> psutil.Process:
    """Wait until a daemon has come to the front, and has a status: asleep as it reads."""
    word, pid = host.line().split()
    assert word == "front"
    daemon = psutil.Process(int(pid))
    wait_for(daemon, status)
    return daemon


def next_line(host: Script) -> str:
    """Return the next line that does not tell of a daemon which comes to the front once more."""
    while (line := host.line()).startswith("front"):
        pass
    return line


def wait_for(process: psutil.Process, status: str) -> None:
    while process.status() != status:
        pass


@pytest.mark.parametrize("way", [*WAYS, "by_a_program_that_stops_itself"])
def test_a_task_reads_what_is_typed_at_the_terminal(way: str) -> None:
    code = f"""
    with MiraiExecutor(1) as executor:
        for _ in range(2):
            say("it was", executor.submit({way}).result().rstrip())
        sys.stdin.readline()  # the test has looked
    """
    with at_a_terminal(code) as (terminal, host):
        for text in ("first", "second"):
            terminal.type(f"{text}\n")
            assert host.line() == f"it was {text}"
        assert terminal.front == host.process.pid
        terminal.type("\n")
        ended = host.end()
        assert (ended.code, ended.err) == (0, "")
        assert host.leaves_nothing()


@pytest.mark.parametrize("way", ["by_itself", "by_a_program", "by_a_fork"])
def test_a_task_of_an_executor_in_a_task_reads_there_too(way: str) -> None:
    code = f"""
    def nested():
        with MiraiExecutor(1) as executor:
            return executor.submit({way}).result()

    with MiraiExecutor(1) as executor:
        for _ in range(2):
            say("it was", executor.submit(nested).result().rstrip())
        sys.stdin.readline()
    """
    with at_a_terminal(code) as (terminal, host):
        for text in ("first", "second"):
            terminal.type(f"{text}\n")
            assert host.line() == f"it was {text}"
        assert terminal.front == host.process.pid
        terminal.type("\n")
        ended = host.end()
        assert (ended.code, ended.err) == (0, "")
        assert host.leaves_nothing()


def test_a_task_writes_to_the_terminal() -> None:
    code = """
    def write():
        with open("/dev/tty", "w") as terminal:
            terminal.write("from a task")

    with MiraiExecutor(1) as executor:
        executor.submit(write).result()
    """
    with at_a_terminal(code) as (terminal, host):
        assert terminal.shown(b"from a task")
        assert host.end().code == 0


FORKED = "mp_context=multiprocessing.get_context('fork')"


@pytest.mark.parametrize("options", ["cleanup=True", FORKED, "initializer=password"])
def test_a_task_asks_for_a_password_which_the_terminal_does_not_show(options: str) -> None:
    first = 0 if "initializer" in options else 1
    code = f"""
    with MiraiExecutor(1, {options}) as executor:
        for n in range(1, 3):
            say("it was", executor.submit(password, n).result())
    """
    with at_a_terminal(code) as (terminal, host):
        for n in range(first, 3):
            assert terminal.shown(b"secret %d? " % n)
            assert not terminal.echoes
            terminal.type(f"xyz{n}\n")
            if n:
                assert host.line() == f"it was xyz{n}"
        assert host.end().code == 0
        assert terminal.echoes
        assert b"xyz" not in terminal.all_shown()


@pytest.mark.parametrize("way", [*WAYS, "password"])
def test_a_ctrl_c_while_a_task_asks_ends_host_and_task(way: str) -> None:
    code = f"""
    with MiraiExecutor(1, cancel_grace=60) as executor:
        executor.submit(announced, {way}).result()
    """
    with at_a_terminal(code) as (terminal, host):
        daemon_in_front(host)
        terminal.press_ctrl_c()
        ended = host.end()
        assert ended.code == -signal.SIGINT
        assert ended.err.endswith("\nKeyboardInterrupt\n")
        assert terminal.echoes
        assert host.leaves_nothing()


def test_once_it_has_its_answer_a_ctrl_c_is_for_the_host_alone_again(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    code = f"""
    def ask_and_go_on(gate):
        line = announced(by_itself)
        say("goes on")
        return gate.read_text() + line.rstrip()

    gate = Path({str(gate)!r})
    with MiraiExecutor(1) as executor:
        future = executor.submit(ask_and_go_on, gate)
        try:
            future.result()
        except KeyboardInterrupt:
            say("interrupted")
        gate.write_text("after all ")
        say(future.result())
    """
    with at_a_terminal(code) as (terminal, host):
        daemon_in_front(host)
        terminal.type("an answer\n")
        assert host.line() == "goes on"
        terminal.press_ctrl_c()
        assert [host.line(), host.line()] == ["interrupted", "after all an answer"]
        assert host.end().code == 0


@pytest.mark.parametrize("way", [*WAYS, "password"])
def test_a_ctrl_z_while_a_task_asks_stops_both_until_they_are_in_front_again(way: str) -> None:
    code = f"""
    {SHELL}
    with MiraiExecutor(1) as executor:
        say("it was", executor.submit(announced, {way}).result().rstrip())
    """
    with at_a_terminal(code) as (terminal, host):
        assert host.line() == "started"
        daemon = daemon_in_front(host)
        terminal.press_ctrl_z()
        assert next_line(host) == "stopped"
        assert terminal.front == host.process.pid
        wait_for(daemon, psutil.STATUS_STOPPED)
        host.kill(signal.SIGUSR1)
        terminal.type("at last\n")
        assert next_line(host) == "it was at last"
        assert host.end().code == 0


def test_a_ctrl_z_just_before_a_task_has_the_terminal_leaves_it_to_the_shell(
    tmp_path: Path,
) -> None:
    gate = tmp_path / "gate"
    code = f"""
    def slowly_lent():
        real, gate = os.tcsetpgrp, Path({os.fspath(gate)!r})

        def tcsetpgrp(fd, group):
            os.tcsetpgrp = real
            say("lends", os.getpid())
            gate.read_text()  # until the test has written to it
            real(fd, group)

        os.tcsetpgrp = tcsetpgrp
        return by_a_program()

    {SHELL}
    with MiraiExecutor(1) as executor:
        say("it was", executor.submit(slowly_lent).result().rstrip())
    """
    os.mkfifo(gate)
    with at_a_terminal(code) as (terminal, host):
        assert host.line() == "started"
        word, pid = host.line().split()
        assert word == "lends"
        terminal.press_ctrl_z()
        assert host.line() == "stopped"
        gate.write_text("go on")
        wait_for(psutil.Process(int(pid)), psutil.STATUS_STOPPED)
        assert terminal.front == host.process.pid
        host.kill(signal.SIGUSR1)
        terminal.type("at last\n")
        assert host.line() == "it was at last"
        assert host.end().code == 0


@pytest.mark.parametrize("way", WAYS)
def test_a_program_in_the_background_is_stopped_when_a_task_asks(way: str) -> None:
    code = f"""
    in_background = True
    {SHELL}
    with MiraiExecutor(1) as executor:
        say("it was", executor.submit(announced, {way}).result().rstrip())
    """
    with at_a_terminal(code) as (terminal, host):
        assert host.line() == "started"
        daemon_in_front(host, psutil.STATUS_STOPPED)
        assert next_line(host) == "stopped"
        assert terminal.front == host.process.pid  # that of the shell
        host.kill(signal.SIGUSR1)
        terminal.type("at last\n")
        assert next_line(host) == "it was at last"
        assert host.end().code == 0


@pytest.mark.parametrize("way", ["password", "by_a_program"])
def test_tasks_that_ask_at_once_have_their_turns_one_after_the_other(way: str) -> None:
    code = f"""
    def ask(n):
        return announced({way}, n).rstrip()

    with MiraiExecutor(2) as executor:
        for n in range(2):
            future = executor.submit(ask, n)
            future.add_done_callback(lambda future: say("it was", future.result()))
    """
    with at_a_terminal(code) as (terminal, host):
        (_, first), (_, second) = sorted(host.line().split() for _ in range(2))
        assert first != second
        terminal.type("xyz1\n")
        awaited = {"it was xyz1", f"front {second}"}
        while awaited:
            awaited.discard(host.line())
        terminal.type("xyz2\n")
        assert next_line(host) == "it was xyz2"
        ended = host.end()
        assert (ended.code, ended.err) == (0, "")
        assert terminal.echoes
        assert (b"xyz" in terminal.all_shown()) == (way != "password")


def test_a_task_that_is_cancelled_while_it_asks_leaves_the_terminal_as_it_was() -> None:
    code = """
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    with MiraiExecutor(1, cancel_grace=60) as executor:
        future = executor.submit(announced, password)
        signal.sigwait([signal.SIGUSR1])
        future.cancel()
        executor.submit(abs, -1).result()
        say("cancelled", future.cancelled())
        signal.sigwait([signal.SIGUSR1])
        say("it was", executor.submit(password, 1).result())
    """
    with at_a_terminal(code) as (terminal, host):
        daemon_in_front(host)
        assert not terminal.echoes
        host.kill(signal.SIGUSR1)
        assert host.line() == "cancelled True"
        assert terminal.echoes
        host.kill(signal.SIGUSR1)
        assert terminal.shown(b"secret 1? ")
        terminal.type("xyz\n")
        assert host.line() == "it was xyz"
        assert host.end().code == 0


def test_the_host_has_the_terminal_again_if_a_daemon_dies_to_which_it_was_lent() -> None:
    code = """
    with MiraiExecutor(1) as executor:
        future = executor.submit(announced, by_a_program)
        say(type(future.exception()).__name__)
        say("it was", input())
    """
    with at_a_terminal(code) as (terminal, host):
        daemon = daemon_in_front(host)
        assert terminal.front == daemon.pid
        program = daemon.children()[0]
        daemon.kill()
        assert host.line() == "DaemonLostError"
        program.wait(PATIENCE)  # or it takes what is typed along
        terminal.type("at last\n")
        assert host.line() == "it was at last"
        assert host.end().code == 0


@pytest.mark.parametrize("way", ["by_itself", "by_a_program"])
def test_a_daemon_ends_with_its_host_also_while_a_task_asks(way: str) -> None:
    code = f"""
    {SHELL}
    def ask():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # or the end of the shell would do it
        announced({way})

    with MiraiExecutor(1) as executor:
        say(os.getpid())
        executor.submit(ask).result()
    """
    with at_a_terminal(code) as (_, host):
        job = int({host.line(), host.line()}.difference({"started"}).pop())
        daemon = daemon_in_front(host)
        os.kill(job, signal.SIGKILL)
        assert host.ends([daemon.pid], GONE)
        assert host.leaves_nothing()


def test_what_a_task_has_left_reads_nothing_and_later_tasks_do(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    code = f"""
    def leave_a_reader(gate):
        def read():
            gate.read_text()
            try:
                by_itself()
            except OSError as error:
                say("error", error.errno)
        threading.Thread(target=read).start()

    gate = Path({str(gate)!r})
    with MiraiExecutor(1) as executor:
        executor.submit(leave_a_reader, gate).result()
        gate.write_text("now")
        signal.sigwait([signal.SIGUSR1])
        say("it was", executor.submit(by_itself).result().rstrip())
    """
    code = "    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n" + code
    with at_a_terminal(code) as (terminal, host):
        assert host.line() == "error 5"
        host.kill(signal.SIGUSR1)
        terminal.type("at last\n")
        assert host.line() == "it was at last"
        assert host.end().code == 0


def test_a_daemon_is_killed_also_where_it_has_left_its_group_to_what_it_has_started() -> None:
    leave = """if True:
        import os, signal, subprocess, sys
        sleeper = "import signal; signal.pause()"
        child = subprocess.Popen([sys.executable, "-c", sleeper], stdout=subprocess.DEVNULL)
        os.setpgid(0, os.getpgid(os.getppid()))
        print(child.pid, flush=True)
        signal.pause()
    """
    command = [sys.executable, "-c", leave]
    with subprocess.Popen(command, process_group=0, stdout=subprocess.PIPE) as daemon:
        assert daemon.stdout is not None
        child = psutil.Process(int(daemon.stdout.readline()))
        end_group(daemon.pid, signal.SIGKILL)
        assert daemon.wait(PATIENCE) == -signal.SIGKILL
        child.wait(PATIENCE)
