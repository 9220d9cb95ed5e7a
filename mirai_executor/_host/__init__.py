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

from mirai_executor._core import Limits as Limits
from mirai_executor._lazily import lazy_imports
from mirai_executor._waiting import OneShotEvent as OneShotEvent

from ._host import Host as Host
from ._registry import is_exiting as is_exiting
from ._settings import *

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._bounded import *
    from ._connection_spans import *
    from ._daemon import *
    from ._environments import *
    from ._gate import *
    from ._inline import InlineHost as InlineHost
    from ._messages import *
    from ._of_chunks import *
    from ._questions import *
    from ._requests import *
    from ._share import *
    from ._tasks import decode_error as decode_error
    from ._tasks import kind_of as kind_of
    from ._tasks import set_exception as set_exception
else:  # what only some executors need
    __getattr__ = lazy_imports(
        __name__,
        {
            "_bounded": "BoundedHost",
            "_connection_spans": "address_attributes",
            "_daemon": "Worker",
            "_environments": "Environments",
            "_gate": "Gate",
            "_inline": "InlineHost",
            "_messages": "Item Message",
            "_of_chunks": "have_begun stop_element takes_chunks",
            "_questions": "HostView",
            "_requests": "Request",
            "_share": "Share",
            "_tasks": "decode_error kind_of set_exception",
        },
    )
