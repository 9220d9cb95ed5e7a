"""Shares memory between two processes of one machine, for buffers too large to send.

::

    Pool --- place(buffers) ---> Place, ...               Receiver --- views(places) ---> arrays
      |                            :                          ^              |
      |                            :.... in a frame ........->|              | the last one dies
    Sender --- lend(places) ------ Channel: descriptors ----->|              v
      ^                                                              take_released()
      :................................ in a frame .........................:

A pool's memory lies in arenas, files without a name (``memfd``) that the kernel frees with their
last user: whoever is killed, whenever, nothing is left behind. All the buffers of one ``place``
lie in one arena; it is filled again only after every array over it is gone, so that its pages
stay warm. Only descriptors travel, and each only once to each peer: ``/proc``, namespaces and the
size of ``/dev/shm`` do not matter. An ``Exchange`` is all of this for one peer.
"""

from mirai_executor._lazily import lazy_imports

from ._late import *

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._arenas import Arena as Arena
    from ._channel import *
    from ._exchange import *
    from ._pool import *
    from ._receiver import *
    from ._sender import *
else:  # not before the first large buffer
    __getattr__ = lazy_imports(
        __name__,
        {
            "_arenas": "Arena",
            "_channel": "Channel Gone",
            "_exchange": "Exchange out_of_arenas",
            "_pool": "Pool Shared",
            "_receiver": "Receiver",
            "_sender": "Sender",
        },
    )
