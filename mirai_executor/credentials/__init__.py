"""Decides who may talk to whom: TLS certificates, the secret of an executor, and what proves it.

::

    new_secret ──► HostHandshake ⇄ DaemonHandshake ──► SessionKeys ──► Sealer ─ frames ─► Opener
    make_certificate, load_certificate ──► TLS

Nothing here touches a socket, pickles, or writes a secret anywhere.
"""

from ._handshake import *
from ._peers import *
from ._seal import *
from ._secret import *
from ._tls import *
