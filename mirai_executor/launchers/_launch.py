"""Runs what launchers have planned, in parallel; if one part fails, the others are stopped."""

import contextlib
import os
import selectors
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, assert_never
from urllib.parse import urlsplit

from mirai_executor import _nameless
from mirai_executor._waiting import Deadline
from mirai_executor.errors import LaunchError

from ._daemon import STARTED, Command, HttpRequest, PrivateFile, Submission, Until
from ._queue import Job, cancel_jobs

__all__ = ["Launched", "launch", "stop"]

_SIDE_BY_SIDE = 32
_LAST_WORDS = 4096  # bytes
_STARTED = STARTED.encode()


@dataclass(frozen=True)
class Launched:
    """The outcome of a submission.

    Args:
        process: The command, if it runs as long as its daemons; it stalls unless its ``stderr``
            is read.
        output: What the command printed or the service answered, such as the number of a job.
        job: The job that it has put into a queue, if its id is known.
        error: Why it has failed, where that was tolerated.
    """

    process: "subprocess.Popen[bytes] | None" = None
    output: str = ""
    job: Job | None = field(default=None, compare=False)  # which follows from the output
    error: LaunchError | None = None


@dataclass
class _Started:
    """The processes of one launch, and whether no more may be started."""

    processes: "list[subprocess.Popen[bytes]]" = field(default_factory=list)
    is_over: bool = False

    def stop(self) -> None:
        self.is_over = True
        for process in list(self.processes):
            _kill(process)

    def close(self) -> None:
        """Close what was left to read, once no thread reads it."""
        for process in self.processes:
            _close(process)


def launch(
    submissions: Sequence[Submission], timeout: float = 60.0, tolerate: int | None = 0
) -> list[Launched]:
    """Run the submissions in parallel. Returns once daemons are requested, not once they come.

    Args:
        submissions: What a launcher has planned.
        timeout: How long all of it may take, in seconds.
        tolerate: How many may fail without that being an error, as long as one does not; None for
            any number.

    Raises:
        LaunchError: Too many failed; the error has the command of one, its exit status and its
            standard error. Then commands that keep running are stopped, and jobs are cancelled
            whose ids are known.
    """
    if not submissions:
        return []
    started, deadline = _Started(), Deadline(timeout)
    try:
        return _side_by_side(submissions, started, deadline, tolerate)
    except BaseException:  # Ctrl-C too
        started.close()
        raise


def _side_by_side(
    submissions: Sequence[Submission],
    started: _Started,
    deadline: Deadline,
    tolerate: int | None,
) -> list[Launched]:
    with ThreadPoolExecutor(min(len(submissions), _SIDE_BY_SIDE), "mirai-launch") as pool:
        try:
            futures = [pool.submit(_run, one, started, deadline) for one in submissions]
            wait(futures)
        except BaseException:  # Ctrl-C; the threads wait for what is stopped here
            pool.shutdown(wait=False, cancel_futures=True)
            started.stop()
            raise
    failures = [error for future in futures if (error := future.exception())]
    bearable = len(futures) - 1 if tolerate is None else min(tolerate, len(futures) - 1)
    if len(failures) > bearable or not all(isinstance(it, LaunchError) for it in failures):
        started.stop()
        done = [future.result() for future in futures if not future.exception()]
        cancel_jobs([one.job for one in done if one.job is not None])
        raise _first(failures)
    return [_outcome(future) for future in futures]


def _outcome(future: "Future[Launched]") -> Launched:
    error = future.exception()
    return Launched(error=error) if isinstance(error, LaunchError) else future.result()


def _first(failures: Sequence[BaseException]) -> BaseException:
    error = failures[0]
    if len(failures) > 1 and isinstance(error, LaunchError):
        error.args = (f"{error} (and {len(failures) - 1} more like it)",)
    return error


def _run(submission: Submission, started: _Started, deadline: Deadline) -> Launched:
    if isinstance(submission, HttpRequest):
        return _request(submission, deadline)
    for file in submission.files:
        _write(file)
    match submission.until:
        case Until.EXIT:
            return _run_to_its_end(submission, started, deadline)
        case Until.STARTED_LINE:
            return _run_until_started(submission, started, deadline)
        case Until.START:
            with _input(submission) as stdin:
                # What its tasks print appears where this process prints.
                return Launched(_popen(submission, started, stdin, subprocess.PIPE, stdout=None))
        case unknown:
            assert_never(unknown)


def _run_to_its_end(command: Command, started: _Started, deadline: Deadline) -> Launched:
    # Files, not pipes: what the command leaves running may hold its streams open for ever.
    with _input(command) as stdin, _memory() as out, _memory() as err:
        process = _popen(command, started, stdin, err, stdout=out)
        try:
            code = process.wait(deadline.left)
        except subprocess.TimeoutExpired:
            _kill(process)
            raise _failure(command, None, "did not finish in time", _tail(err)) from None
        if code != 0:
            raise _failure(command, code, _exit(code), _tail(err) or _tail(out))
        said = _tail(out)
        return Launched(output=said, job=_job(command, said))


def _job(command: Command, said: str) -> Job | None:
    found = "" if command.queue is None else command.queue.id_in(said)
    return Job(command.queue, found) if command.queue is not None and found else None


def _run_until_started(command: Command, started: _Started, deadline: Deadline) -> Launched:
    with _input(command) as stdin:
        process = _popen(command, started, stdin, subprocess.PIPE)
    said = b""
    for piece in _pieces(process, deadline):
        said += piece
        if _STARTED in said:
            return Launched(process, _text(said.partition(_STARTED)[2].lstrip(b"\r\n")))
        said = said[-_LAST_WORDS:]
    code = process.poll()
    if code is None:  # its time is over, or it has closed the stream
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(min(1.0, deadline.left))
    _kill(process)
    _close(process)
    why = "did not start the daemons in time" if code is None else _exit(code)
    raise _failure(command, code, why, _text(said))


def _pieces(process: "subprocess.Popen[bytes]", deadline: Deadline) -> Iterator[bytes]:
    """Yield what comes over standard error, until it ends or the time is over."""
    assert process.stderr is not None  # noqa: S101 - for the type checker
    with selectors.DefaultSelector() as selector:
        selector.register(process.stderr, selectors.EVENT_READ)
        while selector.select(deadline.left):
            piece = os.read(process.stderr.fileno(), 65536)
            if not piece:
                return
            yield piece


def _popen(
    command: Command,
    started: _Started,
    stdin: IO[bytes],
    stderr: int | IO[bytes],
    stdout: int | IO[bytes] | None = subprocess.DEVNULL,
) -> "subprocess.Popen[bytes]":
    if started.is_over:
        raise LaunchError("the launch was abandoned", command=command.argv)
    try:
        process = subprocess.Popen(
            command.argv,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            bufsize=0,
            env={**os.environ, **dict(command.environment)},
            start_new_session=True,  # a terminal's Ctrl-C is the host's business alone
        )
    except OSError as error:
        raise LaunchError(
            f"cannot run {command.argv[0]}: {error}", command=command.argv
        ) from error
    started.processes.append(process)
    if started.is_over:
        _kill(process)
    return process


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End a command that would run as long as its daemons, and those with it."""
    _kill(process)
    _close(process)


def _kill(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _close(process: "subprocess.Popen[bytes]") -> None:
    if process.stderr is not None:
        process.stderr.close()


def _exit(code: int) -> str:
    return f"was killed by signal {-code}" if code < 0 else f"failed with exit status {code}"


def _failure(command: Command, code: int | None, why: str, stderr: str) -> LaunchError:
    def clean(text: str) -> str:
        return text.replace(command.secret, "***") if command.secret else text

    said = clean(stderr).strip()
    return LaunchError(
        f"{command.argv[0]} {why}{f'; last output: {said.splitlines()[-1]}' if said else ''}",
        command=tuple(map(clean, command.argv)),
        exitcode=code,
        stderr=clean(stderr),
    )


def _input(command: Command) -> IO[bytes]:
    """Return a file that holds a command's input: unlike a pipe, it never fills up."""
    file = _memory()
    file.write(command.stdin)
    file.seek(0)
    return file


def _memory() -> IO[bytes]:
    return os.fdopen(_nameless.create("mirai-launch"), "w+b", buffering=0)


def _tail(file: IO[bytes]) -> str:
    size = os.fstat(file.fileno()).st_size
    return _text(os.pread(file.fileno(), _LAST_WORDS, max(0, size - _LAST_WORDS)))


def _text(data: bytes) -> str:
    return data[-_LAST_WORDS:].decode("utf-8", "replace")


def _write(file: PrivateFile) -> None:
    """Put the file there, whole and readable to this user alone, or as it was."""
    try:
        number, name = tempfile.mkstemp(dir=file.path.parent, prefix=".mirai-")
        with os.fdopen(number, "w") as out:
            out.write(file.text)
        Path(name).replace(file.path)
    except OSError as error:
        raise LaunchError(f"cannot write {file.path}: {error}") from error


def _request(request: HttpRequest, deadline: Deadline) -> Launched:
    from ._urllib import send  # it imports http and ssl

    plain = urlsplit(request.url)._replace(query="", fragment="").geturl()
    try:
        return Launched(output=send(request, max(0.1, deadline.left)))
    except (OSError, ValueError) as error:
        said = getattr(error, "body", "").replace(request.secret, "***")
        raise LaunchError(
            f"{request.method} {plain} failed: {error}",
            command=(request.method, plain),
            stderr=said,
        ) from error
