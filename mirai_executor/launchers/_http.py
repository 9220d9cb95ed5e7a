"""Starts daemons by requests to an HTTP service."""

import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from mirai_executor.urls import Url

from ._daemon import (
    DaemonCommand,
    HttpRequest,
    Submission,
    checked_count,
    exports,
    guarded,
    lines_of,
    words_of,
)

__all__ = ["HttpConfig", "http_config"]

Deferred = str | Callable[[], str] | None


@dataclass(frozen=True)
class HttpConfig:
    """How to start daemons with an HTTP service; made by :func:`http_config`."""

    url: str
    method: str = "POST"
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    data: str = '"."'  # as JSON, so that this stays plain data
    token: Deferred = field(default=None, repr=False)
    cookie: Deferred = field(default=None, repr=False)
    python: tuple[str, ...] = (sys.executable,)
    prologue: tuple[str, ...] = ()

    def plan(self, daemon: DaemonCommand, count: int) -> list[Submission]:
        """Return one request for each of ``count`` daemons. Asks for token and cookie."""
        if checked_count(count) == 0:
            return []
        last = f"exec {shlex.join(daemon.argv(self.python))}"
        script = "\n".join([*guarded(self.prologue), *exports(daemon), last, ""])
        data = _filled(json.loads(self.data), script)
        is_text = isinstance(data, str)
        request = HttpRequest(
            self.method,
            self.url,
            self._headers("text/plain; charset=utf-8" if is_text else "application/json"),
            (data if is_text else json.dumps(data)).encode(),
            daemon.secret,
        )
        return [request] * count

    def _headers(self, content: str) -> tuple[tuple[str, str], ...]:
        headers = {"Content-Type": content}
        if token := _now(self.token):
            headers["Authorization"] = f"Bearer {token}"
        if cookie := _now(self.cookie):
            headers["Cookie"] = cookie
        own = {name.lower() for name, _ in self.headers}
        kept = [(name, value) for name, value in headers.items() if name.lower() not in own]
        return (*kept, *self.headers)


def http_config(
    url: str,
    method: str = "POST",
    headers: Mapping[str, str] | None = None,
    data: Any = ".",
    *,
    token: Deferred = None,
    cookie: Deferred = None,
    python: str | Sequence[str] | None = None,
    prologue: str | Sequence[str] = (),
    insecure: bool = False,
) -> HttpConfig:
    """Describe how to start daemons with requests to an HTTP service. Sends nothing yet.

    Each daemon takes one request.

    Args:
        url: The address of the service.
        method: The method of the request.
        headers: Its headers.
        data: Its body: a string is sent as it is, anything else as JSON. Every string in it that
            equals ``"."`` is replaced by a ``/bin/sh`` script that runs the daemon.
        token: Sent as ``Authorization: Bearer``; or a callable that returns it, called at each
            launch.
        cookie: Sent as ``Cookie``; or a callable, as for ``token``.
        python: The Python interpreter where the daemon runs, or the words of a command that runs
            it; by default, the path of the current one.
        prologue: Lines of shell that prepare the environment there.
        insecure: Whether to allow plain HTTP to another machine, although the request contains the
            executor's secret.

    Returns:
        A launcher for ``remote=``, as plain, immutable data that can be printed and used again.

    Raises:
        TypeError: ``data`` cannot be written as JSON, or another argument has the wrong type.
        ValueError: ``url`` is not a valid HTTP or HTTPS address, or is insecure.

    Example:
        >>> launcher = http_config("https://cluster.example.org/jobs", data={"script": "."})
        >>> launcher.method, launcher.url
        ('POST', 'https://cluster.example.org/jobs')
    """
    if not isinstance(url, str):
        raise TypeError(f"url must be a string such as 'https://host/path', not {url!r}")
    if headers is not None and not hasattr(headers, "items"):
        raise TypeError(f"headers must be a dict of names and values, not {headers!r:.60}")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or not url.isprintable():
        raise ValueError(f"invalid address {url!r}: expected http:// or https:// and a host")
    if parts.username is not None:
        raise ValueError(
            "url must not contain a user name or password, since it is shown in messages; "
            "use token= or headers="
        )
    if parts.scheme == "http" and not Url("tcp", parts.hostname).is_loopback and not insecure:
        raise ValueError(
            f"{url!r} is not encrypted, and the request holds the executor's secret; "
            "use https://, or pass insecure=True if nobody else can read the connection"
        )
    return HttpConfig(
        url,
        method,
        tuple((headers or {}).items()),
        json.dumps(data),
        token,
        cookie,
        words_of(python or sys.executable),
        lines_of(prologue),
    )


def _filled(data: Any, script: str) -> Any:
    if isinstance(data, dict):
        return {name: _filled(value, script) for name, value in data.items()}
    if isinstance(data, list):
        return [_filled(value, script) for value in data]
    return script if data == "." else data


def _now(value: Deferred) -> str | None:
    return value() if callable(value) else value
