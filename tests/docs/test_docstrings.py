"""Runs the examples of the public docstrings, and looks for public names that have none."""

import doctest
import importlib.util
import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest

import mirai_executor
from mirai_executor import launchers

# Of the standard library: inherited, and documented there.
STANDARD = {"add_done_callback", "cancelled", "done", "exception", "running"}
# To be used in a with statement, which the examples of the class show; made by the executor.
UNSHOWN = {"of", "with_traceback", "add_note"}
# Called by the host alone.
OF_THE_HOST = {"end_cancelled", "set_exception", "set_outcome", "set_running_or_notify_cancel"} | {
    "set_result",
    "listener",
    "set_value",
    "start",
}


def documented() -> Iterator[tuple[str, Any]]:
    """Yield everything that a user calls, by its name."""
    for name in mirai_executor.__all__:
        thing = getattr(mirai_executor, name)
        if not inspect.isclass(thing) and not inspect.isfunction(thing):
            continue
        yield name, thing
        if not inspect.isclass(thing):
            continue
        for attribute, _ in inspect.getmembers_static(thing):
            found = inspect.getattr_static(thing, attribute)
            is_ours = getattr(thing, attribute) is not None and _is_described(found)
            hidden = STANDARD | UNSHOWN | OF_THE_HOST
            if is_ours and not attribute.startswith("_") and attribute not in hidden:
                yield f"{name}.{attribute}", found


def _is_described(member: object) -> bool:
    return inspect.isfunction(member) or isinstance(member, (property, classmethod))


# For launchers of one's own.
TO_LAUNCH = {"Command", "DaemonCommand", "HttpRequest", "Launcher", "PrivateFile", "Scheduler"} | {
    "Until",
    "shell_command",
}
DOCUMENTED = dict(documented()) | {
    f"launchers.{name}": getattr(launchers, name) for name in sorted(TO_LAUNCH)
}

# tox -e docs has it; what joblib itself calls is not for users.
if importlib.util.find_spec("joblib") is not None:
    from mirai_executor.integrations import joblib

    DOCUMENTED |= {f"joblib.{name}": getattr(joblib, name) for name in joblib.__all__}


def test_what_is_looked_at_is_what_users_call() -> None:
    assert {"MiraiExecutor.submit", "MiraiFuture.cancel", "mirai", "ssh_config"} <= set(DOCUMENTED)
    assert len(DOCUMENTED) > 60


@pytest.mark.live
@pytest.mark.docs
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", DOCUMENTED)
def test_a_public_name_has_an_example_that_is_true(name: str) -> None:
    namespace = {each: getattr(mirai_executor, each) for each in mirai_executor.__all__}
    text = inspect.getdoc(DOCUMENTED[name]) or ""
    example = doctest.DocTestParser().get_doctest(
        text, {**namespace, "__name__": "__main__"}, name, None, 0
    )
    assert example.examples, "the docstring has no example"
    report: list[str] = []
    doctest.DocTestRunner(verbose=False).run(example, out=report.append)
    assert not report, "".join(report)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_a_docstring_begins_with_one_sentence_and_fits_a_terminal(name: str) -> None:
    summary, _, rest = (DOCUMENTED[name].__doc__ or "").partition("\n")
    assert summary.endswith(".")
    assert rest == "" or rest.startswith("\n")
    # A colon there would make Sphinx take what stands before it for a type.
    assert not re.search(r"Returns:\n[^:\n]*[^`:\n]: ", inspect.getdoc(DOCUMENTED[name]) or "")
    for line in (inspect.getdoc(DOCUMENTED[name]) or "").splitlines():
        assert not line.lstrip().startswith((">>>", "...")) or len(line) < 90
