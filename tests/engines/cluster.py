"""Stands in for an API server of Kubernetes, its controller of Jobs and a machine that runs pods.

It knows Jobs and Secrets of one namespace, and as much of the protocol as kubectl needs for them.
A pod is a process of this machine: the command of its container, with the Secret as environment.
"""

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

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


def _resources(version: str, name: str, kind: str) -> dict[str, Any]:
    resource = {
        "name": name,
        "singularName": "",
        "namespaced": True,
        "kind": kind,
        "verbs": _VERBS,
    }
    return {"kind": "APIResourceList", "groupVersion": version, "resources": [resource]}


class Cluster:
    """What it has: Jobs and Secrets by name, and pods by Job."""

    def __init__(self) -> None:
        self.url = ""
        self.seen: list[str] = []  # method and path of each request
        self.jobs: dict[str, dict[str, Any]] = {}
        self.secrets: dict[str, dict[str, Any]] = {}
        self.pods: dict[str, list[subprocess.Popen[bytes]]] = {}
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
        threading.Thread(target=self._run, args=(owner["name"], job), daemon=True).start()

    def _run(self, name: str, job: dict[str, Any]) -> None:
        spec = job["spec"]
        pod = spec["template"]["spec"]
        (container,) = pod["containers"]
        (source,) = container["envFrom"]
        environment = self.secrets[source["secretRef"]["name"]]["stringData"]
        self.pods[name] = [
            subprocess.Popen(container["command"], env={"PATH": os.defpath, **environment})
            for _ in range(spec["parallelism"])
        ]
        codes = [process.wait() for process in self.pods[name]]
        kind, reason = ("Failed", "BackoffLimitExceeded") if any(codes) else ("Complete", "")
        with self.changed:
            condition = {"type": kind, "status": "True", "reason": reason, "message": "as it is"}
            job["status"] = {"conditions": [condition]}
            self._change(job)

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
            self.changed.notify_all()
        for process in self.pods.pop(name, []):
            process.terminate()
        return job is not None


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
            "/api/v1": _resources("v1", "secrets", "Secret"),
            "/apis/batch/v1": _resources("batch/v1", "jobs", "Job"),
        }
        name = parts.path.rpartition("/jobs/")[2]
        if parts.path in discovery:
            self._answer(discovery[parts.path])
        elif "watch=" in parts.query:
            self._watch()
        elif name in self.cluster.jobs:
            self._answer(self.cluster.jobs[name])
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
        name = urlsplit(self.path).path.rpartition("/")[2]
        self.cluster.seen.append(f"DELETE {name}")
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.cluster.delete(name):
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
