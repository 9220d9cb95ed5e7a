"""Lists every name of others that they may rename without a word, and says so when one is gone.

::

    room is imported ── check(room) ── all are there ──► goes on
                                   └── one is missing ─► ImportError: which, and what to install
    room has another way ── optional ── it is missing ─► RuntimeWarning: what is lost; goes on

A unit test removes each name in turn, and another one looks for names that are not listed.
"""

from __future__ import annotations

import sys

from ._version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PYTHONS = "3.11 to 3.15"
# The versions of requirements.lock: what to install where another one lacks something.
TESTED = {"cloudpickle": "3.1.3", "pynng": "0.9.0", "tblib": "3.2.2"}


class PrivateNames:
    """The private names of one owner, and the tests that fail when they mean something else.

    Args:
        owner: A module or a class; with ``()``, an instance of that class.
        names: Separated by spaces.
        guard: A file of tests.
    """

    def __init__(self, owner: str, names: str, guard: str) -> None:
        self.owner = owner
        self.names = names.split()
        self.guard = guard


# By room. A room imports nothing for this: its own imports come first.
NEEDED = {
    "futures": (
        PrivateNames(
            "concurrent.futures._base",
            "CANCELLED CANCELLED_AND_NOTIFIED FINISHED LOGGER PENDING RUNNING",
            "tests/unit/test_futures.py",
        ),
        # What Future.__init__ makes, which is not called, and others look at.
        PrivateNames(
            "concurrent.futures.Future()",
            "_condition _done_callbacks _exception _result _state _waiters",
            "tests/contract/cpython/test_cpython.py",
        ),
        PrivateNames(
            "concurrent.futures.Future", "_invoke_callbacks", "tests/unit/test_futures.py"
        ),
    ),
    "_payload.common.hooks": (
        PrivateNames(
            "cloudpickle.cloudpickle",
            "_BUILTIN_TYPE_NAMES _DYNAMIC_CLASS_TRACKER_BY_ID _builtin_type _class_setstate "
            "_decompose_typevar _dynamic_class_reduce _lookup_class_or_track _make_skeleton_class "
            "_make_typevar",
            "tests/unit/test_payload_main.py",
        ),
        PrivateNames(
            "cloudpickle.Pickler", "_dispatch_table", "tests/unit/test_payload_functions.py"
        ),
    ),
    "_payload.common.inherited": (
        PrivateNames(
            "multiprocessing.synchronize.SemLock", "__setstate__", "tests/live/test_sharing.py"
        ),
    ),
    "_payload.common.inheritance": (
        PrivateNames("multiprocessing.util", "_afterfork_registry", "tests/live/test_contexts.py"),
    ),
    "daemon._import_server": (
        PrivateNames("atexit", "_run_exitfuncs", "tests/live/test_main_once.py"),
    ),
    "daemon._fitness": (
        PrivateNames("weakref.finalize", "_registry", "tests/live/test_main_once.py"),
    ),
    "daemon._template": (
        PrivateNames("atexit", "_clear _run_exitfuncs", "tests/live/test_contexts.py"),
        PrivateNames("threading", "_shutdown", "tests/live/test_contexts.py"),
        PrivateNames(
            "multiprocessing.util",
            "_exit_function _finalizer_registry _run_after_forkers",
            "tests/live/test_contexts.py",
        ),
        PrivateNames(
            "multiprocessing.process",
            "_children _process_counter",
            "tests/live/test_contexts.py",
        ),
    ),
    "_payload.common.descriptors": (
        PrivateNames(
            "multiprocessing.reduction.ForkingPickler",
            "_extra_reducers",
            "tests/unit/test_payload_descriptors.py",
        ),
        PrivateNames(
            "multiprocessing.resource_sharer",
            "_ResourceSharer _resource_sharer",
            "tests/unit/test_payload_descriptors.py",
        ),
        PrivateNames(
            "multiprocessing.resource_sharer._resource_sharer",
            "_cache _listener",
            "tests/unit/test_payload_descriptors.py",
        ),
    ),
    "_transport._nng": (
        PrivateNames("pynng.nng", "_pynng_atexit", "tests/live/test_websockets.py"),
        PrivateNames(
            "pynng.lib",
            "NNG_ECLOSED NNG_ECONNREFUSED NNG_ENOFILES NNG_ENOMEM NNG_ETIMEDOUT "
            "NNG_INIT_NUM_EXPIRE_THREADS NNG_INIT_NUM_POLLER_THREADS "
            "NNG_INIT_NUM_RESOLVER_THREADS NNG_INIT_NUM_TASK_THREADS nng_aio_abort "
            "nng_aio_alloc nng_aio_count nng_aio_free nng_aio_get_output nng_aio_result "
            "nng_aio_set_iov nng_aio_stop nng_init_set_parameter nng_stream_close "
            "nng_stream_dialer_alloc nng_stream_dialer_close nng_stream_dialer_dial "
            "nng_stream_dialer_free nng_stream_dialer_set_bool nng_stream_dialer_set_size "
            "nng_stream_free nng_stream_get_addr nng_stream_get_bool "
            "nng_stream_listener_accept nng_stream_listener_alloc nng_stream_listener_close "
            "nng_stream_listener_free nng_stream_listener_get_int nng_stream_listener_listen "
            "nng_stream_listener_set_bool nng_stream_listener_set_size nng_stream_recv "
            "nng_stream_send nng_strerror",
            "tests/live/test_websockets.py",
        ),
    ),
}

# Those without which a room goes on, by optional() or in its own way; and those that it can look
# for only when it needs them.
OPTIONAL = (
    PrivateNames("threading", "_register_atexit", "tests/live/test_exit.py"),
    PrivateNames("subprocess", "_args_from_interpreter_flags", "tests/live/test_launching.py"),
    PrivateNames(
        "concurrent.futures.process", "_RemoteTraceback", "tests/contract/cpython/test_cpython.py"
    ),
    # Without it, what a task unpickles by name is imported each time it is looked up.
    PrivateNames("sys.__spec__", "_initializing", "tests/unit/test_payload_main.py"),
    # Without them, a daemon is not the child of its host to multiprocessing.
    PrivateNames(
        "multiprocessing.process", "_ParentProcess _parent_process", "tests/live/test_kinship.py"
    ),
    # Without it, multiprocessing does not count daemons among the host's active children.
    PrivateNames("multiprocessing.process", "_children", "tests/live/test_kinship.py"),
    # Without it, multiprocessing's resources that a task makes end with their daemon.
    PrivateNames(
        "multiprocessing.resource_tracker", "_resource_tracker", "tests/live/test_kinship.py"
    ),
    PrivateNames(
        "multiprocessing.resource_tracker._resource_tracker", "_fd", "tests/live/test_kinship.py"
    ),
    # Without them, what an import that was in vain has shared may stay in memory.
    PrivateNames(
        "multiprocessing.resource_tracker._resource_tracker",
        "_pid _stop",
        "tests/live/test_main_once.py",
    ),
    PrivateNames("multiprocessing.current_process()", "_identity", "tests/live/test_kinship.py"),
    # Looked up only where a lock travels: its part in C, which knows whether it has a name.
    PrivateNames("multiprocessing.Lock()", "_semlock", "tests/live/test_sharing.py"),
    # Without it, what an import in a task has set up is taken back after the task.
    PrivateNames("_frozen_importlib", "_find_and_load", "tests/unit/test_cleanup.py"),
    # Without it, hashlib has it, which takes longer to import; and pickle, if it is not CPython's.
    PrivateNames("_blake2", "blake2b", "tests/unit/test_payload_functions.py"),
    PrivateNames(
        "_pickle",
        "PickleBuffer Pickler PicklingError Unpickler dumps loads",
        "tests/unit/test_payload_functions.py",
    ),
    # These are what socket and signal consist of, and are there as long as those are.
    PrivateNames(
        "_socket",
        "AF_INET AF_INET6 AF_UNIX CMSG_LEN CMSG_SPACE IPPROTO_TCP MSG_CMSG_CLOEXEC MSG_CTRUNC "
        "MSG_NOSIGNAL MSG_PEEK SCM_RIGHTS SOCK_SEQPACKET SOL_SOCKET socket socketpair",
        "tests/unit/test_local_links.py",
    ),
    PrivateNames(
        "_signal",
        "getitimer getsignal pthread_sigmask set_wakeup_fd setitimer signal",
        "tests/unit/test_dirty_flag.py",
    ),
    # Without it, named tuples find their fields in Python.
    PrivateNames("_collections", "_tuplegetter", "tests/unit/test_typing.py"),
)


def check(room: str) -> None:
    """Look for all names on which a room relies.

    Raises:
        ImportError: One is missing; it says which, and what to install.
    """
    for needed in NEEDED[room]:
        owner = _find(needed.owner)
        for name in needed.names:
            if not hasattr(owner, name):
                raise missing(f"{needed.owner}.{name}")


def _find(owner: str) -> Any:
    first, *rest = owner.removesuffix("()").split(".")
    found: Any = sys.modules[first]
    for part in rest:
        if not hasattr(found, part):
            raise missing(owner)
        found = getattr(found, part)
    return found() if owner.endswith("()") else found


def missing(name: str) -> ImportError:
    """Return the error that says what to install, as a name is missing."""
    package = name.partition(".")[0]
    if package in TESTED:
        version = getattr(sys.modules.get(package), "__version__", "of an unknown version")
        owner, advice = f"{package} {version}", f"{package}=={TESTED[package]}"
    else:
        owner, advice = f"Python {sys.version.split()[0]}", f"Python {PYTHONS}"
    return ImportError(
        f"mirai_executor {__version__} uses {name}, which {owner} does not have (it is not among "
        f"the names that are promised to stay): install {advice}, or a newer mirai_executor"
    )


def optional(owner: str, name: str, otherwise: Any, loss: str) -> Any:
    """Return a name of a module, or where it is missing what does ``otherwise``, with a warning.

    Args:
        owner: A module, which is imported.
        name: Which of its names.
        otherwise: What does instead.
        loss: What the user has to do without, as a sentence.
    """
    __import__(owner)
    found = getattr(sys.modules[owner], name, None)
    if found is not None:
        return found
    import warnings

    warnings.warn(
        f"{missing(f'{owner}.{name}')}. Until then: {loss}", RuntimeWarning, stacklevel=3
    )
    return otherwise
