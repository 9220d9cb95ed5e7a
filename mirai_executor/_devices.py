"""Knows which GPUs a process may use, and which of them are for one of several daemons.

Nothing of CUDA or ROCm is asked or imported: the variables of both, which schedulers set, and
what the system shows of their drivers say enough. Daemons that do not know of each other find out
by names of the kernel who has which.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

_CUDA, _ROCR, _HIP = "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"
_NVIDIA = "/dev"  # nvidia0, nvidia1 …
_AMD = "/sys/class/kfd/kfd/topology/nodes"  # of processors, too, whose gpu_id is 0


def visible_gpus(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the GPUs that this process may use, as the variables name them.

    Args:
        environment: The variables; what they say outranks what the machine has.
    """
    return _found(environment)[1]


def share_of_gpus(environment: Mapping[str, str], number: int, count: int) -> dict[str, str]:
    """Return the variables that show a daemon its GPUs, and no others.

    Args:
        environment: The variables as they are.
        number: Its place among the daemons that share the machine, counted from 1.
        count: How many GPUs each has.

    Raises:
        ValueError: There are not so many.
    """
    name, all_ = _found(environment)
    mine = all_[(number - 1) * count : number * count]
    if len(mine) < count:
        named = f": {name}={','.join(all_)}" if all_ else ""
        raise ValueError(
            f"daemon {number} is to have {count} GPUs, and those before it as many each, but "
            f"there are {len(all_)} here{named}"
        )
    variables = {name: ",".join(mine)}
    if name == _ROCR:  # the others choose from what that leaves, and count from 0
        variables[_HIP] = ",".join(map(str, range(count)))
        if _CUDA in environment:
            variables[_CUDA] = variables[_HIP]
    return variables


_claims: list[socket.socket] = []  # of this process; the kernel lets go of them at its end


def claim_gpus(environment: Mapping[str, str], count: int, whose: str) -> dict[str, str]:
    """Return the variables that show a daemon GPUs that no other of its executor has here.

    For a daemon whose place among those of its machine nobody knows, such as one beside a worker
    of Dask, or started in a shell. It takes the first GPUs that are free. If too few are, it gets
    the first ones of all: the same names may stand for other GPUs, as in jobs to which a scheduler
    shows their own GPUs under the lowest numbers.

    Args:
        environment: The variables as they are.
        count: How many GPUs each has.
        whose: A text that daemons of the same executor have in common.

    Raises:
        ValueError: There are not so many.
    """
    name, all_ = _found(environment)
    free: list[str] = []
    for device in all_:
        if len(free) < count and _claim(whose, device):
            free.append(device)
    if len(free) < count:
        _forget_claims()  # others may still have these
        return share_of_gpus(environment, 1, count)
    return share_of_gpus({**environment, name: ",".join(free)}, 1, count)


def _claim(whose: str, device: str) -> bool:
    """Take a device, until this process ends; False if a process of this machine has it."""
    import binascii
    import socket

    made = socket.socket(socket.AF_UNIX)
    # A name without a file, which Linux has, goes with the process, however that ends.
    name = f"\0mirai-gpu-{os.getuid()}-{binascii.crc32(whose.encode()):08x}-{device}"
    try:
        made.bind(name[:100])
    except OSError:
        made.close()
        return False
    if not _claims:  # what a task forks may outlive the daemon, whose successor has its GPUs
        os.register_at_fork(after_in_child=_forget_claims)
    _claims.append(made)
    return True


def _forget_claims() -> None:
    while _claims:
        _claims.pop().close()


def _found(environment: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    """Return the variable that decides, and the GPUs that it names, or would."""
    amd = _amd_gpus()
    for name in (_ROCR, _HIP, _CUDA) if amd else (_CUDA, _ROCR, _HIP):
        if name in environment:
            return name, _named(environment[name])
    return (_ROCR, amd) if amd else (_CUDA, _nvidia_gpus())


def _named(value: str) -> tuple[str, ...]:
    """Return the devices that a variable names: those before the first impossible one (CUDA)."""
    devices: list[str] = []
    for word in value.split(","):
        device = word.strip()
        if not device or device.startswith("-"):
            break
        devices.append(device)
    return tuple(devices)


def _nvidia_gpus() -> tuple[str, ...]:
    numbers = [name[6:] for name in _listed(_NVIDIA) if name.startswith("nvidia")]
    found = sorted(int(number) for number in numbers if number.isdecimal())
    return tuple(map(str, range(len(found))))  # CUDA counts what it finds


def _amd_gpus() -> tuple[str, ...]:
    gpus = [node for node in _listed(_AMD) if _gpu_id(f"{_AMD}/{node}/gpu_id") not in ("", "0")]
    return tuple(map(str, range(len(gpus))))


def _gpu_id(path: str) -> str:
    try:
        with open(path) as file:  # noqa: PTH123 - pathlib is slow to import
            return file.read().strip()
    except OSError:
        return ""


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - as above
    except OSError:
        return []
