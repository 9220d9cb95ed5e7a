"""Gives a daemon the variables that its host has for it, before anything of the user's runs."""

import os
import time

from mirai_executor._devices import share_of_gpus
from mirai_executor._payload.daemon import Preparation

# What a launcher gives several daemons of one machine: the place of each among them.
_NUMBER = "MIRAI_EXECUTOR_NUMBER"


def set_environment(preparation: Preparation) -> None:
    """Set the variables.

    Raises:
        ValueError: This machine has not so many GPUs.
    """
    if preparation.gpus:
        number = int(os.environ.get(_NUMBER) or 1)
        os.environ.update(share_of_gpus(os.environ, number, preparation.gpus))
    os.environ.update(preparation.variables)
    time.tzset()  # TZ may be among them
