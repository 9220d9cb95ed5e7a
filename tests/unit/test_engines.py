"""Engines that are called: what they are asked for, and what becomes of it, without any."""

import dataclasses
import json
import logging
import os
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import pytest

from mirai_executor import LaunchError, dask_config, kubernetes_config, ray_config
from mirai_executor._host._jobs import Jobs
from mirai_executor.credentials import DaemonCredentials, Secret
from mirai_executor.launchers import DaemonCommand, JobRequest, _dask_tasks, launch
from mirai_executor.launchers._dask_tasks import DaskTasks
from mirai_executor.launchers._futures import FutureJob
from mirai_executor.launchers._task import DaemonTask, run

SECRET = Secret(b"s" * 32)
DAEMON = DaemonCommand(("tcp://10.0.0.1:5555",), DaemonCredentials(SECRET))


class Engine:
    """Makes futures, which the test ends."""

    def __init__(self) -> None:
        self.futures: list[Future[None]] = []

    def start(self) -> Future[None]:
        self.futures.append(Future())
        return self.futures[-1]

    def job(self, failure: Callable[[Any], str] = lambda _: "") -> FutureJob:
        return FutureJob("engine", self.start(), cancel=Future.cancel, failure=failure)


def test_a_job_ends_with_its_future() -> None:
    engine, ends = Engine(), list[None]()
    job = engine.job()
    job.add_done_callback(lambda: ends.append(None))
    assert ends == []
    engine.futures[0].set_result(None)
    assert (ends, job.failed()) == ([None], None)
    job.add_done_callback(lambda: ends.append(None))  # too late for the end, and called at once
    assert len(ends) == 2


def test_a_failure_is_told_at_once_and_kept(caplog: pytest.LogCaptureFixture) -> None:
    engine = Engine()
    job = engine.job(lambda _: "no licence")
    with caplog.at_level(logging.WARNING, "mirai_executor"):
        engine.futures[0].set_result(None)
    assert job.failed() == "engine: no licence"
    assert caplog.messages == ["engine: no licence"]


def test_what_is_cancelled_is_no_failure() -> None:
    engine = Engine()
    job = engine.job(lambda _: "cancelled")
    job.cancel()
    assert engine.futures[0].cancelled()
    assert job.failed() is None


def test_a_job_that_goes_on_with_another_future_ends_with_that_one() -> None:
    engine, ends = Engine(), list[None]()
    job = engine.job()
    job.add_done_callback(lambda: ends.append(None))
    job.move(engine.start)
    assert engine.futures[0].cancelled()
    assert (ends, job.failed()) == ([], None)
    engine.futures[1].set_result(None)
    assert ends == [None]
    job.move(engine.start)  # it had ended meanwhile
    assert len(engine.futures) == 2


def test_a_job_that_cannot_go_on_with_another_future_ends_with_its_own() -> None:
    engine, ends = Engine(), list[None]()
    job = engine.job()
    job.add_done_callback(lambda: ends.append(None))
    job.move(lambda: None)  # it has begun
    with pytest.raises(OSError, match="gone"):
        job.move(partial(raise_, OSError("the engine is gone")))
    assert ends == []
    engine.futures[0].set_result(None)
    assert (ends, engine.futures[0].cancelled()) == ([None], False)


def raise_(error: Exception) -> NoReturn:
    raise error


def test_the_end_of_a_future_says_nothing_while_another_takes_its_place() -> None:
    engine, ends = Engine(), list[None]()
    job = engine.job(lambda _: "it must not begin")
    job.add_done_callback(lambda: ends.append(None))

    def again() -> Future[None]:
        engine.futures[0].set_result(None)  # it has done nothing, as it was kept from it
        return engine.start()

    job.move(again)
    assert (ends, job.failed()) == ([], None)
    other = engine.job()
    other.add_done_callback(lambda: ends.append(None))
    other.move(lambda: engine.futures[2].set_result(None))  # it has begun, and ended
    assert ends == [None]


@pytest.mark.parametrize("moves", [True, False])
def test_a_job_that_was_cancelled_goes_on_with_nothing(*, moves: bool) -> None:
    engine = Engine()
    job = engine.job()

    def again() -> Future[None] | None:
        job.cancel()
        return engine.start() if moves else None

    job.move(again)
    assert engine.futures[-1].cancelled()


def test_a_job_that_was_cancelled_before_is_not_begun_anew() -> None:
    engine = Engine()
    job = engine.job()
    job.cancel()
    job.move(engine.start)
    assert [future.cancelled() for future in engine.futures] == [True]


def test_a_job_that_is_cancelled_while_it_cannot_go_on_is_cancelled() -> None:
    engine = Engine()
    job = engine.job()

    def again() -> NoReturn:
        job.cancel()
        raise OSError("the engine is gone")

    with pytest.raises(OSError, match="gone"):
        job.move(again)
    assert engine.futures[0].cancelled()


# Dask, of which only tickets are looked at


class Tickets:
    """A queue of a Dask scheduler, by its name; without a client, as a worker has it."""

    all: ClassVar[dict[str, list[int]]] = {}

    def __init__(self, name: str, client: object = None) -> None:
        self.name = name
        self.held = self.all.setdefault(name, [])

    def put(self, ticket: int) -> None:
        self.held.append(ticket)

    def get(self, *, batch: bool) -> list[int]:
        found = self.held.copy()
        self.held.clear()
        return found

    def close(self) -> None:
        pass


class Client:
    """Submits tasks nowhere: :meth:`begin` does what a worker would."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], bool]] = []
        self.futures: list[Future[bool]] = []
        self.on_event: Callable[[Any], None] = print
        self.is_closed = threading.Event()

    def subscribe_topic(self, topic: str, on_event: Callable[[Any], None]) -> None:
        self.on_event = on_event

    def submit(self, call: Callable[..., bool], *args: Any, **_: Any) -> Future[bool]:
        self.calls.append(partial(call, *args))
        self.futures.append(Future())
        self.futures[-1].status = "finished"  # type: ignore[attr-defined]  # as Dask's have
        return self.futures[-1]

    def begin(self, number: int) -> bool:
        """Run a task; return whether it has run its daemon."""
        return self.calls[number]()

    def close(self) -> None:
        self.is_closed.set()


@pytest.fixture
def dask(monkeypatch: pytest.MonkeyPatch) -> Client:
    module: Any = types.ModuleType("distributed")
    module.Queue, module.secede = Tickets, lambda: None
    monkeypatch.setitem(sys.modules, "distributed", module)
    monkeypatch.setattr(_dask_tasks, "run", lambda _: None)
    return Client()


def test_dask_runs_a_daemon_once_however_often_it_runs_its_task(dask: Client) -> None:
    DaskTasks(dask, "Dask", {}).submit([task("exit")])
    assert [dask.begin(0), dask.begin(0)] == [True, False]


def test_nothing_is_left_on_dask_of_a_launch_that_fails(
    dask: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = dask.submit

    def submit_two(call: Callable[..., bool], *args: Any, **options: Any) -> Future[bool]:
        if len(dask.futures) == 2:
            raise OSError("the scheduler is gone")
        return submit(call, *args, **options)

    monkeypatch.setattr(dask, "submit", submit_two)
    with pytest.raises(OSError, match="gone"):
        DaskTasks(dask, "Dask", {}).submit([task("exit")] * 3)
    assert [future.cancelled() for future in dask.futures] == [True, True]
    assert dask.is_closed.is_set()


def test_nothing_is_left_on_ray_of_a_launch_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    references: list[Any] = []
    cancelled: list[Any] = []

    class Reference:
        future = staticmethod(Future[None])

    class Remote:
        def options(self, **_: Any) -> "Remote":
            return self

        def remote(self, _: DaemonTask) -> Reference:
            if len(references) == 2:
                raise OSError("the cluster is gone")
            references.append(Reference())
            return references[-1]  # type: ignore[no-any-return]  # as just made

    module: Any = types.ModuleType("ray")
    module.is_initialized, module.cancel = lambda: True, cancelled.append
    module.remote = lambda _: Remote()
    monkeypatch.setitem(sys.modules, "ray", module)
    with pytest.raises(LaunchError, match="gone"):
        launch(ray_config().plan(DAEMON, 3))
    assert cancelled == references
    assert len(references) == 2


def test_what_is_moved_on_dask_begins_once_even_where_it_has_waited(dask: Client) -> None:
    tasks, ends = DaskTasks(dask, "Dask", {}), list[None]()
    (job,) = tasks.submit([task("exit")])
    job.add_done_callback(lambda: ends.append(None))
    tasks._has_to_move = True
    tasks._move()
    assert dask.futures[0].cancelled()
    assert [dask.begin(0), dask.begin(1), dask.begin(0)] == [False, True, False]
    assert ends == []
    dask.futures[1].set_result(True)
    assert ends == [None]
    assert dask.is_closed.wait(60)


def test_what_has_begun_on_dask_is_not_moved(dask: Client) -> None:
    tasks = DaskTasks(dask, "Dask", {})
    tasks.submit([task("exit"), task("exit")])
    assert dask.begin(0)
    for _ in range(2):
        tasks._has_to_move = True
        tasks._move()
    assert len(dask.futures) == 4  # the other one was, twice
    assert [future.cancelled() for future in dask.futures] == [False, True, True, False]


def refuse(timeout: float, secret: str) -> Any:
    raise OSError(f"quota, {secret}, {timeout:.0f}")


def test_an_engine_that_refuses_is_a_launch_error_without_the_secret() -> None:
    request = JobRequest("my engine", refuse, (SECRET.text,), SECRET.text)
    with pytest.raises(LaunchError, match=r"my engine has not taken.*quota, \*\*\*, 60") as caught:
        launch([request])
    assert caught.value.command == ("my engine",)


def test_no_token_of_the_daemons_of_a_request_is_in_its_error() -> None:
    daemons = dataclasses.replace(DAEMON, request="5f1d8c2e").each(2)
    tokens = " ".join(daemon.secret for daemon in daemons)
    with pytest.raises(LaunchError) as caught:
        launch([JobRequest("my engine", refuse, (tokens,), daemons=daemons)])
    assert not any(daemon.secret in str(caught.value) for daemon in daemons)


@pytest.mark.parametrize("launcher", [dask_config("tcp://a:1"), ray_config()])
def test_each_daemon_of_an_engine_has_a_name_and_a_token_of_its_own(launcher: Any) -> None:
    daemon = DaemonCommand(
        ("tcp://10.0.0.1:5555",), DaemonCredentials(SECRET.new_token()), (), "5f1d8c2e"
    )
    (request,) = launcher.plan(daemon, 3)
    tasks = request.arguments[-1]
    names = [one.request for one in request.daemons]
    assert [task.words[-2:] for task in tasks] == [("--request", name) for name in names]
    assert [task.secret[1] for task in tasks] == [one.secret for one in request.daemons]
    assert len({*names}) == len({one.secret for one in request.daemons}) == 3
    assert all(name.startswith("5f1d8c2e.") for name in names)


def test_a_job_is_cancelled_if_another_part_of_its_launch_fails() -> None:
    engine = Engine()
    requests = [
        JobRequest("good", lambda _: engine.job()),
        JobRequest("bad", refuse, ("x",)),
    ]
    with pytest.raises(LaunchError, match="bad has not taken"):
        launch(requests)
    assert [future.cancelled() for future in engine.futures] == [True]


# The host's side


class Turns:
    """A reactor that does what it is told at once."""

    def put(self, call: Callable[[], object]) -> None:
        call()


def kept(monkeypatch: pytest.MonkeyPatch) -> tuple[Jobs, list[str | None]]:
    monkeypatch.setattr("mirai_executor._host._jobs._LET_GO", 0.0)
    ends: list[str | None] = []
    return Jobs(Turns()), ends  # type: ignore[arg-type]  # all that it needs of one


def test_a_host_hears_of_the_end_of_each_job_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs, ends = kept(monkeypatch)
    engine, words = Engine(), ["", "no licence"]
    for _ in range(2):
        jobs.keep(engine.job(lambda _: words.pop(0)), ends.append, stay=False)
    assert jobs
    engine.futures[0].set_result(None)
    assert (ends, bool(jobs)) == ([None], True)
    engine.futures[1].set_result(None)
    assert (ends, bool(jobs)) == ([None, "engine: no licence"], False)


def test_a_host_that_ends_cancels_what_is_left_but_for_what_is_to_stay(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Stubborn(FutureJob):
        def cancel(self) -> None:
            raise OSError("the engine is gone")

    jobs, ends = kept(monkeypatch)
    engine = Engine()
    jobs.keep(engine.job(), ends.append, stay=True)
    jobs.keep(engine.job(), ends.append, stay=False)
    nothing = Stubborn("gone", engine.start(), cancel=Future.cancel, failure=str)
    jobs.keep(nothing, ends.append, stay=False)
    jobs.close()
    assert [future.cancelled() for future in engine.futures] == [False, True, False]
    assert ends == []
    assert caplog.messages == ["cannot cancel a job of an engine: OSError: the engine is gone"]


def test_a_job_that_cannot_be_cancelled_keeps_no_other_from_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Stubborn(FutureJob):
        def cancel(self) -> None:
            raise LaunchError("kubectl delete failed")

    engine = Engine()
    stubborn = Stubborn("stubborn", Future[None](), cancel=Future.cancel, failure=str)

    def refuse(_: float) -> NoReturn:
        raise OSError("no licence")

    all_jobs = [stubborn, engine.job(), stubborn]
    requests = [JobRequest("engine", lambda _: all_jobs), JobRequest("other", refuse)]
    with pytest.raises(LaunchError, match="no licence"):
        launch(requests)
    assert engine.futures[0].cancelled()
    assert (
        caplog.messages
        == ["cannot cancel a job of an engine: LaunchError: kubectl delete failed"] * 2
    )


# What runs beside an engine's worker


def task(words: str, **environment: str) -> DaemonTask:
    return DaemonTask(("-c", words), tuple(environment.items()), ("/bin/sh",))


def test_a_task_runs_the_daemon_with_its_environment_and_the_interpreter_of_its_worker() -> None:
    run(task('test "$TOKEN" = 17', TOKEN="17"))
    run(DaemonTask(("-c", f"import sys; assert sys.executable == {sys.executable!r}"), ()))


def test_a_daemon_that_fails_is_an_error_with_its_last_words(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(LaunchError, match="exit status 3; last output: no licence") as caught:
        run(task("echo no licence >&2; exit 3"))
    assert (caught.value.exitcode, caught.value.stderr) == (3, "no licence")
    assert "no licence" in capfd.readouterr().err


def test_a_daemon_ends_with_the_worker_beside_which_it_runs(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    # The daemon keeps the FIFO open as long as it lives; its worker is killed.
    words = f"exec 9>{fifo}; echo begun >&9; exec sleep 100"
    worker = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from mirai_executor.launchers._task import *; "
            f"run(DaemonTask(('-c', {words!r}), (), ('/bin/sh',)))",
        ],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    with fifo.open() as end:
        assert end.readline() == "begun\n"
        worker.kill()
        worker.wait()
        assert end.read() == ""


def test_a_task_that_is_interrupted_ends_its_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    processes: list[subprocess.Popen[bytes]] = []
    waiting = subprocess.Popen.wait

    def wait(self: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        if not processes:
            processes.append(self)
            raise KeyboardInterrupt
        return waiting(self, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", wait)
    with pytest.raises(KeyboardInterrupt):
        run(task("exec sleep 100"))
    assert processes[0].returncode == -15


# The functions


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: dask_config(17), TypeError, "the address of a scheduler"),
        (lambda: dask_config(""), ValueError, "empty"),
        (lambda: dask_config("tcp://a:1", resources=["GPU"]), TypeError, "must be a dict"),  # type: ignore[arg-type]
        (lambda: ray_config(num_cpus=-1), ValueError, "num_cpus must be >= 0"),
        (lambda: ray_config(num_gpus="1"), TypeError, "num_gpus must be a number"),  # type: ignore[arg-type]
        (lambda: ray_config(runtime_env="x"), TypeError, "runtime_env must be a dict"),  # type: ignore[arg-type]
        (lambda: kubernetes_config(7), TypeError, "image must be a string"),  # type: ignore[arg-type]
        (lambda: kubernetes_config("a", namespace=""), ValueError, "empty"),
        (lambda: kubernetes_config("a", pod=["x"]), TypeError, "pod must be a dict"),  # type: ignore[arg-type]
        (
            lambda: kubernetes_config("a", pod={"restartPolicy": "Always"}),
            ValueError,
            "by the exec",
        ),
    ],
)
def test_what_cannot_work_is_refused_at_the_call(
    make: Callable[[], object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        make()


def test_a_client_is_used_by_itself_and_must_not_be_asynchronous() -> None:
    class Client:
        asynchronous = False
        scheduler = type("Scheduler", (), {"address": "tcp://10.0.0.9:8786"})

        def submit(self) -> None: ...

    (request,) = dask_config(Client()).plan(DAEMON, 1)
    assert isinstance(request, JobRequest)
    assert request.name == "Dask at tcp://10.0.0.9:8786"
    Client.asynchronous = True
    with pytest.raises(ValueError, match="asynchronous"):
        dask_config(Client())


@pytest.mark.parametrize(
    ("launcher", "module"),
    [(dask_config("tcp://a:1"), "distributed"), (ray_config(), "ray")],
)
def test_an_engine_that_is_not_installed_is_named(
    launcher: Any, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(LaunchError, match=r'pip install "mirai-executor\[(dask|ray)\]"'):
        launch(launcher.plan(DAEMON, 1))


# Kubernetes


def test_a_manifest_has_a_pod_for_each_daemon_and_no_secret_in_it() -> None:
    launcher = kubernetes_config("lab:7", resources={"cpu": 2}, prologue=". /venv/bin/activate")
    job_text, secret_text = launcher.manifests(DAEMON, 3)
    assert SECRET.text not in job_text
    job, secret = json.loads(job_text), json.loads(secret_text)
    assert (job["spec"]["parallelism"], job["spec"]["completions"]) == (3, 3)
    # A pod that fails is not replaced by Kubernetes, and ends no other.
    assert (job["spec"]["completionMode"], job["spec"]["backoffLimitPerIndex"]) == ("Indexed", 0)
    assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["command"] == [
        "/bin/sh",
        "-c",
        "{\n[ -r /venv/bin/activate ] || { echo cannot read /venv/bin/activate >&2; exit 1; }\n"
        ". /venv/bin/activate\n} </dev/null\n"
        "exec python3 -P -m mirai_executor daemon tcp://10.0.0.1:5555",
    ]
    assert container["envFrom"] == [{"secretRef": {"name": "{name}"}}]
    assert container["resources"] == {"requests": {"cpu": "2"}, "limits": {"cpu": "2"}}
    assert secret["stringData"] == {"MIRAI_EXECUTOR_SECRET": SECRET.text}
    assert secret["metadata"]["ownerReferences"][0]["uid"] == "{uid}"


def test_what_pods_trust_is_in_the_secret_and_no_part_of_their_spec() -> None:
    bundle = "-----BEGIN CERTIFICATE-----\n" + 3000 * f"{60 * 'x'}\n"  # more than one variable has
    credentials = DaemonCredentials(SECRET, bundle, "host")
    daemon = DaemonCommand(("tls+tcp://10.0.0.1:5555",), credentials)
    job, secret = kubernetes_config("lab:7").manifests(daemon, 1)
    assert json.loads(secret)["stringData"] == credentials.environment
    held = {**json.loads(secret)["stringData"]}
    assert DaemonCredentials.take_from(held) == credentials
    assert not any(value in job for value in credentials.environment.values() if len(value) > 9)


def test_each_pod_says_its_own_number_when_it_comes() -> None:
    named = dataclasses.replace(DAEMON, request="5f1d8c2e")
    (request,) = kubernetes_config("lab:7").plan(named, 2)
    assert isinstance(request, JobRequest)
    assert [daemon.request for daemon in request.daemons] == ["5f1d8c2e.0", "5f1d8c2e.1"]
    job, _ = kubernetes_config("lab:7").manifests(named, 2)
    (container,) = json.loads(job)["spec"]["template"]["spec"]["containers"]
    assert container["command"][2].endswith('--request 5f1d8c2e."$JOB_COMPLETION_INDEX"')


def test_fields_of_the_user_are_merged_into_the_pod() -> None:
    more = {
        "nodeSelector": {"pool": "batch"},
        "containers": [{"name": "daemon", "tty": True}, {"name": "beside", "image": "b"}],
    }
    job, _ = kubernetes_config("lab:7", pod=more).manifests(DAEMON, 1)
    pod = json.loads(job)["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"pool": "batch"}
    ours, beside = pod["containers"]
    assert (ours["image"], ours["tty"]) == ("lab:7", True)
    assert beside == {"name": "beside", "image": "b"}


KUBECTL = """\
#!/bin/sh
echo "$*" >> "$RECORDS/calls"
case "$1" in
create) cat >> "$RECORDS/manifests"; echo >> "$RECORDS/manifests"
    case "$*" in *json*) echo '{"metadata": {"uid": "u-17"}}';; esac
    test ! -e "$RECORDS/slow" || exec sleep 100
    test ! -e "$RECORDS/refuse" || { echo "exceeded quota" >&2; rm "$RECORDS/refuse"; exit 1; } ;;
get) case "$*" in
    *--watch*) test -s "$RECORDS/statuses" || exec sleep 100
        head -n 1 "$RECORDS/statuses"; sed -i 1d "$RECORDS/statuses" ;;
    "get pods"*) cat "$RECORDS/pods" ;;
    *) cat "$RECORDS/exists" ;;
    esac ;;
delete) case "$2" in job) : > "$RECORDS/exists" ;; esac ;;
esac
"""


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder in which a stand-in for kubectl writes things down."""
    (tmp_path / "kubectl").write_text(KUBECTL)
    (tmp_path / "kubectl").chmod(0o755)
    (tmp_path / "exists").write_text("job\n")
    (tmp_path / "statuses").touch()  # each line is what a watch sees until it is cut off
    monkeypatch.setenv("RECORDS", str(tmp_path))
    monkeypatch.setattr("mirai_executor.launchers._kubectl._PAUSE", 0.01)
    return tmp_path


def created(kubectl: Path) -> Sequence[Any]:
    launcher = kubernetes_config("lab:7", command=str(kubectl / "kubectl"))
    (launched,) = launch(launcher.plan(DAEMON, 2))
    assert len(launched.jobs) == 2
    return launched.jobs


def deletions(kubectl: Path) -> list[str]:
    calls = (kubectl / "calls").read_text().splitlines()
    return [call for call in calls if call.startswith("delete")]


def test_a_job_is_created_with_its_secret_and_deleted_with_its_last_pod(kubectl: Path) -> None:
    one, other = created(kubectl)
    job_made, secret_made = map(json.loads, (kubectl / "manifests").read_text().splitlines())
    name = job_made["metadata"]["name"]
    assert secret_made["metadata"]["name"] == name
    assert secret_made["metadata"]["ownerReferences"][0]["uid"] == "u-17"
    one.cancel()
    index = "batch.kubernetes.io/job-completion-index"
    pod = f"delete pods -l job-name={name},{index} in (0) --wait=false"
    assert deletions(kubectl) == [pod]
    other.cancel()
    job = f"delete job {name} --ignore-not-found --wait=false --cascade=background"
    assert deletions(kubectl) == [pod, job]
    one.cancel()  # again is no error, and asks for nothing
    assert len(deletions(kubectl)) == 2
    assert (one.failed(), other.failed()) == (None, None)
    assert SECRET.text not in (kubectl / "calls").read_text()


def test_pods_that_are_cancelled_together_are_deleted_with_one_call(kubectl: Path) -> None:
    pods = created(kubectl)
    threads = [threading.Thread(target=pod.cancel) for pod in pods]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert [call[:10] for call in deletions(kubectl)] == ["delete job"]


def test_a_pod_that_cannot_be_deleted_for_lack_of_threads_keeps_no_other_from_it(
    kubectl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> NoReturn:
        raise RuntimeError("can't start new thread")

    one, other = created(kubectl)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            one.cancel()
    other.cancel()  # and the first one with it
    assert [call[:10] for call in deletions(kubectl)] == ["delete job"]


def ends(pods: Sequence[Any]) -> list[str | None]:
    """Wait for their ends, and return what they say of them."""
    for pod in pods:
        ended = threading.Event()
        pod.add_done_callback(ended.set)
        assert ended.wait(20)
    return [pod.failed() for pod in pods]


@pytest.mark.parametrize(
    ("statuses", "failed"),
    [
        (["0||", "0|1|Failed=True:FailedIndexes: too many;"], [None, "1 of job mirai"]),
        (["||Failed=True:DeadlineExceeded: too late;"], ["DeadlineExceeded: too late"] * 2),
        (["||", "0-1||Suspended=False:x: y;Complete=True:: ;"], [None, None]),
    ],
)
def test_the_end_of_each_pod_is_told_with_its_reason_though_a_watch_is_cut_off(
    kubectl: Path, statuses: list[str], failed: list[str | None]
) -> None:
    (kubectl / "pods").write_text("")  # who may not look at pods is told of their ends still
    (kubectl / "statuses").write_text("".join(f"{line}\n" for line in statuses))
    for said, expected in zip(ends(created(kubectl)), failed, strict=True):
        assert said is None if expected is None else expected in str(said)


def test_a_pod_that_fails_is_quoted(kubectl: Path) -> None:
    (kubectl / "statuses").write_text("1|0|\n")
    states = [{"state": {"terminated": {"message": "see\nno licence\x07\n"}}}]
    labels = {"batch.kubernetes.io/job-completion-index": "0"}
    pod = {"metadata": {"labels": labels}, "status": {"containerStatuses": states}}
    (kubectl / "pods").write_text(json.dumps({"items": [pod]}))
    failed, well = ends(created(kubectl))
    assert str(failed).endswith("has failed; last output: no licence\\x07")
    assert well is None


def test_a_job_that_somebody_deletes_has_failed(kubectl: Path) -> None:
    (kubectl / "exists").write_text("")
    (kubectl / "statuses").write_text("||\n")
    assert all(str(said).endswith("has been deleted") for said in ends(created(kubectl)))


@pytest.mark.parametrize("why", ["an answer that is late", "no thread"])
def test_a_job_that_nobody_would_follow_is_deleted(
    kubectl: Path, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "mirai-kubectl":
            raise RuntimeError("can't start new thread")
        start(thread)

    if why == "no thread":
        monkeypatch.setattr(threading.Thread, "start", refuse)
    else:
        (kubectl / "slow").touch()
    launcher = kubernetes_config("lab:7", command=str(kubectl / "kubectl"))
    with pytest.raises(LaunchError, match=r"did not finish|can't start new thread"):
        launch(launcher.plan(DAEMON, 1), 1.0)
    (name,) = {
        json.loads(text)["metadata"]["name"]
        for text in (kubectl / "manifests").read_text().splitlines()
    }
    last = (kubectl / "calls").read_text().splitlines()[-1]
    assert last.startswith(f"delete job {name} --ignore-not-found")


def test_what_kubectl_refuses_is_a_launch_error_with_its_words(kubectl: Path) -> None:
    (kubectl / "refuse").touch()
    with pytest.raises(LaunchError, match="create failed: exceeded quota"):
        created(kubectl)
    with pytest.raises(LaunchError, match="cannot run /nowhere"):
        launch(kubernetes_config("a", command="/nowhere").plan(DAEMON, 1))
