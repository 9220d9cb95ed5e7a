"""Carries frames between a host and its daemons.

A local daemon inherits the ends of two pipes: they have no address, so nobody else can connect to
them, and nothing is left to clean up. Daemons elsewhere dial a :class:`Listener`. Over any
connected stream, :class:`Link` carries frames, and :class:`FarLink` once the other side has proved
who it is; ``_tls`` makes a stream of a TLS connection, and ``_websocket``, by pynng, a socket that
stands for a WebSocket.
"""

from mirai_executor._nameless import Pipes
from mirai_executor._typing import TYPE_CHECKING, Any

from ._stream import Link, LinkClosedError

if TYPE_CHECKING:
    from ._far import FarLink, Waiting
    from ._request import UpgradeRequest
    from ._sockets import WEBSOCKETS, Listener, dial, listen
    from ._tls import TlsSocket, client_context, rehearse, server_context
    from ._websocket import Pump, WebSocket

__all__ = [
    "WEBSOCKETS",
    "FarLink",
    "Link",
    "LinkClosedError",
    "Listener",
    "Pipes",
    "Pump",
    "TlsSocket",
    "UpgradeRequest",
    "Waiting",
    "WebSocket",
    "client_context",
    "dial",
    "listen",
    "rehearse",
    "server_context",
]

# What only links to other machines need, and a local daemon's start should not wait for.
_FAR = {
    "FarLink": "_far",
    "Waiting": "_far",
    "Listener": "_sockets",
    "TlsSocket": "_tls",
    "WEBSOCKETS": "_sockets",
    "Pump": "_websocket",
    "UpgradeRequest": "_request",
    "WebSocket": "_websocket",
    "client_context": "_tls",
    "dial": "_sockets",
    "listen": "_sockets",
    "rehearse": "_tls",
    "server_context": "_tls",
}


def __getattr__(name: str) -> Any:
    if (room := _FAR.get(name)) is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{room}"), name)
