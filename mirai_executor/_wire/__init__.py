"""Turns frames into bytes and back: everything that a host and a daemon say to each other.

::

    daemon                                   host
      | -- Hello (versions, pid) ------------> |
      | <------------- Init (preparation) ---- |
      | -- Ready, or InitFailed -------------> |
      | <------------- Tasks, Broadcast ------ |
      | -- LogPiece, Report -----------------> |
      | -- Items (of a stream) --------------> |
      | <------------- Credit (for more) ----- |
      | -- Outcomes, BroadcastOutcome -------> |
      | -- Leaving (wants to go) ------------> |
      | <------------- Leave (may go) -------- |

Daemons elsewhere have a keeper between the two, which passes all of these on. It has frames of its
own for what cannot wait until a daemon has time to read::

    keeper                                   host
      | -- Joined (machine, pid) ------------> |
      | <------------- Attend (on terms) ----- |
      | -- Beat -----------------------------> |
      | <---------------------------- Beat --- |
      | <-------- Stop, Recall, Kill --------- |
      | -- Parting, Returned, Ended (how) ---> |

A frame is one byte that names its kind, and a body of little-endian fields; byte strings carry
their length in eight bytes. Payloads are opaque here: nothing in this room pickles.
``docs/protocol.md`` lists every field.
"""

from mirai_executor._lazily import lazy_imports
from mirai_executor._typing import TYPE_CHECKING

from ._codec import (
    decode,
    encode,
    ended_tasks,
    is_for_keeper,
    is_leave,
    is_leaving,
    is_log,
    is_report,
    is_tasks,
    pieces,
)
from ._fields import Buffer, Bytes, Name, WireError
from ._frames import (
    PROTOCOL_VERSION,
    Broadcast,
    BroadcastOutcome,
    Frame,
    Hello,
    Init,
    InitFailed,
    Items,
    Leave,
    Leaving,
    Outcomes,
    Ready,
    Status,
    Tasks,
    WireOutcome,
    WireTask,
)

if TYPE_CHECKING:
    from ._beside import Credit, LogPiece, Report
    from ._keepers import Attend, Beat, Ended, Joined, Kill, Parting, Recall, Returned, Stop
else:  # which local daemons have no use for, or most tasks
    _BESIDE = ("Credit", "LogPiece", "Report")
    _KEEPERS = (
        *("Attend", "Beat", "Ended", "Joined", "Kill"),
        *("Parting", "Recall", "Returned", "Stop"),
    )
    __getattr__ = lazy_imports(__name__, {"_keepers": _KEEPERS, "_beside": _BESIDE})

__all__ = [
    "PROTOCOL_VERSION",
    "Attend",
    "Beat",
    "Broadcast",
    "BroadcastOutcome",
    "Buffer",
    "Bytes",
    "Credit",
    "Ended",
    "Frame",
    "Hello",
    "Init",
    "InitFailed",
    "Items",
    "Joined",
    "Kill",
    "Leave",
    "Leaving",
    "LogPiece",
    "Name",
    "Outcomes",
    "Parting",
    "Ready",
    "Recall",
    "Report",
    "Returned",
    "Status",
    "Stop",
    "Tasks",
    "WireError",
    "WireOutcome",
    "WireTask",
    "decode",
    "encode",
    "ended_tasks",
    "is_for_keeper",
    "is_leave",
    "is_leaving",
    "is_log",
    "is_report",
    "is_tasks",
    "pieces",
]
