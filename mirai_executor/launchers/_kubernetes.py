"""Starts daemons as pods of a Kubernetes cluster: a Job, and a Secret that goes with it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ._daemon import DaemonCommand, Submission, checked_count
from ._jobs import JobRequest
from ._kubectl import submit
from ._script import guarded, lines_of, words_of

_LABELS = {
    "app.kubernetes.io/name": "mirai-daemon",
    "app.kubernetes.io/managed-by": "mirai_executor",
}
_TIME_TO_LIVE = 300  # seconds for which a Job that has ended can be looked at


@dataclass(frozen=True)
class KubernetesConfig:
    """How to start daemons on Kubernetes; made by :func:`kubernetes_config`."""

    image: str
    namespace: str = ""
    resources: tuple[tuple[str, str], ...] = ()
    pod: str = "{}"  # as JSON, so that this stays plain data
    python: tuple[str, ...] = ("python3",)
    prologue: tuple[str, ...] = ()
    command: tuple[str, ...] = ("kubectl",)

    def plan(self, daemon: DaemonCommand, count: int) -> list[Submission]:
        """Return one request, which creates a Job with a pod for each daemon, and its Secret."""
        if checked_count(count) == 0:
            return []
        command = (*self.command, *(("-n", self.namespace) if self.namespace else ()))
        job, secret = self.manifests(daemon, count)
        name = f"Kubernetes ({shlex.join(command)})"
        named = [
            replace(daemon, request=daemon.request and f"{daemon.request}.{number}")
            for number in range(count)  # as pods are numbered
        ]
        return [JobRequest(name, submit, (name, command, job, secret), daemon.secret, named)]

    def manifests(self, daemon: DaemonCommand, count: int) -> tuple[str, str]:
        """Return the Job and the Secret as JSON, each with ``{name}`` where its name belongs.

        The Secret also has ``{uid}`` for that of the Job, which owns it: with the Job it goes.
        """
        job = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "{name}", "labels": _LABELS},
            "spec": {
                "parallelism": count,
                "completions": count,
                # A pod that fails is not replaced, and leaves the others alone: the host asks for
                # another, as it knows whether one is needed.
                "completionMode": "Indexed",
                "backoffLimitPerIndex": 0,
                "ttlSecondsAfterFinished": _TIME_TO_LIVE,
                "template": {"metadata": {"labels": _LABELS}, "spec": self._pod(daemon)},
            },
        }
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "{name}", "uid": "{uid}"}
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "{name}", "labels": _LABELS, "ownerReferences": [owner]},
            "type": "Opaque",
            "immutable": True,
            "stringData": daemon.environment,
        }
        return json.dumps(job), json.dumps(secret)

    def _pod(self, daemon: DaemonCommand) -> dict[str, Any]:
        start = f"exec {shlex.join(daemon.argv(self.python))}"
        if daemon.request:  # its last word, which each pod makes its own
            start += '."$JOB_COMPLETION_INDEX"'
        script = [*guarded(self.prologue), start]
        container: dict[str, Any] = {
            "name": "daemon",
            "image": self.image,
            "command": ["/bin/sh", "-c", "\n".join(script)],
            "envFrom": [{"secretRef": {"name": "{name}"}}],
            # What it says last is then part of the pod's status, for messages.
            "terminationMessagePolicy": "FallbackToLogsOnError",
        }
        if self.resources:
            amounts = dict(self.resources)
            container["resources"] = {"requests": amounts, "limits": amounts}
        ours: dict[str, Any] = {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "containers": [container],
        }
        pod: dict[str, Any] = _merged(ours, json.loads(self.pod))
        return pod


def kubernetes_config(
    image: str,
    *,
    namespace: str | None = None,
    resources: Mapping[str, Any] | None = None,
    pod: Mapping[str, Any] | None = None,
    python: str | Sequence[str] = "python3",
    prologue: str | Sequence[str] = (),
    command: str | Sequence[str] = "kubectl",
) -> KubernetesConfig:
    """Describe how to start daemons as pods of a Kubernetes cluster. Creates nothing yet.

    Each launch creates a Job, whose pods are daemons, and a Secret with the executor's secret,
    which belongs to the Job. Kubernetes runs each pod once: the executor asks for others in the
    place of those that are lost. What runs at the end of the executor is deleted, and so is what
    waits and is not needed any more. Needs Kubernetes 1.29 or later.

    Args:
        image: The container image. It has Python, this package, and what tasks import.
        namespace: Where to create them; by default, that of kubectl's context.
        resources: What each daemon requests, and is limited to, such as
            ``{"cpu": 2, "memory": "4Gi", "nvidia.com/gpu": 1}``.
        pod: More fields of the pods' spec, such as ``{"nodeSelector": {"pool": "batch"}}``. Dicts
            are merged; fields of the container named ``"daemon"`` are added to ours. They are not
            restarted, so ``restartPolicy`` stays ``"Never"``.
        python: The Python interpreter in the image, or the words of a command that runs it.
        prologue: Lines of shell that prepare the environment there. A line that fails ends the
            pod; they have no standard input.
        command: ``kubectl``, or the words of a command that runs it, such as
            ``["kubectl", "--context", "lab"]``.

    Returns:
        A launcher for ``remote=``, as plain, immutable data that can be printed and used again.

    Raises:
        TypeError: An argument has the wrong type, or ``pod`` cannot be written as JSON.
        ValueError: A word is empty or contains control characters, or ``pod`` has another
            ``restartPolicy``.

    Example:
        >>> launcher = kubernetes_config("registry.example.org/lab:7", resources={"cpu": 2})
        >>> launcher.image, launcher.resources
        ('registry.example.org/lab:7', (('cpu', '2'),))
    """
    for name, given in (("resources", resources), ("pod", pod)):
        if given is not None and not hasattr(given, "items"):
            raise TypeError(f"{name} must be a dict, not {given!r:.60}")
    if pod is not None and pod.get("restartPolicy", "Never") != "Never":
        raise ValueError(
            'restartPolicy must be "Never": daemons that are lost are replaced by the executor'
        )
    if not isinstance(image, str):
        raise TypeError(f"image must be a string, not {image!r:.60}")
    words_of([image] if namespace is None else [image, namespace])
    return KubernetesConfig(
        image,
        namespace or "",
        tuple((name, str(amount)) for name, amount in (resources or {}).items()),
        json.dumps(dict(pod or {})),
        words_of(python),
        lines_of(prologue),
        words_of(command),
    )


def _merged(ours: Any, theirs: Any) -> Any:
    """Return ours with what the user has added; lists of named things are merged by name."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        names = [*ours, *(name for name in theirs if name not in ours)]
        return {
            name: _merged(ours[name], theirs[name])
            if name in ours and name in theirs
            else ours.get(name, theirs.get(name))
            for name in names
        }
    if isinstance(ours, list) and isinstance(theirs, list):
        added = list(theirs)
        kept = []
        for one in ours:
            same = [
                it for it in added if _name_of(it) is not None and _name_of(it) == _name_of(one)
            ]
            kept.append(_merged(one, same[0]) if same else one)
            added = [it for it in added if it not in same]
        return [*kept, *added]
    return theirs


def _name_of(item: Any) -> Any:
    return item.get("name") if isinstance(item, dict) else None
