"""The host's side: calls become bytes, and the bytes of outcomes values and errors."""

from mirai_executor._lazily import lazy_imports
from mirai_executor._payload.common.entries import Call, NameEntry, Sent
from mirai_executor._payload.common.preparation import LogLevels, Preparation, encode_plain
from mirai_executor._payload.host.calls import (
    NO_NUMBER,
    CallEncoder,
    decode_number,
    decode_value,
)
from mirai_executor._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mirai_executor._payload.host.failures import decode_error
    from mirai_executor._payload.host.inherit import (
        Inheritance,
        KnownInheritance,
        only_forks_share,
    )
    from mirai_executor._payload.host.mainfile import Mode, main_file
else:  # what only some tasks need, and only some daemons
    __getattr__ = lazy_imports(
        __name__,
        {
            "failures": ("decode_error",),
            "inherit": ("Inheritance", "KnownInheritance", "only_forks_share"),
            "mainfile": ("Mode", "main_file"),
        },
    )

__all__ = [
    "NO_NUMBER",
    "Call",
    "CallEncoder",
    "Inheritance",
    "KnownInheritance",
    "LogLevels",
    "Mode",
    "NameEntry",
    "Preparation",
    "Sent",
    "decode_error",
    "decode_number",
    "decode_value",
    "encode_plain",
    "main_file",
    "only_forks_share",
]
