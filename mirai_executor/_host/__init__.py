"""Owns the dispatcher, the links and the open futures of one executor, from any thread's view.

``_host`` is what can be asked of it, ``_host_thread`` runs ``_loop`` on a thread of its own, and
``_outcomes`` brings what it learns into the futures; ``_fleet`` has the daemons, of which
``_daemon`` is one, ``_start_up`` brings them to work, ``_losses`` is how they were lost, and
``_registry`` what happens at the end of the process and at a fork.
Where daemons come from elsewhere, ``_door`` lets them in, ``_remote`` is one of them,
``_commands`` are those that have started them, and ``_elastic`` asks for more.
``_inline`` runs tasks without daemons, in this process, and ``_template`` forks daemons from it.
"""

from mirai_executor._lazily import door
from mirai_executor._waiting import Moment

from ._host import Host, is_exiting
from ._settings import Entrance, Forking, Limits, Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._inline import InlineHost
    from ._questions import HostView as HostView
    from ._share import Share
else:  # what only some executors need
    __getattr__ = door(__name__, {"_inline": ("InlineHost",), "_share": ("Share",)})

__all__ = [
    "Entrance",
    "Forking",
    "Host",
    "InlineHost",
    "Limits",
    "Moment",
    "Settings",
    "Share",
    "is_exiting",
]
