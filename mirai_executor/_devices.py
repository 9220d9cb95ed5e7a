"""Knows which GPUs a process may use, and which of them are for one of several daemons.

Nothing of CUDA or ROCm is asked or imported: the variables of both, which schedulers set, and
what the system shows of their drivers say enough.
"""

import os
from collections.abc import Mapping

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
