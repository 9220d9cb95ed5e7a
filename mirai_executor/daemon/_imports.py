"""Notices when an import begins and ends, that of a module which is not there yet.

Modules are never unloaded, so that what an import has set up must outlive its task as well.
"""

from __future__ import annotations

import _frozen_importlib
from _thread import get_ident

from mirai_executor._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def watch_imports(begin: Callable[[], None], end: Callable[[], None]) -> None:
    """Call ``begin`` before each import on this thread from now on, and ``end`` after it.

    An import inside of another one belongs to that one.
    """
    names = vars(_frozen_importlib)
    original = names.get("_find_and_load")  # every such import comes here, also from C
    if original is None:
        return
    thread, is_importing = get_ident(), False

    def _find_and_load(name: str, import_: object) -> object:
        nonlocal is_importing
        if is_importing or get_ident() != thread:
            return original(name, import_)
        try:
            is_importing = True
            begin()
            return original(name, import_)
        finally:
            is_importing = False
            end()

    # Python leaves the frames of its own file out of the traceback of an import that fails.
    file = original.__code__.co_filename
    _find_and_load.__code__ = _find_and_load.__code__.replace(co_filename=file)
    names["_find_and_load"] = _find_and_load
