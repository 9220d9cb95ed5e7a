"""Tries on each executor what the tables of README.md and of docs/comparison.md say of it.

Each cell is one small program: the peer's own way to open a pool (``PEERS``), and something to
try with it (``FEATURES``). A program prints ``yes`` or ``no``; failing or hanging is a ``no``.

    tox -e compare                  prints the rows
    tox -e compare -- --check       also fails where a page says something else
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
SECONDS = 180.0  # that a program may take; most need less than five
# Ray: sends no statistics, and has time to start on a busy machine.
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_raylet_start_wait_time_s": "120"}
LABELS = {
    "mirai_executor": "mirai_executor",
    "processes": "`ProcessPoolExecutor`",
    "joblib": "joblib / loky",
    "pebble": "Pebble",
    "dask": "Dask",
    "ray": "Ray",
}

# What a peer can do for one task: submit(), cancel(), limited() to a time, retried() after a
# crash, look_at() an array, as_executor() of the standard library, elsewhere() in a worker that is
# started by itself and knows an address, over_tls() without a certificate of one's own. A method
# that is missing is something that the peer cannot do.
PEERS = {
    "mirai_executor": """
from mirai_executor import MiraiExecutor, host_url
class Pool(MiraiExecutor):
    def __init__(self, n): super().__init__(n, cleanup=True)
    def cancel(self, future): future.cancel()
    def limited(self, seconds, fn, *args):
        return self.with_options(timeout=seconds).submit(fn, *args)
    def retried(self, fn, *args): return self.with_options(retries=1).submit(fn, *args)
    def look_at(self, fn, array): return self.submit(fn, self.share(array)).result(60)
    def as_executor(self): return self
    def elsewhere(self, fn):
        with MiraiExecutor(url="tcp://127.0.0.1:0") as executor:
            start_elsewhere(executor.launch_remote(1)[0], shell=True)
            return executor.submit(fn).result(60)
    def over_tls(self, fn, *args):
        with MiraiExecutor(url=host_url(tls=True)) as executor:
            executor.launch_local(1)
            assert executor.url.startswith("tls+tcp://")
            return executor.submit(fn, *args).result(60)
""",
    # The start method that every system has; with fork, a script needs no guard.
    "processes": """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
class Pool(ProcessPoolExecutor):
    def __init__(self, n): super().__init__(n, mp_context=multiprocessing.get_context("spawn"))
    def cancel(self, future): future.cancel()
    def look_at(self, fn, array): return self.submit(fn, array).result(60)
    def as_executor(self): return self
""",
    # loky is what joblib runs; what it lacks is tried through joblib.
    "joblib": """
import joblib, loky
class Pool(loky.ProcessPoolExecutor):
    def cancel(self, future): future.cancel()
    def look_at(self, fn, array):
        return joblib.Parallel(2)(joblib.delayed(fn)(array) for _ in range(2))[0]
    def as_executor(self): return self
    def elsewhere(self, fn):
        from distributed import Client, LocalCluster
        cluster = LocalCluster(n_workers=1, dashboard_address=None)
        with cluster, Client(cluster) as client:
            start_elsewhere([*DASK_WORKER, cluster.scheduler_address])
            client.wait_for_workers(2)
            with joblib.parallel_config("dask"):
                places = joblib.Parallel(batch_size=1)(joblib.delayed(fn)() for _ in range(50))
            return max(places, key="elsewhere".__eq__)
""",
    "pebble": """
import multiprocessing, pebble
class Pool(pebble.ProcessPool):
    def __init__(self, n): super().__init__(n, context=multiprocessing.get_context("spawn"))
    def submit(self, fn, *args): return self.schedule(fn, args=args)
    def cancel(self, future): future.cancel()
    def limited(self, seconds, fn, *args): return self.schedule(fn, args=args, timeout=seconds)
    def look_at(self, fn, array): return self.submit(fn, array).result(60)
    def __exit__(self, *exc): self.close(); self.join()
""",
    "dask": """
from distributed import Client, LocalCluster
class Pool:
    def __init__(self, n):
        self.cluster = LocalCluster(n_workers=n, threads_per_worker=1, dashboard_address=None)
        self.client = Client(self.cluster)
    def __enter__(self): return self
    def __exit__(self, *exc): self.client.close(); self.cluster.close()
    def submit(self, fn, *args): return self.client.submit(fn, *args, pure=False)
    def cancel(self, future): future.cancel()
    def retried(self, fn, *args): return self.submit(fn, *args)
    def look_at(self, fn, array):
        return self.submit(fn, self.client.scatter(array, broadcast=True)).result(60)
    def as_executor(self): return self.client.get_executor()
    def elsewhere(self, fn):
        start_elsewhere([*DASK_WORKER, self.cluster.scheduler_address])
        self.client.wait_for_workers(3)
        return self.client.submit(fn, workers=["elsewhere"]).result(60)
    def over_tls(self, fn, *args):
        cluster = LocalCluster(n_workers=1, dashboard_address=None, security=True)
        with cluster, Client(cluster) as client:
            assert cluster.scheduler_address.startswith("tls://")
            return client.submit(fn, *args).result(60)
""",
    "ray": """
import ray
class Reference:
    def __init__(self, ref): self.ref = ref
    def result(self, timeout=None): return ray.get(self.ref, timeout=timeout)
class Pool:
    def __init__(self, n):
        ray.init("local", num_cpus=n, include_dashboard=False, log_to_driver=False,
                 logging_level="ERROR", _node_ip_address="127.0.0.1",
                 object_store_memory=300_000_000)
    def __enter__(self): return self
    def __exit__(self, *exc): ray.shutdown()
    def submit(self, fn, *args):
        args = [a.ref if isinstance(a, Reference) else a for a in args]
        return Reference(ray.remote(max_retries=0)(fn).remote(*args))
    def cancel(self, future): ray.cancel(future.ref)
    def retried(self, fn, *args): return Reference(ray.remote(max_retries=1)(fn).remote(*args))
    def look_at(self, fn, array): return self.submit(fn, Reference(ray.put(array))).result(60)
    def elsewhere(self, fn):
        address = ray.get_runtime_context().gcs_address
        ray_start = [os.path.join(os.path.dirname(sys.executable), "ray"), "start", "--block"]
        size = ["--num-cpus=1", "--object-store-memory=100000000", "--node-ip-address=127.0.0.1"]
        place = ["--resources", '{"elsewhere": 1}', "--address", address]
        start_elsewhere([*ray_start, *size, *place])
        return ray.get(ray.remote(resources={"elsewhere": 1})(fn).remote(), timeout=120)
    def over_tls(self, fn, *args):
        ray.shutdown()
        os.environ["RAY_USE_TLS"] = "1"
        self.__init__(1)
        return self.submit(fn, *args).result(60)
""",
}

COMMON = """
import os, sys, time
folder = sys.argv[1]
here = os.path.join(folder, "here")

def size():
    return os.path.getsize(here) if os.path.exists(here) else 0

def tick():
    with open(here + ".pid", "w") as file:
        file.write(str(os.getpid()))
    while True:
        with open(here, "a") as file:
            file.write(".")
        time.sleep(0.05)

def still_ticks():
    time.sleep(1.5)  # whoever stops it may need a moment
    before = size()
    time.sleep(1)
    return size() > before

def wait_for_ticks():
    while not size():
        time.sleep(0.05)

def ends_in_an_error(future):
    try:
        future.result(60)
    except BaseException as error:
        return True
    return False

def crash():
    os._exit(11)

def crash_once():
    if not os.path.exists(here):
        open(here, "w").close()
        os._exit(11)
    return 42

def slowly(n):
    time.sleep(1)
    return n

def tick_and_swallow():
    while True:
        try:
            tick()
        except BaseException:
            pass

class Refused(Exception):
    def __init__(self, *, code):
        super().__init__("refused")
        self.code = code

def refuse():
    raise Refused(code=7)

def make_a_lock():
    import threading
    return threading.Lock()

DASK_WORKER = [sys.executable, "-m", "distributed.cli.dask_worker", "--no-dashboard",
               "--name", "elsewhere", "--nworkers", "1", "--nthreads", "2"]

def start_elsewhere(command, **options):
    import subprocess
    environment = {**os.environ, "WHERE": "elsewhere"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.Popen(command, env=environment, cwd=folder, **quiet, **options)

def where():
    return os.environ.get("WHERE", "here")

def own_pid():
    return os.getpid()

def map_in_processes():
    import multiprocessing
    with multiprocessing.get_context("fork").Pool(2) as inner:
        return inner.map(abs, [-1, -2])

def version():
    return 1

def leave_a_trace():
    os.environ["TRACE"] = "1"
    os.chdir("/")

def find_traces():
    return "TRACE" in os.environ or os.getcwd() == "/"

def add_one(n):
    return n + 1

def lies_in_shared_memory(array):
    address = array.__array_interface__["data"][0]
    for line in open("/proc/self/maps"):
        start, _, end = line.split()[0].partition("-")
        if int(start, 16) <= address < int(end, 16):
            return line.split()[4] != "0"  # an inode: not memory of its own
    return False

def answer(truth):
    print("yes" if truth else "no", flush=True)
"""

GUARD = "Scripts need no `__main__` guard"
KILLED = "`kill -9` of the program ends the work"
FEATURES = {
    "`concurrent.futures` interface": """
from concurrent.futures import Executor, wait
executor = pool.as_executor()
future = executor.submit(add_one, 41)
is_one = isinstance(executor, Executor) and wait([future], 60).done == {future}
answer(is_one and future.result() == 42 and [*executor.map(abs, [-1])] == [1])
""",
    GUARD: "answer(pool.submit(add_one, 41).result(60) == 42)",
    "Lambdas and closures": """
factor = 3
answer(pool.submit(lambda n: factor * n, 14).result(60) == 42)
""",
    "`cancel()` stops a running task": """
future = pool.submit(tick)
wait_for_ticks()
pool.cancel(future)
answer(not still_ticks() and pool.submit(add_one, 41).result(60) == 42)
""",
    "Timeout per task that stops the work": """
future = pool.limited(2, tick)
wait_for_ticks()
answer(ends_in_an_error(future) and not still_ticks() and pool.submit(add_one, 1).result(60) == 2)
""",
    "A crash fails only its own task": """
slow = pool.submit(slowly, 42)
failed = ends_in_an_error(pool.submit(crash))
answer(failed and slow.result(60) == 42 and pool.submit(add_one, 41).result(60) == 42)
""",
    "Retries after a crash": "answer(pool.retried(crash_once).result(60) == 42)",
    "Process state can be reset between tasks": """
pool.submit(leave_a_trace).result(60)
answer(not any([pool.submit(find_traces).result(60) for _ in range(8)]))
""",
    KILLED: """
future = pool.submit(tick)
wait_for_ticks()
print("ready", flush=True)
time.sleep(60)
""",
    "Large arrays in shared memory": """
import numpy
answer(pool.look_at(lies_in_shared_memory, numpy.ones(5_000_000)))
""",
    "Futures as arguments (task graphs)": """
first = pool.submit(add_one, 1)
answer(pool.submit(add_one, first).result(60) == 3)
""",
    "Other machines": "answer(pool.elsewhere(where) == 'elsewhere')",
    "TLS without certificates of your own": "answer(pool.over_tls(add_one, 41) == 42)",
}

# Rows of docs/comparison.md, which README.md has no room for.
MORE = {
    "`cancel()` stops what swallows exceptions": """
future = pool.submit(tick_and_swallow)
wait_for_ticks()
pool.cancel(future)
time.sleep(3)
answer(not still_ticks() and pool.submit(add_one, 41).result(60) == 42)
""",
    "Exceptions keep their attributes": """
try:
    pool.submit(refuse).result(60)
except Exception as error:
    answer(getattr(error, "code", None) == 7 and pool.submit(add_one, 41).result(60) == 42)
""",
    "A result that cannot be pickled fails only its task": """
slow = pool.submit(slowly, 42)
failed = ends_in_an_error(pool.submit(make_a_lock))
answer(failed and slow.result(60) == 42 and pool.submit(add_one, 41).result(60) == 42)
""",
    "Idle workers that die are replaced": """
os.kill(pool.submit(own_pid).result(60), 9)
time.sleep(1)
answer(pool.submit(add_one, 41).result(60) == 42)
""",
    "Tasks may have pools of their own": """
answer(pool.submit(map_in_processes).result(60) == [1, 2])
""",
    "A function that is defined anew is the new one": """
before = pool.submit(version).result(60)
exec("def version(): return 2", globals())
answer((before, pool.submit(version).result(60)) == (1, 2))
""",
}
TABLES = {"README.md": FEATURES, "docs/comparison.md": MORE}


def program(peer: str, feature: str) -> str:
    code = {**FEATURES, **MORE}[feature]
    body = "".join(f"        {line}\n" for line in code.strip().splitlines())
    opened = '        print("open", flush=True)\n'
    main = f"def main():\n    with Pool(2) as pool:\n{opened}{body}"
    call = "main()" if feature == GUARD else 'if __name__ == "__main__":\n    main()'
    return f"{COMMON}\n{PEERS[peer]}\n{main}\n{call}\n"


def attempt(peer: str, feature: str) -> str:
    """Return "yes" or "no", or "?" where the pool itself did not open."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = Path(folder, "program.py")
        path.write_text(program(peer, feature))
        run = subprocess.Popen(
            [sys.executable, path, folder],
            stdout=subprocess.PIPE,
            stderr=None if os.environ.get("VERBOSE") else subprocess.DEVNULL,
            env={**os.environ, **QUIET},
            text=True,
            start_new_session=True,
        )
        try:
            assert run.stdout is not None
            if feature == KILLED:
                started = [run.stdout.readline(), run.stdout.readline()]
                ready = started == ["open\n", "ready\n"]
                return killed(run, Path(folder, "here.pid")) if ready else "?"
            return verdict(run.communicate(timeout=SECONDS)[0].split(), feature)
        except subprocess.TimeoutExpired:
            return "no"
        finally:
            end(descendants(run.pid), run)


def verdict(printed: list[str], feature: str) -> str:
    if "open" not in printed and feature != GUARD:
        return "?"
    return "yes" if "yes" in printed else "no"


def descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def killed(run: subprocess.Popen[str], pid: Path) -> str:
    """Kill a program, and look whether the process that runs its task ends within 30 seconds."""
    processes = descendants(run.pid)
    worker = psutil.Process(int(pid.read_text()))
    run.send_signal(signal.SIGKILL)
    run.wait()
    _, alive = psutil.wait_procs([worker], timeout=30)
    left = [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
    end(processes, run)
    return "no" if left else "yes"


def end(processes: list[psutil.Process], run: subprocess.Popen[str]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    run.kill()
    run.wait()
    with suppress(ProcessLookupError):
        os.killpg(run.pid, signal.SIGKILL)


def stated(page: Path) -> dict[tuple[str, str], str]:
    """Return the cells of a page: "no", or what is not there, or "yes", however that is done."""
    cells: dict[tuple[str, str], str] = {}
    header: list[str] = []
    for line in page.read_text().splitlines():
        parts = [part.strip() for part in line.strip().strip("|").split("|")]
        if len(parts) > 2 and parts[1] == LABELS["mirai_executor"]:
            header = parts
        elif header and line.startswith("|"):
            cells |= {
                (name, parts[0]): "no" if part.startswith(("no", "–")) else "yes"  # noqa: RUF001
                for name, part in zip(header[1:], parts[1:], strict=True)
            }
        else:
            header = []
    return cells


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with the pages")
    parser.add_argument("--peer", choices=PEERS, action="append")
    parser.add_argument("--feature", help="try only features whose name contains this")
    options = parser.parse_args()
    wrong = 0
    for page, features in TABLES.items():
        says = stated(ROOT / page) if options.check else {}
        for feature in features:
            if options.feature and options.feature not in feature:
                continue
            cells = []
            for peer in options.peer or PEERS:
                found = next(
                    (f for f in (attempt(peer, feature) for _ in range(3)) if f != "?"), "?"
                )
                said = says.get((LABELS[peer], feature), found)
                wrong += said != found
                cells.append(found if said == found else f"{found} ({page}: {said})")
            print("|", " | ".join([feature, *cells]), "|", flush=True)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
