"""Has daemons make spans of their connections, where the program has a tracer (OpenTelemetry)."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

from mirai_executor._payload.common.entries import Call
from mirai_executor._payload.common.fast_pickle import PROTOCOL
from mirai_executor._payload.common.traced import connected, tracer

if TYPE_CHECKING:
    from typing import Any

    from ._settings import Settings


def calls_of_spans(settings: Settings) -> list[Call]:
    """Return the calls by which daemons tell that they are connected; none if nobody traces."""
    if tracer() is None:
        return []
    url = None if settings.listen_config is None else settings.listen_config.urls[0]
    attributes = address_attributes(url)
    if settings.name is not None:
        attributes["mirai.compute"] = settings.name
    return [Call(pickle.dumps((connected, (url or "", attributes), {}), PROTOCOL), ())]


def address_attributes(url: str | None) -> dict[str, Any]:
    """Return where daemons connect, in the words of the semantic conventions."""
    if url is None:
        return {"network.transport": "pipe"}
    from mirai_executor.urls import Url

    parsed = Url.parse(url)
    place: dict[str, Any] = {
        "url.scheme": parsed.scheme,
        "server.address": parsed.host or parsed.path,
    }
    if parsed.host:
        place["server.port"] = parsed.port
    place["network.transport"] = "tcp" if parsed.host else "unix"
    return place
