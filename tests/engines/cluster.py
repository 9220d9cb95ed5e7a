"""Stands in for an API server of Kubernetes, its controller of Jobs and a machine that runs pods.

It knows Jobs, Secrets and pods of one namespace, and as much of the protocol as kubectl needs for
them. A pod is a process of this machine: the command of its container, with the Secret as
environment.
"""

import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

__all__ = ["Cluster", "serve"]

_VERBS = ["create", "delete", "get", "list", "watch"]
_GROUP = {
    "name": "batch",
    "versions": [{"groupVersion": "batch/v1", "version": "v1"}],
    "preferredVersion": {"groupVersion": "batch/v1", "version": "v1"},
}
_DISCOVERY: dict[str, dict[str, Any]] = {
    "/version": {"major": "1", "minor": "31", "gitVersion": "v1.31.0"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_GROUP]},
}


_INDEX = "batch.kubernetes.io/job-completion-index"


def _resources(version: str, **kinds: str) -> dict[str, Any]:
    resources = [
        {"name": name, "singularName": "", "namespaced": True, "kind": kind, "verbs": _VERBS}
        for name, kind in kinds.items()
    ]
    return {"kind": "APIResourceList", "groupVersion": version, "resources": resources}


class Pod:
    """A process of this machine, once there is room for it."""

    def __init__(self, job: str, index: int) -> None:
        self.name = f"{job}-{index}-x"
        self.labels = {"job-name": job, _INDEX: str(index)}
        self.process: subprocess.Popen[bytes] | None = None
        self.is_deleted = False
        self.said = ""

    def manifest(self) -> dict[str, Any]:
        terminated = {"terminated": {"message": self.said}} if self.said else {}
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": self.name, "namespace": "default", "labels": self.labels},
            "status": {"containerStatuses": [{"state": terminated}]},
        }

    def is_selected(self, selector: str) -> bool:
        """Tell whether a selector of equalities and sets, as ours are, means it."""
        for name, those, value in re.findall(r"([\w./-]+) ?(?:in \(([^)]*)\)|=([^,]*))", selector):
            if self.labels.get(name) not in (those.split(",") if those else [value]):
                return False
        return True

    def delete(self) -> None:
        self.is_deleted = True
        if self.process is not None:
            self.process.terminate()


class Cluster:
    """What it has: Jobs and Secrets by name, and pods.

    Attributes:
        room: So many pods run at once.
    """

    def __init__(self) -> None:
        self.url = ""
        self.room = 100
        self.seen: list[str] = []  # method and path of each request
        self.jobs: dict[str, dict[str, Any]] = {}
        self.secrets: dict[str, dict[str, Any]] = {}
        self.pods: dict[str, Pod] = {}
        self.changed = threading.Condition()
        self._version = 0

    def create(self, kind: str, manifest: dict[str, Any]) -> None:
        with self.changed:
            metadata = manifest["metadata"]
            metadata.update(namespace="default", uid=f"uid-{metadata['name']}")
            self._change(manifest)
            if kind == "jobs":
                self.jobs[metadata["name"]] = manifest
                return
            self.secrets[metadata["name"]] = manifest
            (owner,) = metadata["ownerReferences"]
            job = self.jobs[owner["name"]]
            assert job["metadata"]["uid"] == owner["uid"]
        for index in range(job["spec"]["parallelism"]):
            arguments = owner["name"], job, index
            threading.Thread(target=self._run, args=arguments, daemon=True).start()

    def _run(self, name: str, job: dict[str, Any], index: int) -> None:
        """Run the pods of an index, one after the other, until one ends well or too many fail."""
        spec = job["spec"]
        ends_well = False
        for _ in range(1 + spec.get("backoffLimitPerIndex", 6)):
            ends_well = self._run_pod(spec["template"]["spec"], Pod(name, index))
            if ends_well or name not in self.jobs:
                break
        with self.changed:
            status = job.setdefault("status", {})
            of_its_kind = "completedIndexes" if ends_well else "failedIndexes"
            ended = {*filter(None, status.get(of_its_kind, "").split(",")), str(index)}
            status[of_its_kind] = ",".join(sorted(ended, key=int))
            failed = status.get("failedIndexes", "")
            ends = ",".join(filter(None, (status.get("completedIndexes", ""), failed)))
            if len(ends.split(",")) == spec["completions"]:
                kind, reason = ("Failed", "FailedIndexes") if failed else ("Complete", "")
                condition = {
                    "type": kind,
                    "status": "True",
                    "reason": reason,
                    "message": "it is so",
                }
                status["conditions"] = [condition]
            self._change(job)

    def _run_pod(self, spec: dict[str, Any], pod: Pod) -> bool:
        assert spec["restartPolicy"] == "Never"
        (container,) = spec["containers"]
        (source,) = container["envFrom"]
        with self.changed:
            self.pods[pod.name] = pod
            self.changed.notify_all()
            self.changed.wait_for(lambda: pod.is_deleted or self._running() < self.room)
            if pod.is_deleted:
                return False
            secret = self.secrets[source["secretRef"]["name"]]
            index = {"JOB_COMPLETION_INDEX": pod.labels[_INDEX]}
            pod.process = process = subprocess.Popen(
                container["command"],
                env={"PATH": os.defpath, **secret["stringData"], **index},
                stdin=subprocess.PIPE,  # that of this container is open: who reads it, waits
                stderr=subprocess.PIPE,
            )
        _, said = process.communicate()
        with self.changed:
            assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"
            pod.said = said.decode() if process.returncode else ""
            self.changed.notify_all()
        return process.returncode == 0

    def _running(self) -> int:
        processes = [pod.process for pod in self.pods.values()]
        return sum(it is not None and it.poll() is None for it in processes)

    def _change(self, item: dict[str, Any]) -> None:
        self._version += 1
        item["metadata"]["resourceVersion"] = str(self._version)
        self.changed.notify_all()

    def delete(self, name: str) -> bool:
        with self.changed:
            job = self.jobs.pop(name, None)
            self.secrets = {
                key: secret
                for key, secret in self.secrets.items()
                if secret["metadata"]["ownerReferences"][0]["name"] != name
            }
            for pod in self.pods.values():
                if pod.labels["job-name"] == name:
                    pod.delete()
            self.changed.notify_all()
        return job is not None

    def delete_pod(self, name: str) -> bool:
        with self.changed:
            if (pod := self.pods.get(name)) is None:
                return False
            pod.delete()
            self.changed.notify_all()
        return True


class _Handler(BaseHTTPRequestHandler):
    @property
    def cluster(self) -> Cluster:
        found: Cluster = self.server.cluster  # type: ignore[attr-defined]  # set by serve()
        return found

    def _answer(self, body: dict[str, Any], status: int = 200) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _answer_missing(self) -> None:
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404}
        self._answer({**status, "reason": "NotFound", "message": "not found"}, 404)

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.cluster.seen.append(f"GET {parts.path}")
        discovery: dict[str, Any] = {
            **_DISCOVERY,
            "/api/v1": _resources("v1", secrets="Secret", pods="Pod"),
            "/apis/batch/v1": _resources("batch/v1", jobs="Job"),
        }
        name = parts.path.rpartition("/jobs/")[2]
        if parts.path in discovery:
            self._answer(discovery[parts.path])
        elif "watch=" in parts.query:
            self._watch()
        elif name in self.cluster.jobs:
            self._answer(self.cluster.jobs[name])
        elif parts.path.endswith("/pods"):
            (selector,) = parse_qs(parts.query)["labelSelector"]
            pods = [it for it in self.cluster.pods.values() if it.is_selected(selector)]
            items = [pod.manifest() for pod in pods]
            self._answer({"kind": "PodList", "apiVersion": "v1", "items": items})
        elif parts.path.endswith("/jobs"):
            items = list(self.cluster.jobs.values())
            self._answer({"kind": "JobList", "apiVersion": "batch/v1", "items": items})
        else:
            self._answer_missing()

    def _watch(self) -> None:
        """Send each change of the Jobs, until the first of them is deleted."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        sent: dict[str, str] = {}
        with self.cluster.changed:
            while self.cluster.jobs:
                for name, job in self.cluster.jobs.items():
                    version = job["metadata"]["resourceVersion"]
                    if sent.get(name) != version:
                        sent[name] = version
                        event = {"type": "MODIFIED", "object": job}
                        self.wfile.write(json.dumps(event).encode() + b"\n")
                self.cluster.changed.wait(10)

    def do_POST(self) -> None:
        kind = urlsplit(self.path).path.rpartition("/")[2]
        self.cluster.seen.append(f"POST {kind}")
        manifest = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.cluster.create(kind, manifest)
        self._answer(manifest, 201)

    def do_DELETE(self) -> None:
        kind, name = urlsplit(self.path).path.rsplit("/", 2)[1:]
        self.cluster.seen.append(f"DELETE {name}")
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        delete = self.cluster.delete_pod if kind == "pods" else self.cluster.delete
        if delete(name):
            self._answer({"kind": "Status", "apiVersion": "v1", "status": "Success"})
        else:
            self._answer_missing()

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def serve() -> Iterator[Cluster]:
    """Run one until the end of the block."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.daemon_threads = True
        cluster = server.cluster = Cluster()  # type: ignore[attr-defined]  # for the handler
        cluster.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield cluster
        finally:
            for name in list(cluster.jobs):
                cluster.delete(name)
            server.shutdown()
            thread.join()
