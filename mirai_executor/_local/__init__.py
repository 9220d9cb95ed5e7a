"""One daemon process of this machine, as seen by whoever has started it: a host or a keeper.

``_process`` is that daemon, ``_spawner`` decides where its process comes from, and ``_launcher``
has the two ways: a fresh interpreter, and a fork of the server that it leaves behind. ``_relay``
takes over its standard error, and ``_output``, where need be, its standard output; ``_ends`` tells
of its end, and describes it.

Each module is imported when it is asked for: a host has the first interpreter start, which takes
longest, before it imports the rest.
"""

from mirai_executor._lazily import lazy_imports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._ends import *
    from ._launcher import *
    from ._output import *
    from ._process import DaemonProcess as DaemonProcess
    from ._process import Stops as Stops
    from ._process import end_group as end_group
    from ._relay import *
    from ._spawner import *
    from ._template import *
else:
    __getattr__ = lazy_imports(
        __name__,
        {
            "_ends": (
                "LAST_FRAMES DeathWatch another as_launch_error describe_exit has_ended "
                "has_pidfds lacks_room last_words memory_hint misfit other_package watch"
            ),
            "_launcher": "ForkServer Forked LocalLauncher",
            "_output": "OutputRelay relay_for",
            "_process": "DaemonProcess Stops end_group",
            "_relay": "Relay RelayedStream",
            "_spawner": "Process Spawner",
            "_template": "TemplateSpawner fork_server",
        },
    )
