"""Forks this process for an executor whose daemons are to be forks of it.

Nothing of this is imported for one whose daemons are fresh interpreters.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, NoReturn

from mirai_executor._local import fork_server, has_pidfds
from mirai_executor._payload.host import Inheritance, KnownInheritance, only_forks_share
from mirai_executor._typing import Record

from . import _registry

if TYPE_CHECKING:
    from mirai_executor._local import ForkServer

    from ._settings import Settings

_LOG = logging.getLogger("mirai_executor")


class Template(Record):
    """The process from which daemons are forked, and what they have by that."""

    server: ForkServer
    known: KnownInheritance


def template_for(settings: Settings) -> Template | None:
    """Fork this process, if daemons are to be forks of it; None if they are not.

    To be called with ``no_fork`` held.

    Raises:
        OSError: It cannot be forked.
    """
    forking = settings.forking
    if forking is None or not (forking.always or _needs_forks(settings)):
        return None
    become_template = forking.import_template()  # with all that a fork would have to import
    inheritance = Inheritance(settings.initializer, settings.initargs)
    environment = settings.launcher.environment() or {}

    def become(control: int, lifeline: int) -> NoReturn:
        _registry.no_fork.release()  # it was acquired by the caller of this
        os.environ.update(environment)
        become_template(control, lifeline, inheritance)

    server = fork_server(become, _registry.no_fork)
    return Template(server, KnownInheritance(inheritance))


def _needs_forks(settings: Settings) -> bool:
    """Tell whether the initializer's arguments reach daemons in no other way."""
    if settings.initializer is None or not has_pidfds():
        return False
    if not only_forks_share(settings.initializer, settings.initargs):
        return False
    _LOG.info(
        "daemons are forked from this process, as the arguments of the initializer can only be "
        "inherited by forking; those made with multiprocessing.get_context('spawn') can be sent "
        "to fresh interpreters"
    )
    return True
