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

from ._codec import *
from ._fields import *
from ._frames import *

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._beside import Credit as Credit
    from ._beside import LogPiece as LogPiece
    from ._beside import Report as Report
    from ._keepers import *
else:  # which local daemons have no use for, or most tasks
    __getattr__ = lazy_imports(
        __name__,
        {
            "_keepers": "Attend Beat Ended Joined Kill Parting Recall Returned Stop",
            "_beside": "Credit LogPiece Report",
        },
    )
