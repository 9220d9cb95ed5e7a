"""Carries frames between a host and its daemons.

A local daemon inherits one end of a ``socketpair``: it has no address, so nobody else can connect
to it, and nothing is left to clean up. ``_stream`` speaks over it directly. Links to daemons
elsewhere are NNG's: ``_nng``, the only module that knows pynng, is imported by those who need it.
"""

from ._stream import Link, LinkClosedError

__all__ = ["Link", "LinkClosedError"]
