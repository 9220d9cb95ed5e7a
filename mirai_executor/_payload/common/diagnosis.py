"""Says which part of an object cannot be pickled, and whether pickle or user code said so."""

import sys
from collections.abc import Mapping
from itertools import pairwise
from types import CoroutineType, GeneratorType

from mirai_executor._payload.common.anatomy import PLAIN, forget_classes, place_in, step
from mirai_executor._payload.common.fast_pickle import PicklingError
from mirai_executor._payload.common.search import MOST, FailedPickler, Places, fails, way_to
from mirai_executor._payload.common.wording import describe, is_of_a_hook
from mirai_executor._typing import Any
from mirai_executor.errors import PayloadError

_REFUSALS = ("cannot pickle", "can't pickle", "can't get local object")


def said_by_pickle(error: BaseException) -> bool:
    """Tell whether the pickler refused an object; otherwise the user's own code raised this."""
    if isinstance(error, RecursionError):
        return True
    if not isinstance(error, (TypeError, AttributeError, PicklingError)) or is_of_a_hook(error):
        return False
    module = _module_that_raised(error)
    if module.partition(".")[0] in ("mirai_executor", "cloudpickle", "copyreg", "pickle"):
        return True
    # socket, ssl and others refuse in their own __getstate__.
    refuses = str(error).lower().startswith(_REFUSALS)
    return refuses and module.partition(".")[0] in sys.stdlib_module_names


def _module_that_raised(error: BaseException) -> str:
    trace, module = error.__traceback__, ""
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__", ""))
        trace = trace.tb_next
    return module


def explain(
    parts: dict[str, Any], pickler: FailedPickler | None, error: BaseException
) -> PayloadError:
    """Return the error that names what pickle refuses, and where it is.

    Args:
        parts: The whole, by the names that the user knows: ``args[0]``, ``result``. They were
            pickled in this order.
        pickler: What has failed; None if an error came before there was one.
        error: What pickle said.
    """
    return _explained(*_named(parts, pickler, error), error)


def explain_call(
    call: tuple[Any, ...], pickler: FailedPickler | None, error: BaseException
) -> PayloadError:
    """Do so for a call, of which an argument may be a future: then to submit it is a mistake."""
    fn, args, kwargs = call
    parts = {"the function": fn}
    parts.update({f"args[{i}]": value for i, value in enumerate(args)})
    parts.update({f"kwargs[{name!r}]": value for name, value in kwargs.items()})
    path, culprit = _named(parts, pickler, error)
    explained = _explained(path, culprit, error)
    explained._is_for_the_call = path in parts and is_future(culprit)  # noqa: SLF001 - one of ours
    return explained


def of_code(error: PayloadError, names: Mapping[str, object]) -> PayloadError:
    """Return the error of code that names a variable as its user has called it."""
    text = str(error).replace("cannot pickle args[1][", "cannot pickle variables[", 1)
    renamed = PayloadError(text)
    renamed._is_for_the_call = any(  # noqa: SLF001 - one of ours
        is_future(value) and text.startswith(f"cannot pickle variables[{name!r}] (")
        for name, value in names.items()
    )
    return renamed


def _named(
    parts: dict[str, Any], pickler: FailedPickler | None, error: BaseException
) -> tuple[str, object]:
    """Return the path to what has failed, and that, whatever the user's code may do."""
    try:
        return _found(parts, pickler, error)
    except Exception:  # of the user's code, as that of a property: that is not what is wrong
        return " or ".join(parts), None if pickler is None else pickler.culprit
    finally:
        forget_classes()
        if pickler is not None:  # nor does the error's traceback keep more than it has to
            pickler.begin_anew()


def _explained(path: str, culprit: object, error: BaseException) -> PayloadError:
    kind = type(culprit)
    name = (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )
    why = _advice(culprit) or describe(error)
    explained = PayloadError(f"cannot pickle {path} (a {name} object): {why}")
    explained.__cause__ = error
    return explained


def _advice(obj: object) -> str:
    """Return what to do instead of sending an object of a kind that can never travel."""
    if is_future(obj):
        return "it belongs to the process that created it; send its result instead"
    if isinstance(obj, CoroutineType):
        return "a coroutine cannot leave its process; pass the async function that returns it"
    if isinstance(obj, GeneratorType):
        return "a generator cannot leave its process; make a list of it, and send that"
    return ""


def is_future(obj: object) -> bool:
    """Tell whether an object is a future of the standard library, ours, or one of asyncio."""
    # Not imported for this: without the module, there is no such object.
    modules = map(sys.modules.get, ("concurrent.futures._base", "asyncio.futures"))
    return any(isinstance(obj, getattr(module, "Future", ())) for module in modules)


def _found(
    parts: dict[str, Any], pickler: FailedPickler | None, error: BaseException
) -> tuple[str, object]:
    """Return the path to what has failed, and that."""
    whole = list(parts.values())
    if pickler is None or not whole:
        return " or ".join(parts), next(iter(whole), None)
    culprit = pickler.culprit
    way: list[Any] = [whole]
    places: Places = {}
    if not isinstance(error, RecursionError):  # what is nested too deeply is so as a whole
        way, places = way_to(culprit, whole, pickler)
    if len(way) == 1:
        way.append(_failing(whole, pickler))
    # What can never travel says more than its parts do.
    others = ((i, obj) for i, obj in enumerate(way, 1) if type(obj) not in PLAIN)
    way = way[: next((i for i, obj in others if _advice(obj)), None)]
    path = _in_words(way, places, list(parts))
    return (path, way[-1]) if len(way) < MOST or way[-1] is culprit else (f"{path}…", culprit)


def _failing(whole: list[Any], pickler: FailedPickler) -> object:
    """Return the part that fails: the last one, if no other does."""
    pickler.begin_anew()
    return next((part for part in whole[:-1] if fails(pickler, part)), whole[-1])


def _in_words(way: list[Any], places: Places, names: list[str]) -> str:
    """Say how one gets from the parts of a whole, which have names, down the way."""
    path = names[place_in(way[0], way[1]) or 0]
    for holder, part in pairwise(way[1:]):
        known, place = places.get(id(part)) or (None, None)
        path = step(path, holder, part, place if known is holder else None)
    return path
