"""Owns the dispatcher, the links and the open futures of one executor, from any thread's view.

``_host`` is what can be asked of it, ``_host_thread`` runs ``_loop`` on a thread of its own, and
``_tasks`` brings what it learns into the futures; ``_fleet`` has the daemons, of which
``_daemon`` is one, ``_start_up`` brings them to work, or says why not, and ``_registry`` is what
happens at the end of the process and at a fork.
Where daemons come from elsewhere, ``_acceptor`` lets them in, ``_remote`` is one of them,
``_launch_processes`` are those that have started them, ``_requests`` knows what was asked for, and
``_autoscaler`` asks for more.
``_bounded`` is a host whose queue has a bound, and ``_gate`` is where threads wait for room in it.
``_inline`` runs tasks without daemons, in this process, and ``_template`` forks daemons from it.
"""

from mirai_executor._lazily import lazy_imports
from mirai_executor._waiting import OneShotEvent

from ._host import Host, is_exiting
from ._settings import (
    TRACES,
    Forking,
    Limits,
    ListenConfig,
    Settings,
    environments_for,
    most_daemons,
    serial_hooks,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._bounded import BoundedHost
    from ._connection_spans import place_of
    from ._daemon import Worker
    from ._environments import Environments
    from ._gate import Gate
    from ._inline import InlineHost
    from ._messages import Item as Item
    from ._messages import Message as Message
    from ._of_chunks import (
        decode_error,
        have_begun,
        kind_of,
        set_exception,
        stop_element,
        takes_chunks,
    )
    from ._questions import HostView as HostView
    from ._requests import Request
    from ._share import Share
else:  # what only some executors need
    __getattr__ = lazy_imports(
        __name__,
        {
            "_bounded": ("BoundedHost",),
            "_connection_spans": ("place_of",),
            "_daemon": ("Worker",),
            "_environments": ("Environments",),
            "_gate": ("Gate",),
            "_inline": ("InlineHost",),
            "_messages": ("Item", "Message"),
            "_of_chunks": (
                "decode_error",
                "have_begun",
                "kind_of",
                "set_exception",
                "stop_element",
                "takes_chunks",
            ),
            "_requests": ("Request",),
            "_share": ("Share",),
        },
    )

__all__ = [
    "TRACES",
    "BoundedHost",
    "Environments",
    "Forking",
    "Gate",
    "Host",
    "InlineHost",
    "Item",
    "Limits",
    "ListenConfig",
    "Message",
    "OneShotEvent",
    "Request",
    "Settings",
    "Share",
    "Worker",
    "decode_error",
    "environments_for",
    "have_begun",
    "is_exiting",
    "kind_of",
    "most_daemons",
    "place_of",
    "serial_hooks",
    "set_exception",
    "stop_element",
    "takes_chunks",
]
