"""Arrow tables, polars frames, tensors and models travel as hooks say, the large ones uncopied."""

import gc
import io
import pickle
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import polars
import pyarrow
import pytest
from sklearn.base import BaseEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression

from live.hosts import run
from mirai_executor import MiraiExecutor, SerialConfig, host_url, serial_config

ROWS = 200_000
SOON = 60.0  # seconds
NO_TORCH = "tox -e ecosystem installs a build for processors only, where pip finds one"


def dump_table(table: Any) -> Any:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue()


def load_table(data: memoryview) -> Any:
    return pyarrow.ipc.open_stream(pyarrow.py_buffer(data)).read_all()


def dump_frame(frame: polars.DataFrame) -> memoryview:
    file = io.BytesIO()
    frame.write_ipc(file)
    return file.getbuffer()


def load_frame(data: memoryview) -> polars.DataFrame:
    return polars.read_ipc(io.BytesIO(data))


def dump_tensor(tensor: Any) -> list[Any]:
    torch: Any = import_module("torch")
    is_parameter = isinstance(tensor, torch.nn.Parameter)
    about = (is_parameter, tensor.requires_grad, tensor.dtype, tensor.shape)
    return [pickle.dumps(about), tensor.detach().contiguous().numpy()]


def load_tensor(parts: list[Any]) -> Any:
    torch: Any = import_module("torch")
    is_parameter, requires_grad, dtype, shape = pickle.loads(parts[0])
    if 0 in shape:
        tensor = torch.empty(shape, dtype=dtype)
    else:
        tensor = torch.frombuffer(parts[1], dtype=dtype).reshape(shape)
    if is_parameter:
        return torch.nn.Parameter(tensor, requires_grad)
    return tensor.requires_grad_(requires_grad)


def dump_model(model: BaseEstimator) -> bytes:
    return type(model).__name__.encode() + b":" + pickle.dumps(model, 5)


def load_model(data: bytes) -> Any:
    model = pickle.loads(data.partition(b":")[2])
    model.came_by_hook_ = True
    return model


@pytest.fixture(scope="module", autouse=True)
def threads_of_others() -> None:
    """Have the libraries start what they keep, before anybody counts."""
    load_frame(memoryview(dump_frame(polars.DataFrame({"n": range(ROWS)}))))
    if find_spec("torch") is not None:
        torch: Any = import_module("torch")
        (torch.ones(ROWS) * 2).sum()


def two_executors(config: SerialConfig) -> Iterator[MiraiExecutor]:
    with MiraiExecutor(1, serial=config) as executor:
        yield executor
    with MiraiExecutor(url=host_url(tls=True), serial=config) as executor:
        executor.launch_local(1)
        yield executor


def test_arrow_tables_are_read_where_they_lie() -> None:
    def summed(tables: dict[str, Any]) -> Any:
        table = tables["of"]
        assert table.column("n").chunk(0).buffers()[1].address  # it is no copy of ours
        return table.append_column("twice", pyarrow.compute.multiply(table.column("n"), 2))

    import pyarrow.compute

    table = pyarrow.table({"n": np.arange(ROWS), "text": ["x", None] * (ROWS // 2)})
    for executor in two_executors(serial_config(pyarrow.Table, dump_table, load_table)):
        for part in (table, table.slice(10, 20), table.slice(0, 0)):
            back = executor.submit(summed, {"of": part}).result(SOON) if part.num_rows else part
            assert back.select(["n", "text"]).equals(part)
        shared = executor.share(table)
        assert shared.equals(table)
        assert executor.submit(lambda t: t.num_rows, shared).result(SOON) == ROWS
        del shared
        gc.collect()


def test_polars_frames_come_back_equal() -> None:
    frame = polars.DataFrame({"n": range(ROWS), "text": ["a", "b"] * (ROWS // 2)})
    for executor in two_executors(serial_config(polars.DataFrame, dump_frame, load_frame)):
        for part in (frame, frame.head(3)):
            back = executor.submit(lambda f: [f.with_columns(m=f["n"] + 1)], part).result(SOON)[0]
            assert back.drop("m").equals(part)
            assert back["m"].sum() == part["n"].sum() + part.height


def test_tensors_on_the_cpu_keep_type_and_shape() -> None:
    torch: Any = pytest.importorskip("torch", reason=NO_TORCH)
    tensors = [torch.arange(float(ROWS)).reshape(2, -1), torch.ones(3, 4).T, torch.tensor([1, 2])]
    tensors += [torch.ones(0, 3), torch.tensor(1.5), torch.ones(2, requires_grad=True)]
    for executor in two_executors(serial_config(torch.Tensor, dump_tensor, load_tensor)):
        back = executor.submit(lambda ts: [t * 2 for t in ts], tensors).result(SOON)
        for given, doubled in zip(tensors, back, strict=True):
            assert (doubled.dtype, doubled.shape) == (given.dtype, given.shape)
            assert torch.equal(doubled, given * 2)
        model = torch.nn.Linear(2, 1)
        weight = executor.submit(lambda m: m.weight, model).result(SOON)
        assert torch.equal(weight, model.weight)
        assert (type(weight), weight.requires_grad) == (torch.nn.Parameter, True)


def test_a_model_of_torch_that_a_global_variable_holds_travels_as_it_is() -> None:
    pytest.importorskip("torch", reason=NO_TORCH)
    ended = run("""
        import torch
        model = torch.nn.Linear(2, 1)

        def total(row):
            with torch.no_grad():
                return model(row).sum().item()

        with MiraiExecutor(1) as executor:
            for _ in range(2):
                row = torch.ones(2)
                say(executor.submit(total, row).result() == total(row))
                with torch.no_grad():
                    model.weight += 1
    """)
    assert (ended.out, ended.err) == ("True\nTrue\n", "")


def test_one_hook_serves_all_models_of_a_library() -> None:
    x = np.arange(20.0).reshape(-1, 1)
    models = [LinearRegression().fit(x, 3 * x), LogisticRegression().fit(x, x.ravel() > 9)]

    def predicts(models: list[Any]) -> Any:
        assert all(model.came_by_hook_ for model in models)
        return [model.predict([[4.0]]).ravel()[0] for model in models], models[0]

    for executor in two_executors(serial_config(BaseEstimator, dump_model, load_model)):
        found, model = executor.submit(predicts, models).result(SOON)
        assert (round(float(found[0]), 6), bool(found[1])) == (12, False)
        assert model.came_by_hook_
        np.testing.assert_allclose(model.coef_, [[3]])
