"""Starts daemons by requests to an HTTP service."""

import json
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_plus, urlsplit

from mirai_executor.urls import Url

from ._daemon import DaemonCommand, HttpRequest, Submission, checked_count, exports, without_query
from ._script import guarded, lines_of, words_of

Deferred = str | Callable[[], str] | None

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # token of RFC 9110
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # what http.client sends
_ADDRESS = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+")  # of RFC 3986
_SHORT = 8  # what has fewer characters is no key, and stands in many a word


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

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(url={without_query(self.url)!r}, method={self.method!r}, "
            f"data={self.data!r}, python={self.python!r}, prologue={self.prologue!r})"
        )

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
        if token := _now("token", self.token):
            headers["Authorization"] = f"Bearer {token}"
        if cookie := _now("cookie", self.cookie):
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
        token: Sent as ``Authorization: Bearer``, without blanks and line breaks around it; or a
            callable that returns it, called at each launch.
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
        ValueError: ``url`` is not a valid HTTP or HTTPS address, or is insecure; or ``headers``,
            ``token`` or ``cookie`` hold what a header cannot. The message does not quote it.

    Example:
        >>> launcher = http_config("https://cluster.example.org/jobs", data={"script": "."})
        >>> launcher.method, launcher.url
        ('POST', 'https://cluster.example.org/jobs')
    """
    _check_address(url, insecure=insecure)
    _check_name("method", method)
    if headers is not None and not hasattr(headers, "items"):
        raise TypeError(
            f"headers must be a dict of names and values, not {type(headers).__name__}"
        )
    return HttpConfig(
        url,
        method,
        tuple(_checked_headers(headers or {})),
        json.dumps(data),
        token if callable(token) else _checked("token", token),
        cookie if callable(cookie) else _checked("cookie", cookie),
        words_of(python or sys.executable),
        lines_of(prologue),
    )


def _check_address(url: str, *, insecure: bool) -> None:
    if not isinstance(url, str):
        raise TypeError(f"url must be a string such as 'https://host/path', not {url!r}")
    wrong = (
        "expected http:// or https:// and a host, and %XX for other characters than those of URLs"
    )
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"invalid address: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not _ADDRESS.fullmatch(url):
        raise ValueError(f"invalid address {without_query(url)!r}: {wrong}")
    if parts.username is not None:
        raise ValueError(
            "url must not contain a user name or password, since it is shown in messages; "
            "use token= or headers="
        )
    if parts.scheme == "http" and not Url("tcp", parts.hostname).is_loopback and not insecure:
        raise ValueError(
            f"{without_query(url)!r} is not encrypted, and the request holds the executor's "
            "secret; use https://, or pass insecure=True if nobody else can read the connection"
        )


def _checked_headers(headers: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in headers.items():
        _check_name("the name of a header", name)
        checked = _checked(f"the header {name}", value)
        if checked is None:
            raise TypeError(f"the header {name} must be a string, not None")
        yield name, checked


def _check_name(what: str, name: object) -> None:
    if not isinstance(name, str):
        raise TypeError(f"{what} must be a string, not {name!r:.60}")
    if not _NAME.fullmatch(name):
        raise ValueError(f"{what} must consist of letters, digits and hyphens, not {name!r:.60}")


def _checked(what: str, value: object) -> str | None:
    """Return the value of a header as it is sent; what is wrong is said without quoting it."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a string, not {type(value).__name__}")
    value = value.strip()  # what is read from a file ends with a line break
    if not _VALUE.fullmatch(value):
        raise ValueError(f"{what} contains a character that a header cannot have")
    return value


def confidential_parts(request: HttpRequest) -> set[str]:
    """Return what no error and no answer may show: secret, tokens, cookies, keys in queries."""
    parts = urlsplit(request.url)
    values = [value for name, value in request.headers if not name.lower().startswith("content-")]
    words = [word for value in values for word in re.split(r"[\s;,]+", value)]
    words += re.split(r"[&;]", parts.query)
    words += [parts.query, parts.fragment]
    words += [word.partition("=")[2] for word in words]
    words += [unquote_plus(word) for word in words]
    return {request.secret, *(word for word in words if len(word) >= _SHORT)}


def _filled(data: Any, script: str) -> Any:
    if isinstance(data, dict):
        return {name: _filled(value, script) for name, value in data.items()}
    if isinstance(data, list):
        return [_filled(value, script) for value in data]
    return script if data == "." else data


def _now(what: str, value: Deferred) -> str | None:
    return _checked(what, value() if callable(value) else value)
