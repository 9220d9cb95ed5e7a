"""Cuts ``python.inv`` out of the standard library's inventory: only names that our pages link to.

    python docs/inventories/make.py /usr/share/doc/python3.11/html/objects.inv

Its argument is the ``objects.inv`` of a Python's documentation, from docs.python.org or a system's
package. With the excerpt here, the docs build without a network, and any missing link is an error.
"""

import sys
import zlib
from pathlib import Path

# fmt: off
NAMES = [
    "BaseException", "BaseExceptionGroup", "bool", "bytes", "dict", "Exception", "False",
    "float", "int", "KeyboardInterrupt", "list", "LookupError", "None", "object", "OSError",
    "range", "RuntimeError", "str", "SyntaxError", "SystemExit", "True", "tuple", "type",
    "TypeError", "ValueError", "TimeoutError", "AttributeError", "ModuleNotFoundError",
    "ImportError", "asyncio.run", "asyncio.wrap_future", "asyncio.timeout",
    "asyncio.TaskGroup", "asyncio.loop.run_in_executor", "asyncio.wait_for",
    "collections.abc.AsyncIterable", "collections.abc.Callable", "collections.abc.Iterable",
    "collections.abc.Iterator", "collections.abc.Mapping", "collections.abc.Sequence",
    "concurrent.futures",
    "concurrent.futures.as_completed", "concurrent.futures.CancelledError",
    "concurrent.futures.Executor", "concurrent.futures.Executor.map",
    "concurrent.futures.Executor.shutdown", "concurrent.futures.Executor.submit",
    "concurrent.futures.Future", "concurrent.futures.Future.add_done_callback",
    "concurrent.futures.Future.cancel", "concurrent.futures.Future.exception",
    "concurrent.futures.Future.result", "concurrent.futures.InvalidStateError",
    "concurrent.futures.process.BrokenProcessPool", "concurrent.futures.ProcessPoolExecutor",
    "concurrent.futures.ThreadPoolExecutor", "concurrent.futures.wait", "contextvars.Context",
    "contextvars.ContextVar", "importlib.reload", "logging.basicConfig",
    "logging.handlers.QueueHandler", "logging.handlers.QueueListener", "multiprocessing.pool.Pool",
    "os._exit", "pathlib.Path", "pickle.dumps", "subprocess.Popen", "sys.path", "threading.Thread",
    "typing.Any", "typing.Literal", "warnings.warn",
]
# fmt: on


def main() -> None:
    source = Path(sys.argv[1]).read_bytes()
    head, _, body = source.partition(b"zlib.\n")
    wanted = set(NAMES)
    lines = zlib.decompress(body).decode().splitlines()
    kept = [
        line
        for line in lines
        if line.split(" ")[0] in wanted and line.split(" ")[1].startswith("py:")
    ]
    missing = wanted - {line.split(" ")[0] for line in kept}
    if missing:
        sys.exit(f"not in {sys.argv[1]}: {', '.join(sorted(missing))}")
    content = zlib.compress("".join(f"{line}\n" for line in kept).encode(), 9)
    Path(__file__).with_name("python.inv").write_bytes(head + b"zlib.\n" + content)


if __name__ == "__main__":
    main()
