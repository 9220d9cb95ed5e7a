"""Live: spans of OpenTelemetry, from the caller's through ``mirai`` to what a daemon does."""

import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest

pytest.importorskip("opentelemetry.sdk", reason="is in the dependency group of tests")

from opentelemetry import trace

from live import traces
from live.mischief import SOON, running
from mirai_executor import MiraiExecutor, daemons, local_url, mirai, mirai_map
from mirai_executor._around._tracing import traced_map
from mirai_executor._payload.common.traced import Traced

Span = dict[str, Any]


@pytest.fixture(autouse=True)
def tracer() -> Iterator[trace.Tracer]:
    traces.trace_here()
    traces.spans()
    yield trace.get_tracer("app")
    traces.spans()
    traces.trace_no_more()


def named(spans: list[Span], name: str) -> Span:
    (found,) = [span for span in spans if span["name"] == name]
    return found


def at_the_daemon(executor: MiraiExecutor) -> list[Span]:
    return executor.submit(traces.spans).result(SOON)


def test_a_task_is_a_span_of_the_caller_s_trace_and_its_work_another(tracer: trace.Tracer) -> None:
    with running(initializer=traces.trace_here, name="gpu") as executor:
        with tracer.start_as_current_span("request"):
            future = executor.submit(traces.work_in_a_span)
        assert future.result(SOON) == 5
        there = at_the_daemon(executor)
    here = traces.spans()
    request, task = named(here, "request"), here[[s["name"] for s in here].index("mirai")]
    assert (task["kind"], task["parent"], task["trace"]) == (
        "CLIENT",
        request["id"],
        request["trace"],
    )
    assert task["scope"] == "mirai_executor"
    assert task["attributes"] == {
        "mirai.id": future.id,
        "mirai.compute": "gpu",
        "code.function.name": "live.traces.work_in_a_span",
    }
    assert task["status"] == ("UNSET", None)
    evaluation, work = named(there, "daemon eval"), named(there, "work")
    assert (evaluation["kind"], evaluation["parent"]) == ("SERVER", task["id"])
    assert (work["parent"], work["trace"]) == (evaluation["id"], request["trace"])
    pid = evaluation["attributes"].pop("process.pid")
    assert evaluation["attributes"] == task["attributes"]
    assert pid != os.getpid()
    assert task["seconds"] >= evaluation["seconds"] > 0


def test_an_error_is_told_by_both_spans_and_its_exception_where_it_was_raised() -> None:
    with running(initializer=traces.trace_here) as executor:
        assert executor.submit(divmod, 1, 0).exception(SOON)
        there = at_the_daemon(executor)
    here = traces.spans()
    evaluation = named(there, "daemon eval")
    failed = here[0]
    for span in (evaluation, failed):
        assert span["status"][0] == "ERROR"
        assert span["status"][1].startswith("ZeroDivisionError: ")
        assert span["attributes"]["error.type"] == "ZeroDivisionError"
    assert (evaluation["events"], failed["events"]) == (["exception"], [])


def test_a_task_that_is_stopped_is_told_by_its_span() -> None:
    with running() as executor:
        cancelled = executor.submit(time.sleep, 3600)
        assert cancelled.cancel()
        late = executor.with_options(timeout=0.01).submit(time.sleep, 3600)
        assert late.exception(SOON)
        lost: Any = executor.submit(os._exit, 3)
        assert lost.exception(SOON)
    told = {s["attributes"]["mirai.id"]: s for s in traces.spans()}
    assert told[cancelled.id]["status"] == ("ERROR", "cancelled")
    assert told[late.id]["attributes"]["error.type"] == "mirai_executor.errors.TaskTimeoutError"
    assert [told[each.id]["attributes"].get("mirai.code") for each in (late, lost)] == [5, 19]


WAYS: dict[str, Callable[[MiraiExecutor], Any]] = {
    "lambda": lambda executor: executor.submit(lambda: traces.current_trace()).result(SOON),
    "code": lambda executor: executor.submit_source(
        "from live import traces; traces.current_trace()"
    ).result(SOON),
    "map": lambda executor: next(executor.map(lambda _: traces.current_trace(), [0])),
    "chunks": lambda executor: next(
        executor.map(lambda _: traces.current_trace(), [0], chunksize=2)
    ),
    "context": lambda executor: (
        executor.with_options(context=True, post_mortem=True)
        .submit(traces.current_trace)
        .result(SOON)
    ),
}


@pytest.mark.parametrize("mode", ["daemons", "inline"])
def test_the_trace_reaches_every_kind_of_task_also_without_a_tracer_at_the_daemon(
    tracer: trace.Tracer, mode: Any
) -> None:
    with (
        MiraiExecutor(1, mode=mode) as executor,
        tracer.start_as_current_span("request") as span,
    ):
        for way in WAYS.values():
            assert way(executor) == span.get_span_context().trace_id
        assert trace.get_current_span() is span


def test_setting_and_resetting_a_profile_are_spans_that_tasks_refer_to() -> None:
    with daemons(1, compute="gpu"):
        assert mirai(abs, -1).result(SOON) == 1
    here = traces.spans()
    done, task, undone = here
    assert [span["name"] for span in here] == ["daemons set", "mirai", "daemons reset"]
    assert task["links"] == undone["links"] == [done["id"]]
    assert done["kind"] == undone["kind"] == "INTERNAL"
    assert done["attributes"] == undone["attributes"]
    assert done["attributes"] == {
        "mirai.compute": "gpu",
        "mirai.dispatcher": True,
        "network.transport": "pipe",
    }


def test_a_map_is_a_span_around_those_of_its_elements(tracer: trace.Tracer) -> None:
    with daemons(1, compute="gpu"), tracer.start_as_current_span("request"):
        assert mirai_map({"a": -1, "b": -2}, abs).collect() == {"a": 1, "b": 2}
        assert mirai_map([], abs).collect() == []
    here = traces.spans()
    done, request = named(here, "daemons set"), named(here, "request")
    elements = [span for span in here if span["name"] == "mirai"]
    empty, whole = sorted(
        (s for s in here if s["name"] == "mirai_map"), key=lambda s: s["seconds"]
    )
    assert [span["parent"] for span in elements] == [whole["id"]] * 2
    assert empty["parent"] == whole["parent"] == request["id"]
    assert empty["links"] == whole["links"] == [done["id"]]
    assert whole["seconds"] > max(span["seconds"] for span in elements)
    assert (whole["kind"], whole["attributes"]) == (
        "INTERNAL",
        {"mirai.compute": "gpu", "code.function.name": "builtins.abs"},
    )


def test_a_map_whose_executor_shuts_down_meanwhile_is_a_span_that_says_so() -> None:
    def fail() -> NoReturn:
        raise RuntimeError("cannot schedule new futures after shutdown")

    with MiraiExecutor(1) as executor, pytest.raises(RuntimeError, match="after shutdown"):
        traced_map(executor, abs, fail)
    assert named(traces.spans(), "mirai_map")["status"][0] == "ERROR"


def test_a_mirai_without_daemons_has_a_span() -> None:
    future, has_ended = mirai(abs, -1), threading.Event()
    future.add_done_callback(lambda _: has_ended.set())  # behind that which ends the span
    assert future.result(SOON) == 1
    assert has_ended.wait(SOON)
    assert [span["name"] for span in traces.spans()] == ["mirai"]


@pytest.mark.parametrize("fn", [traces.work_in_a_loop, traces.fail_in_a_loop])
def test_the_work_of_a_coroutine_is_in_the_span_of_its_task(fn: Any) -> None:
    with running(initializer=traces.trace_here) as executor:
        error = executor.submit(fn).exception(SOON)
        there = at_the_daemon(executor)
    work, evaluation = there[-2], there[-1]
    if error is None:
        assert (work["name"], work["parent"]) == ("work", evaluation["id"])
    assert evaluation["status"][0] == ("UNSET" if error is None else "ERROR")
    assert evaluation["name"] == "daemon eval"
    assert evaluation["events"] == ([] if error is None else ["exception"])


@pytest.mark.parametrize("mode", ["daemons", "inline"])
def test_a_stream_is_a_span_until_it_has_ended(mode: Any) -> None:
    with MiraiExecutor(1, mode=mode) as executor:
        assert list(executor.stream(range, 2)) == [0, 1]
        with executor.stream(itertools.count) as stopped:
            next(stopped)
            assert len(traces.spans()) == 1
            stopped.future.cancel()
    (ended,) = traces.spans()
    assert (ended["name"], ended["kind"]) == ("mirai", "CLIENT")
    assert ended["attributes"]["code.function.name"] == "itertools.count"
    assert ended["status"] == ("ERROR", "cancelled")


def test_a_span_names_the_function_of_the_user_also_in_a_pool_or_where_it_has_no_module() -> None:
    with MiraiExecutor(1, mode="inline") as executor:
        assert executor.as_pool().map(abs, [-1]) == [1]
        assert executor.submit(partial({"a": 1}.get, "a")).result() == 1
    tasks = [span for span in traces.spans() if span["name"] == "mirai"]
    names = [task["attributes"]["code.function.name"] for task in tasks]
    assert names == ["builtins.abs", "builtins.dict.get"]


# Daemons


@pytest.mark.own_url
@pytest.mark.parametrize("url", [None, local_url(tcp=True)], ids=["here", "elsewhere"])
def test_a_daemon_tells_when_it_is_connected_and_when_it_leaves(
    tmp_path: Path, url: str | None
) -> None:
    path = tmp_path / "spans"
    setup: dict[str, Any] = {"initializer": traces.trace_into, "initargs": (path,), "name": "gpu"}
    with MiraiExecutor(url=url, **setup) if url else MiraiExecutor(1, **setup) as executor:
        if url:
            executor.launch_local(1)
            url = executor.url
        pid = executor.submit(os.getpid).result(SOON)
    begin, evaluation, end = map(json.loads, path.read_text().splitlines())
    where = f" {url}" if url else ""
    assert (begin["name"], end["name"]) == (f"daemon connect{where}", f"daemon disconnect{where}")
    assert (begin["kind"], begin["parent"]) == (end["kind"], end["parent"]) == ("INTERNAL", None)
    assert begin["attributes"] == end["attributes"]
    assert begin["attributes"].items() >= {"mirai.compute": "gpu", "process.pid": pid}.items()
    assert begin["attributes"]["network.transport"] == ("tcp" if url else "pipe")
    assert begin["attributes"].get("server.address") == ("127.0.0.1" if url else None)
    assert evaluation["links"] == end["links"] == [begin["id"]]


def test_a_call_of_everywhere_is_a_span_around_those_of_all_daemons(
    tracer: trace.Tracer, tmp_path: Path
) -> None:
    path = tmp_path / "spans"
    with daemons(2, compute="gpu", initializer=traces.trace_into, initargs=(path,)) as both:
        with tracer.start_as_current_span("request"):
            shares = both.everywhere(traces.work_in_a_span)
        assert [share.result(SOON) for share in shares] == [5, 5]
    here, there = traces.spans(), list(map(json.loads, path.read_text().splitlines()))
    done, request, whole = (named(here, name) for name in ("daemons set", "request", "everywhere"))
    assert (whole["parent"], whole["links"]) == (request["id"], [done["id"]])
    assert (whole["kind"], whole["status"][0]) == ("INTERNAL", "UNSET")
    assert whole["attributes"] == {
        "mirai.compute": "gpu",
        "code.function.name": "live.traces.work_in_a_span",
    }
    connections, evaluations, works = (
        [span for span in there if span["name"] == name]
        for name in ("daemon connect", "daemon eval", "work")
    )
    assert [span["parent"] for span in evaluations] == [whole["id"]] * 2
    assert {span["parent"] for span in works} == {span["id"] for span in evaluations}
    assert {span["id"] for span in connections} == {span["links"][0] for span in evaluations}
    assert {span["trace"] for span in works} == {request["trace"]}


@pytest.mark.parametrize("mode", ["daemons", "inline"])
def test_a_call_of_everywhere_that_fails_is_told_by_its_span(mode: Any) -> None:
    with MiraiExecutor(1, mode=mode) as executor:
        executor.everywhere("n = x", x=5)
        assert executor.submit_source("n").result(SOON) == 5
        assert executor.everywhere(divmod, 1, 0)[0].exception(SOON)
        with pytest.raises(SyntaxError):
            executor.everywhere("n =")
    spans = [span for span in traces.spans() if span["name"] == "everywhere"]
    assert [span["status"][0] for span in spans] == ["UNSET", "ERROR", "ERROR"]
    assert [span["attributes"] for span in spans[:2]] == [
        {},
        {"code.function.name": "builtins.divmod", "error.type": "ZeroDivisionError"},
    ]


@pytest.mark.parametrize("tcp", [True, False])
def test_the_spans_of_a_profile_say_where_daemons_connect(tcp: bool) -> None:
    with daemons(url=local_url(tcp=tcp), dispatcher=False) as executor:
        url = str(executor.url)
    done = named(traces.spans(), f"daemons set {url}")
    assert done["attributes"].pop("mirai.compute") == "default"
    assert done["attributes"].pop("mirai.dispatcher") is False
    place, _, port = url.partition("://")[2].rpartition(":" if tcp else "?")
    assert done["attributes"] == {
        "url.scheme": "tcp" if tcp else "ipc",
        "server.address": place or port,
        "network.transport": "tcp" if tcp else "unix",
        **({"server.port": int(port)} if tcp else {}),
    }


def test_a_daemon_without_opentelemetry_runs_the_task_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    assert Traced({"traceparent": "00-" + 32 * "1"}, {}).run(abs, -1) == 1


UNTRACED = """
import sys
import threading
from mirai_executor import MiraiExecutor
with MiraiExecutor(1) as executor:
    is_traced = "'mirai_executor._payload.common.traced' in __import__('sys').modules"
    assert not executor.submit(eval, is_traced).result()
    assert not any("opentelemetry" in name or "_tracing" in name for name in sys.modules)
    from opentelemetry import trace
    assert not executor.submit(eval, is_traced).result()
"""


def test_nothing_is_imported_or_sent_without_a_provider() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", UNTRACED], capture_output=True, text=True, timeout=50, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
