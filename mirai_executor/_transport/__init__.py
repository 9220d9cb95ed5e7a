"""Carries frames between a host and its daemons.

A local daemon inherits the ends of two pipes: they have no address, so nobody else can connect to
them, and nothing is left to clean up. Daemons elsewhere dial a :class:`Listener`. Over any
connected stream, :class:`Link` carries frames, and :class:`FarLink` once the other side has proved
who it is; ``_tls`` makes a stream of a TLS connection, and ``_websocket``, by pynng, a socket that
stands for a WebSocket.
"""

from mirai_executor._lazily import lazy_imports
from mirai_executor._nameless import Pipes as Pipes

from ._stream import *

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._far import *
    from ._pump import *
    from ._request import *
    from ._sockets import *
    from ._tls import *
    from ._websocket import *
else:  # what only links to other machines need, and a local daemon's start should not wait for
    __getattr__ = lazy_imports(
        __name__,
        {
            "_far": "FarLink PendingFrame",
            "_request": "UpgradeRequest",
            "_sockets": "WEBSOCKETS Listener dial listen",
            "_tls": "TlsSocket client_context rehearse server_context",
            "_pump": "Pump",
            "_websocket": "WebSocket",
        },
    )
