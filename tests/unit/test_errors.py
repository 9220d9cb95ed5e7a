"""The error tree: what each error also is, and that it travels."""

import pickle
from concurrent.futures import BrokenExecutor
from concurrent.futures.process import BrokenProcessPool

import pytest

import mirai_executor
from mirai_executor import errors

TREE = {
    errors.TaskTimeoutError: (TimeoutError, 5),
    errors.DaemonLostError: (BrokenProcessPool, 19),
    errors.LaunchError: (BrokenExecutor, None),
    errors.MiraiInterrupt: (Exception, None),
    errors.RemoteError: (Exception, None),
    errors.PayloadError: (pickle.PicklingError, None),
    errors.ForkedExecutorError: (RuntimeError, None),
    errors.DaemonsNotSetError: (LookupError, None),
}


@pytest.mark.parametrize("kind", TREE)
def test_each_error_is_one_of_ours_and_a_standard_one(kind: type[errors.MiraiError]) -> None:
    also, code = TREE[kind]
    assert issubclass(kind, errors.MiraiError)
    assert issubclass(kind, also)
    assert kind.code == code


@pytest.mark.parametrize("kind", TREE)
def test_each_error_is_exported(kind: type[errors.MiraiError]) -> None:
    assert getattr(mirai_executor, kind.__name__) is kind
    assert kind.__name__ in mirai_executor.__all__


@pytest.mark.parametrize(
    "error",
    [
        errors.DaemonLostError("gone", pid=3, host="h", exitcode=-9, stderr="last"),
        errors.LaunchError("no", command=("python", "-c"), exitcode=1, stderr="why"),
        errors.RemoteError("failed", type_name="m.E", text="t", traceback="Traceback"),
        errors.TaskTimeoutError("late"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_keeps_its_attributes_when_it_travels(error: errors.MiraiError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert (copy.args, vars(copy)) == (error.args, vars(error))


def test_the_tree_in_the_docstring_names_every_error() -> None:
    assert errors.__doc__ is not None
    assert all(name in errors.__doc__ for name in errors.__all__ if name.endswith("Error"))
