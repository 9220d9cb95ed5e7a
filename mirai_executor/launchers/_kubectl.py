"""Creates a Job of Kubernetes, follows it, and deletes it, all by kubectl."""

from __future__ import annotations

import contextlib
import json
import secrets
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future

from mirai_executor._waiting import OneShotEvent
from mirai_executor.errors import LaunchError

_PATIENCE = 20.0  # seconds for a call that asks or deletes
_PAUSE = 5.0  # seconds before a watch that was cut off is begun again
# A line each time that the Job changes: its conditions, once there are some, and why.
_CONDITIONS = (
    'jsonpath={range .status.conditions[*]}{.type}={.status}:{.reason}: {.message};{end}{"\\n"}'
)


def submit(
    timeout: float, name: str, command: Sequence[str], job: str, secret: str
) -> KubernetesJob:
    """Create the Job, and the Secret that its pods wait for.

    Raises:
        LaunchError: kubectl has failed, with its words.
    """
    ours = f"mirai-{secrets.token_hex(5)}"
    made = _run(command, ("create", "-f", "-", "-o", "json"), timeout, job.replace("{name}", ours))
    uid = json.loads(made)["metadata"]["uid"]
    try:
        filled = secret.replace("{name}", ours).replace("{uid}", uid)
        # Named, not shown: its answer would hold the secret.
        _run(command, ("create", "-f", "-", "-o", "name"), timeout, filled)
    except BaseException:
        with contextlib.suppress(LaunchError):
            _delete(command, ours)
        raise
    return KubernetesJob(name, command, ours)


class KubernetesJob:
    """A Job that has been created. Safe from any thread.

    Args:
        name: The engine, as messages call it.
        command: What runs kubectl.
        job: The name of the Job.
    """

    def __init__(self, name: str, command: Sequence[str], job: str) -> None:
        self._name = name
        self._command = command
        self._job = job
        self._failed: str | None = None
        self._is_cancelled = OneShotEvent()
        self._watch: subprocess.Popen[bytes] | None = None
        self._done: Future[None] = Future()
        self._thread = threading.Thread(target=self._follow, name="mirai-kubectl", daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        try:
            while not self._is_cancelled.has_come and not self._sees_its_end():
                # The watch was cut off, as API servers do from time to time.
                self._is_cancelled.wait(_PAUSE)
        finally:
            self._done.set_result(None)

    def _sees_its_end(self) -> bool:
        """Watch the Job as long as the server lets us; return whether it has ended."""
        words = ("get", "job", self._job, "--watch", "-o", _CONDITIONS)
        try:
            self._watch = watch = _popen(self._command, words, subprocess.DEVNULL)
            if self._is_cancelled.has_come:  # meanwhile, and this one was not there to be killed
                watch.kill()
            with watch, _killed(watch):
                for line in watch.stdout or ():
                    if self._has_ended(line.decode("utf-8", "replace").strip()):
                        return True
            words = ("get", "job", self._job, "--ignore-not-found", "-o", "name")
            if self._is_cancelled.has_come or _run(self._command, words, _PATIENCE):
                return False
        except LaunchError:  # the server does not answer: perhaps it will
            return False
        self._failed = f"{self._name}: job {self._job} has been deleted"
        return True

    def _has_ended(self, conditions: str) -> bool:
        for condition in conditions.split(";"):
            kind, _, why = condition.partition("=True:")
            if kind == "Failed":
                self._failed = f"{self._name}: job {self._job} has failed: {why}"
            if kind in ("Failed", "Complete"):
                return True
        return False

    def cancel(self) -> None:
        """Delete the Job, and with it its pods and its Secret."""
        self._is_cancelled.come()
        if self._watch is not None:
            self._watch.kill()
        _delete(self._command, self._job)
        self._thread.join(_PATIENCE)

    def failed(self) -> str | None:
        """Return why the Job has failed, as Kubernetes says."""
        return self._failed

    def add_done_callback(self, callback: Callable[[], object]) -> None:
        """Have this called when the Job has ended, or cannot be followed any more."""
        self._done.add_done_callback(lambda _: callback())


@contextlib.contextmanager
def _killed(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        process.kill()


def _delete(command: Sequence[str], job: str) -> None:
    words = ("delete", "job", job, "--ignore-not-found", "--wait=false")
    _run(command, (*words, "--cascade=background"), _PATIENCE)


def _run(command: Sequence[str], words: Sequence[str], timeout: float, manifest: str = "") -> str:
    """Run kubectl, and return what it prints.

    Raises:
        LaunchError: It has failed, or did not finish in time.
    """
    process = _popen(command, words, subprocess.PIPE, subprocess.PIPE)
    try:
        out, err = process.communicate(manifest.encode(), timeout)
    except BaseException as error:
        process.kill()
        process.communicate()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        why = f"{command[0]} {words[0]} did not finish in {timeout:.3g} s"
        raise LaunchError(why, command=(*command, *words)) from None
    if process.returncode != 0:
        said = err.decode("utf-8", "replace").strip()
        last = said.splitlines()[-1] if said else f"exit status {process.returncode}"
        raise LaunchError(
            f"{command[0]} {words[0]} failed: {last}",
            command=(*command, *words),
            exitcode=process.returncode,
            stderr=said,
        )
    return out.decode()


def _popen(
    command: Sequence[str], words: Sequence[str], stdin: int, stderr: int = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            (*command, *words),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,  # a terminal's Ctrl-C is the host's business alone
        )
    except OSError as error:
        raise LaunchError(f"cannot run {command[0]}: {error}", command=tuple(command)) from error
