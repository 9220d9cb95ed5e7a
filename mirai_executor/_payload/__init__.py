"""Turns calls and outcomes into bytes and back: the only room that pickles.

::

    host                                          daemon
    CallEncoder.encode ── blob, table ──────────► Namespace.receive, .decode ─► a call to run
                          (Sent: what it has)
    decode_value  ◄────── blob ────────────────── encode_value
    decode_error  ◄────── blob ────────────────── encode_error

Each side is a package, ``host`` and ``daemon``, and loads nothing of the other's. What a
payload names is in ``common``, where both find it.
"""
