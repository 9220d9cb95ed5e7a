"""The addresses on which a host listens and to which daemons connect.

::

    tcp://192.168.1.71:5555     tls+tcp://[2001:db8::7]:0     ws://node7:8080/mirai
    scheme  host       port             IPv6 in brackets           a path: ws, wss only

    ipc:///run/user/1000/mirai-executor/4f0c...     a file of this machine

Port 0 asks for a free one. :func:`host_url` and :func:`local_url` make addresses.
"""

from ._own import host_url, local_url
from ._url import Url

__all__ = ["Url", "host_url", "local_url"]
