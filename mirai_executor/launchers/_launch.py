"""Runs what launchers have planned, in parallel; if one part fails, the others are stopped."""

import contextlib
import os
import selectors
import signal
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import IO, assert_never

from mirai_executor import _nameless
from mirai_executor._texts import hide, printable
from mirai_executor._waiting import Deadline
from mirai_executor.errors import LaunchError

from ._daemon import STARTED, Command, HttpRequest, Submission, Until, environment_for
from ._files import write
from ._http import confidential_parts
from ._jobs import Job, JobRequest, cancel_at_engines, submit
from ._queue import QueuedJob, cancel_jobs

_SIDE_BY_SIDE = 32
_LAST_WORDS = 4096  # bytes
_LAST_LINE = 1000  # characters
_STARTED = STARTED.encode()


@dataclass(frozen=True)
class Launched:
    """The outcome of a submission.

    Args:
        process: The command, if it runs as long as its daemons; it stalls unless its ``stderr``
            is read.
        output: What the command printed or the service answered, such as the number of a job.
        jobs: What an engine has accepted.
        queued: The job that it has put into a queue, if its id is known.
        error: Why it has failed, where that was tolerated.
    """

    process: "subprocess.Popen[bytes] | None" = None
    output: str = ""
    jobs: "tuple[Job, ...]" = ()
    queued: QueuedJob | None = field(default=None, compare=False)  # which follows from the output
    error: LaunchError | None = None


@dataclass
class _Started:
    """The processes and jobs of one launch, and whether no more may be started."""

    processes: "list[subprocess.Popen[bytes]]" = field(default_factory=list)
    jobs: "list[Job]" = field(default_factory=list)
    queued: list[QueuedJob] = field(default_factory=list)
    is_over: bool = False

    def stop(self) -> None:
        self.is_over = True
        for process in list(self.processes):
            _kill(process)
        jobs, self.jobs = self.jobs, []
        cancel_at_engines(jobs)

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
            standard error. Then commands that keep running are stopped, and jobs are cancelled:
            those of engines, and those in queues whose ids are known.
    """
    if not submissions:
        return []
    _nameless.occupy_streams()  # the program may have closed them
    started, deadline = _Started(), Deadline(timeout)
    try:
        return _side_by_side(submissions, started, deadline, tolerate)
    except BaseException as error:  # Ctrl-C too
        started.close()
        if _is_lack_of_threads(error):
            raise LaunchError(f"cannot start daemons: {error} (see ulimit -u)") from error
        raise


def _is_lack_of_threads(error: BaseException) -> bool:
    """Tell whether a limit of the system was reached; else a RuntimeError is that of an end."""
    return isinstance(error, RuntimeError) and "can't start new thread" in str(error)


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
            pool.shutdown()
            cancel_jobs(started.queued)
            raise
    failures = [error for future in futures if (error := future.exception())]
    bearable = len(futures) - 1 if tolerate is None else min(tolerate, len(futures) - 1)
    if len(failures) > bearable or not all(isinstance(it, LaunchError) for it in failures):
        started.stop()
        cancel_jobs(started.queued)
        raise _first(failures)
    return [_outcome(future) for future in futures]


def _outcome(future: "Future[Launched]") -> Launched:
    error = future.exception()
    return Launched(error=error) if isinstance(error, LaunchError) else future.result()


def _first(failures: Sequence[BaseException]) -> BaseException:
    error = failures[0]
    if isinstance(error, Exception) and not isinstance(error, LaunchError):
        cause, error = error, LaunchError(f"cannot start daemons: {type(error).__name__}: {error}")
        error.__cause__ = cause
    if len(failures) > 1 and isinstance(error, LaunchError):
        error.args = (f"{error} (and {len(failures) - 1} more like it)",)
    return error


def _run(submission: Submission, started: _Started, deadline: Deadline) -> Launched:
    if isinstance(submission, HttpRequest):
        return _request(submission, deadline)
    if isinstance(submission, JobRequest):
        return _submit(submission, started, deadline)
    for file in submission.files:
        write(file)
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


def _submit(request: JobRequest, started: _Started, deadline: Deadline) -> Launched:
    jobs = submit(request, max(0.1, deadline.left))
    started.jobs.extend(jobs)
    if started.is_over:
        started.stop()
    return Launched(jobs=jobs)


def _run_to_its_end(command: Command, started: _Started, deadline: Deadline) -> Launched:
    # Files, not pipes: what the command leaves running may hold its streams open for ever.
    with _input(command) as stdin, _memory() as out, _memory() as err:
        process = _popen(command, started, stdin, err, stdout=out)
        try:
            code = process.wait(deadline.left)
        except subprocess.TimeoutExpired:
            _kill(process)
            raise _failure(command, None, "did not finish in time", _tail(err)) from None
        said = _tail(out)
        queued = _queued(command, said)
        # One that was killed since the launch is over may have told the id of its job before.
        if queued is not None and (code == 0 or started.is_over):
            started.queued.append(queued)
        if code != 0:
            raise _failure(command, code, _exit(code), _tail(err) or said)
        return Launched(output=hide(said, [command.secret]), queued=queued)


def _queued(command: Command, said: str) -> QueuedJob | None:
    return None if command.queue is None else command.queue.job_in(said)


def _run_until_started(command: Command, started: _Started, deadline: Deadline) -> Launched:
    with _memory() as out:  # a daemon needs nothing of it, but a login may say there why it fails
        with _input(command) as stdin:
            process = _popen(command, started, stdin, subprocess.PIPE, stdout=out)
        said, refusal = b"", command.refusal.encode()
        for piece in _pieces(process, deadline):
            said += piece
            if refusal and refusal in said:
                break
            if _STARTED in said:
                rest = _text(said.partition(_STARTED)[2].lstrip(b"\r\n"))
                return Launched(process, hide(rest, [command.secret]))
            said = said[-_LAST_WORDS:]
        raise _not_started(command, process, deadline, _tail(out), said)


def _not_started(
    command: Command,
    process: "subprocess.Popen[bytes]",
    deadline: Deadline,
    out: str,
    said: bytes,
) -> LaunchError:
    """End a command that has started no daemons, and return why."""
    code = process.poll()
    refused = command.refusal.encode() in said if command.refusal else False
    if code is None and not refused:  # its time is over, or it has closed the stream
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(min(1.0, deadline.left))
    _kill(process)
    _close(process)
    why = "was refused" if refused else "did not start the daemons in time"
    before = f"{out.rstrip()}\n" if out.strip() else ""
    return _failure(command, code, why if code is None else _exit(code), before + _text(said))


def _pieces(process: "subprocess.Popen[bytes]", deadline: Deadline) -> Iterator[bytes]:
    """Yield what comes over standard error, until it ends or the time is over."""
    assert process.stderr is not None  # noqa: S101 - for the type checker
    fd = process.stderr.fileno()
    while deadline.wait_for(fd, selectors.EVENT_READ) and (piece := os.read(fd, 65536)):
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
            env=environment_for(dict(command.environment)),
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


def stop(started: "Sequence[subprocess.Popen[bytes] | Job]") -> None:
    """End commands and jobs that would run as long as their daemons, and those with them."""
    jobs: list[Job] = []
    for one in started:
        if isinstance(one, subprocess.Popen):
            _kill(one)
            _close(one)
        else:
            jobs.append(one)
    cancel_at_engines(jobs)


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
    said = hide(stderr, [command.secret])
    lines = said.strip().splitlines()
    # SSH's, of a new host key, say nothing of why it has failed.
    telling = [line for line in lines if not line.startswith("Warning: Perm")] or lines
    last = f"; last output: {printable(telling[-1], _LAST_LINE)}" if telling else ""
    return LaunchError(
        f"{command.argv[0]} {why}{last}",
        command=tuple(hide(word, [command.secret]) for word in command.argv),
        exitcode=code,
        stderr=said,
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


def _request(request: HttpRequest, deadline: Deadline) -> Launched:
    from ._urllib import send  # it imports http and ssl

    confidential = confidential_parts(request)
    try:
        return Launched(output=hide(send(request, deadline), confidential))
    except Exception as error:
        # Whatever a service may send, and http.client think of it.
        why = str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        failure = LaunchError(
            f"{request.method} {request.place} failed: "
            f"{printable(hide(why, confidential), _LAST_LINE)}",
            command=(request.method, request.place),
            stderr=hide(getattr(error, "body", ""), confidential),
        )
    raise failure  # not from the other, which may quote what is confidential
