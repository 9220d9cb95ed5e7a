"""Creates a Job of Kubernetes, follows its pods, and deletes what nobody needs, all by kubectl."""

from __future__ import annotations

import contextlib
import functools
import json
import secrets
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError

from mirai_executor._texts import printable
from mirai_executor._waiting import OneShotEvent
from mirai_executor.errors import LaunchError

_PATIENCE = 20.0  # seconds for a call that asks or deletes
_LAST_LINE = 1000  # characters
_PAUSE = 5.0  # seconds before a watch that was cut off is begun again
_COLLECT = 0.2  # seconds in which pods that nobody needs are put together: one call for all
_INDEX = "batch.kubernetes.io/job-completion-index"  # a label of pods
# A line each time that the Job changes: which pods have ended, and what is said of all.
_STATUS = (
    "jsonpath={.status.completedIndexes}|{.status.failedIndexes}|"
    '{range .status.conditions[*]}{.type}={.status}:{.reason}: {.message};{end}{"\\n"}'
)


def submit(
    timeout: float, name: str, command: Sequence[str], job: str, secret: str
) -> list[KubernetesPod]:
    """Create the Job, and the Secret that its pods wait for; return its pods.

    Raises:
        LaunchError: kubectl has failed, with its words.
    """
    ours = f"mirai-{secrets.token_hex(5)}"
    try:
        filled = job.replace("{name}", ours)
        made = _run(command, ("create", "-f", "-", "-o", "json"), timeout, filled)
        uid = json.loads(made)["metadata"]["uid"]
        filled = secret.replace("{name}", ours).replace("{uid}", uid)
        # Named, not shown: its answer would hold the secret.
        _run(command, ("create", "-f", "-", "-o", "name"), timeout, filled)
        return KubernetesJob(name, command, ours, json.loads(job)["spec"]["parallelism"]).pods
    except BaseException:  # an answer that comes too late may be that of a Job that is there
        with contextlib.suppress(LaunchError):
            _delete(command, ours)
        raise


class KubernetesPod:
    """One of the pods of a Job, a daemon. Safe from any thread.

    Args:
        cancel: Deletes it, and returns once that is done.
    """

    def __init__(self, cancel: Callable[[], object]) -> None:
        self._cancel = cancel
        self._failed: str | None = None
        self._done: Future[None] = Future()

    @property
    def has_ended(self) -> bool:
        """Whether it neither waits nor runs."""
        return self._done.done()

    def end(self, failed: str | None = None) -> None:
        """Take in that it has ended, and why if that is a failure; once more is no error."""
        if not self.has_ended:
            self._failed = failed
            with contextlib.suppress(InvalidStateError):
                self._done.set_result(None)

    def cancel(self) -> None:
        """Delete it; with the last one, the Job and its Secret go, too."""
        self._cancel()

    def failed(self) -> str | None:
        """Return why it has failed, as Kubernetes and the pod say."""
        return self._failed

    def add_done_callback(self, callback: Callable[[], object]) -> None:
        """Have this called when it has ended, or cannot be followed any more."""
        self._done.add_done_callback(lambda _: callback())


class KubernetesJob:
    """A Job that has been created, and what becomes of its pods. Safe from any thread.

    Args:
        name: The engine, as messages call it.
        command: What runs kubectl.
        job: The name of the Job.
        count: How many pods it has.
    """

    def __init__(self, name: str, command: Sequence[str], job: str, count: int) -> None:
        self._name = name
        self._command = command
        self._job = job
        self.pods = [KubernetesPod(functools.partial(self.cancel, n)) for n in range(count)]
        # Guards the next two: one that cancels a pod may find another that takes it along.
        self._lock = threading.Lock()
        self._unwanted: set[int] = set()
        self._canceller: Future[None] | None = None
        self._all_are_unwanted = OneShotEvent()
        self._is_over = OneShotEvent()
        self._watch: subprocess.Popen[bytes] | None = None
        threading.Thread(target=self._follow, name="mirai-kubectl", daemon=True).start()

    def _open(self) -> set[int]:
        return {number for number, pod in enumerate(self.pods) if not pod.has_ended}

    # Following

    def _follow(self) -> None:
        try:
            while not self._is_over.has_come and not self._sees_its_end():
                # The watch was cut off, as API servers do from time to time.
                self._is_over.wait(_PAUSE)
        finally:
            for pod in self.pods:
                pod.end()

    def _sees_its_end(self) -> bool:
        """Watch the Job as long as the server lets us; return whether all of it has ended."""
        words = ("get", "job", self._job, "--watch", "-o", _STATUS)
        try:
            self._watch = watch = _popen(self._command, words, subprocess.DEVNULL)
            if self._is_over.has_come:  # meanwhile, and this one was not there to be killed
                watch.kill()
            with watch, _killed(watch):
                for line in watch.stdout or ():
                    self._take_in(line.decode("utf-8", "replace").strip())
                    if not self._open():
                        return True
            words = ("get", "job", self._job, "--ignore-not-found", "-o", "name")
            if self._is_over.has_come or _run(self._command, words, _PATIENCE):
                return False
        except LaunchError:  # the server does not answer: perhaps it will
            return False
        for pod in self.pods:
            pod.end(f"{self._name}: job {self._job} has been deleted")
        return True

    def _take_in(self, status: str) -> None:
        completed, failed, conditions = (*status.split("|", 2), "", "")[:3]
        for number in _numbers(completed) & self._open():
            self.pods[number].end()
        if new := _numbers(failed) & self._open():
            said = self._last_words(new)
            for number in new:
                why = f"{self._name}: pod {number} of job {self._job} has failed"
                self.pods[number].end(why + said.get(number, ""))
        for condition in conditions.split(";"):
            kind, _, why = condition.partition("=True:")
            if kind in ("Failed", "Complete"):
                text = f"{self._name}: job {self._job} has failed: {why}"
                for pod in self.pods:
                    pod.end(text if kind == "Failed" else None)

    def _last_words(self, numbers: set[int]) -> dict[int, str]:
        """Return the last line that each of these pods has said, as far as we may know it."""
        found = {}
        with contextlib.suppress(LaunchError, ValueError, KeyError, TypeError):
            words = ("get", "pods", *self._select(numbers), "-o", "json")
            for pod in json.loads(_run(self._command, words, _PATIENCE))["items"]:
                states = pod["status"].get("containerStatuses", [])
                said = [it["state"].get("terminated", {}).get("message", "") for it in states]
                if lines := "\n".join(said).strip().splitlines():
                    number = int(pod["metadata"]["labels"][_INDEX])
                    found[number] = f"; last output: {printable(lines[-1], _LAST_LINE)}"
        return found

    def _select(self, numbers: set[int]) -> tuple[str, str]:
        those = ",".join(map(str, sorted(numbers)))
        return "-l", f"job-name={self._job},{_INDEX} in ({those})"

    # Cancelling

    def cancel(self, number: int) -> None:
        """Delete a pod, and with the last one the Job.

        Raises:
            LaunchError: kubectl has failed, with its words.
        """
        with self._lock:
            if self.pods[number].has_ended:
                return
            self._unwanted.add(number)
            if self._open() <= self._unwanted:
                self._all_are_unwanted.come()
            if (canceller := self._canceller) is None:
                self._canceller = canceller = Future()
                thread = threading.Thread(target=self._cancel, args=(canceller,), daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # the system has no room for it: who comes next tries again
                    self._canceller = None
                    raise
        canceller.result(_COLLECT + 2 * _PATIENCE)

    def _cancel(self, canceller: Future[None]) -> None:
        self._all_are_unwanted.wait(_COLLECT)
        with self._lock:
            those, self._unwanted, self._canceller = self._unwanted, set(), None
            is_over = self._open() <= those
        try:
            if is_over:
                self._is_over.come()
                if self._watch is not None:
                    self._watch.kill()
                _delete(self._command, self._job)
            else:
                words = ("delete", "pods", *self._select(those), "--wait=false")
                _run(self._command, words, _PATIENCE)
        except BaseException as error:
            canceller.set_exception(error)
        else:
            for number in those:
                self.pods[number].end()
            canceller.set_result(None)


def _numbers(text: str) -> set[int]:
    """Return the numbers that a status has as ``"1,3-5"``."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


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
