"""Gives a daemon the variables that its host has for it, before anything of the user's runs."""

import os
import time

from mirai_executor._devices import claim_gpus, share_of_gpus
from mirai_executor._payload.daemon import Preparation

# What a launcher gives several daemons of one machine: the place of each among them. And what a
# keeper gives each: where its host is.
_NUMBER, _HOST = "MIRAI_EXECUTOR_NUMBER", "MIRAI_EXECUTOR_HOST"


def set_environment(preparation: Preparation) -> None:
    """Set the variables.

    Raises:
        ValueError: This machine has not so many GPUs.
    """
    if gpus := preparation.gpus:
        if number := os.environ.get(_NUMBER):
            shown = share_of_gpus(os.environ, int(number), gpus)
        else:
            shown = claim_gpus(os.environ, gpus, os.environ.get(_HOST, ""))
        os.environ.update(shown)
    os.environ.update(preparation.variables)
    time.tzset()  # TZ may be among them
