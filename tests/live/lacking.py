"""Takes from an interpreter, and from all that it starts, what some Pythons or systems lack.

Each way is the text of a ``sitecustomize.py``, which every interpreter runs first: that of the
host, those of its daemons and those of their keepers.
"""

import errno
import os
import platform
from pathlib import Path

import pytest

_NAMES = """
import fcntl, mmap, os, selectors, signal, socket
def take(module, *beginnings):
    for name in dir(module):
        if name.startswith(beginnings):
            delattr(module, name)
take(os, "MFD_", "memfd_", "pidfd_", "P_PIDFD", "SCHED_", "sched_", "O_ASYNC", "O_TMPFILE")
take(signal, "pidfd_")
take(fcntl, "F_ADD_SEALS", "F_GET_SEALS", "F_SEAL_", "F_SETSIG", "F_SETPIPE_SZ")
take(mmap, "MADV_REMOVE")
take(selectors, "EpollSelector")
selectors.DefaultSelector = selectors.PollSelector
"""
_OLD_C_LIBRARY = """
import ctypes
class Old(ctypes.CDLL):
    def __getattr__(self, name):
        if name == "memfd_create":
            raise AttributeError(name)
        return super().__getattr__(name)
ctypes.CDLL = Old
"""
_THREADS = """
import threading
start = threading.Thread.start
def start_no_watch(thread):
    if thread.name.startswith("mirai-end-"):
        raise RuntimeError("can't create new thread at interpreter shutdown")
    start(thread)
threading.Thread.start = start_no_watch
"""
_REFUSALS = """
import fcntl, os, signal, socket
def refuse(*_, **__):
    raise OSError({number}, os.strerror({number}))
for name in dir(os):
    if name.startswith(("memfd_", "pidfd_", "sched_")):
        setattr(os, name, refuse)
signal.pidfd_send_signal = refuse
ask, send = fcntl.fcntl, socket.socket.sendmsg
def fcntl_(fd, what, *args):
    refused = {fcntls}
    return refuse() if what in refused else ask(fd, what, *args)
def sendmsg(self, data, rights=(), *args):
    return refuse() if rights else send(self, data, rights, *args)
fcntl.fcntl, socket.socket.sendmsg = fcntl_, sendmsg
"""
_FCNTLS = (8, 10, 1031, 1033)  # F_SETOWN, F_SETSIG, F_SETPIPE_SZ, F_ADD_SEALS

# A filter of system calls, which a process and all that come after it keep. seccomp(2): a program
# of the Berkeley Packet Filter, run on the number and the arguments of each call.
_SECCOMP = """
import os
if os.environ.pop("MIRAI_TEST_SANDBOX", ""):
    import ctypes, struct
    LOAD, IF_EQUAL, RETURN = 0x20, 0x15, 0x06
    ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | {number}
    program = [(LOAD, 0, 0, 0)]
    for call in {calls}:
        program += [(IF_EQUAL, 0, 1, call), (RETURN, 0, 0, REFUSE)]
    program += [(IF_EQUAL, 1, 0, {fcntl}), (RETURN, 0, 0, ALLOW), (LOAD, 0, 0, 24)]
    for what in {fcntls}:
        program += [(IF_EQUAL, 0, 1, what), (RETURN, 0, 0, REFUSE)]
    program.append((RETURN, 0, 0, ALLOW))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    sandbox = struct.pack("HP", len(program), ctypes.addressof(code))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(38, 1, 0, 0, 0) or prctl(22, 2, sandbox, 0, 0):  # no new privileges; the filter
        raise OSError(ctypes.get_errno(), "there is no seccomp here")
"""
# Of each machine: fcntl; memfd_create, pidfd_open, pidfd_send_signal, sched_setscheduler,
# sched_getscheduler, sched_getaffinity, epoll_create1, eventfd2.
_CALLS = {
    "x86_64": (72, (319, 434, 424, 144, 145, 204, 291, 290)),
    "aarch64": (25, (279, 434, 424, 119, 120, 123, 20, 19)),
}


def _refusals(number: int) -> str:
    return _REFUSALS.format(number=number, fcntls=_FCNTLS)


def _seccomp() -> str:
    fcntl, calls = _CALLS.get(platform.machine(), (-1, ()))
    return _SECCOMP.format(number=errno.EPERM, fcntl=fcntl, calls=calls, fcntls=_FCNTLS)


WAYS = {
    "names": _NAMES,
    "names, and the C library": _NAMES + _OLD_C_LIBRARY,
    "names, and threads instead": _NAMES + _OLD_C_LIBRARY + _THREADS,
    "calls that are not there": _refusals(errno.ENOSYS),
    "calls that are forbidden": _refusals(errno.EPERM),
    "calls that a sandbox forbids": _seccomp(),
}
# As a kernel that was built, or started, without version 6 answers.
_NO_IPV6 = """
import ctypes, struct
program = [
    (0x20, 0, 0, 0), (0x15, 0, 3, {socket}), (0x20, 0, 0, 16),  # socket(2), and its family
    (0x15, 0, 1, 10), (0x06, 0, 0, 0x00050000 | {number}), (0x06, 0, 0, 0x7FFF0000),
]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
sandbox = struct.pack("HP", len(program), ctypes.addressof(code))
prctl = ctypes.CDLL(None, use_errno=True).prctl
if prctl(38, 1, 0, 0, 0) or prctl(22, 2, sandbox, 0, 0):  # as above
    raise OSError(ctypes.get_errno(), "there is no seccomp here")
"""
_SOCKET = {"x86_64": 41, "aarch64": 198}


def take_ipv6_away(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """From now on, have each interpreter that is started, NNG included, lack IPv6."""
    if platform.machine() not in _SOCKET:
        pytest.skip("the number of this machine's system call is not known here")
    text = _NO_IPV6.format(socket=_SOCKET[platform.machine()], number=errno.EAFNOSUPPORT)
    (folder / "sitecustomize.py").write_text(text)
    patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)


def take_away(way: str, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """From now on, have each interpreter that is started lack something."""
    if "prctl" in WAYS[way] and platform.machine() not in _CALLS:
        pytest.skip("the numbers of this machine's system calls are not known here")
    (folder / "sitecustomize.py").write_text(WAYS[way])
    patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
    patch.setenv("MIRAI_TEST_SANDBOX", "yes")
