"""Turns calls and outcomes into bytes and back: the only room that pickles.

::

    host                                          daemon
    CallEncoder.encode ── blob, table ──────────► Namespace.receive, .decode ─► a call to run
                          (Sent: what it has)
    decode_value  ◄────── blob ────────────────── encode_value
    decode_error  ◄────── blob ────────────────── encode_error
"""

from mirai_executor._lazily import door
from mirai_executor._payload import pickles as pickle
from mirai_executor._payload.buffers import OUT_OF_BAND, Value
from mirai_executor._payload.entries import NameEntry
from mirai_executor._payload.kept import Sent
from mirai_executor._payload.outcomes import NO_NUMBER, decode_number, decode_value, encode_value
from mirai_executor._payload.preparation import Preparation
from mirai_executor._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mirai_executor._payload.calls import Call, CallEncoder
    from mirai_executor._payload.failures import decode_error, encode_error
    from mirai_executor._payload.lastresort import importing_main
    from mirai_executor._payload.namespace import Namespace
else:  # what only one side needs, or only some tasks
    __getattr__ = door(
        __name__,
        {
            "calls": ("Call", "CallEncoder"),
            "failures": ("decode_error", "encode_error"),
            "lastresort": ("importing_main",),
            "namespace": ("Namespace",),
        },
    )

__all__ = [
    "NO_NUMBER",
    "OUT_OF_BAND",
    "Call",
    "CallEncoder",
    "NameEntry",
    "Namespace",
    "Preparation",
    "Sent",
    "Value",
    "decode_error",
    "decode_number",
    "decode_plain",
    "decode_value",
    "encode_error",
    "encode_plain",
    "encode_value",
    "importing_main",
]


def encode_plain(obj: object) -> bytes:
    """Pickle data of ours, such as a ``Preparation``."""
    return pickle.dumps(obj, 5)


def decode_plain(blob: bytes | memoryview) -> Any:
    """Return what ``encode_plain`` pickled."""
    return pickle.loads(blob)
