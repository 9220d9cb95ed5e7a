"""Live: hosts whose packages lie elsewhere than in the folders of their interpreter.

As in layers of functions in a cloud, in a ``PYTHONPATH``, and in archives such as those of pex,
shiv and zipapp. The interpreter of these hosts has no packages of its own.
"""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import cloudpickle
import pytest
import tblib

import mirai_executor

PATIENCE = 60.0  # seconds that no passing test waits
PACKAGES = {each.__name__: each for each in (cloudpickle, tblib, mirai_executor)}
PROGRAM = """
import sys
from mirai_executor import MiraiExecutor

class OurError(Exception):
    pass

def place_of(name):
    return (lambda: __import__(name).__file__)()  # which travels by value

def fail():
    raise OurError("ours")

if __name__ == "__main__":
    for options in ({}, {"cleanup": True}):
        with MiraiExecutor(1, **options) as executor:
            error = executor.submit(fail).exception()
            frame = error.__traceback__
            while frame.tb_next is not None:
                frame = frame.tb_next
            print(repr(error), frame.tb_frame.f_code.co_name)
            for name in ("cloudpickle", "tblib"):
                print(executor.submit(place_of, name).result())
"""


def folder_of(name: str) -> Path:
    return Path(str(PACKAGES[name].__file__)).parent


def linked(folder: Path, *names: str) -> str:
    """Have a folder hold some packages; return it."""
    folder.mkdir()
    for name in names:
        (folder / name).symlink_to(folder_of(name))
    return str(folder)


def archived(archive: Path, *names: str, program: str = "") -> str:
    """Have an archive hold some packages; return it."""
    with zipfile.ZipFile(archive, "w") as file:
        for name in names:
            for each in folder_of(name).rglob("*.py"):
                file.write(each, each.relative_to(folder_of(name).parent))
        if program:
            file.writestr("__main__.py", program)
    return str(archive)


@pytest.mark.local_link("daemons elsewhere have folders of their own")
@pytest.mark.parametrize("place", ["PYTHONPATH", "layers", "archives", "one archive"])
def test_other_folders_of_the_host_serve_its_daemons(place: str, tmp_path: Path) -> None:
    program, path, environment = tmp_path / "program.py", [], dict(os.environ)
    environment.pop("PYTHONPATH", None)
    if place == "one archive":
        program = Path(archived(tmp_path / "all.pyz", *PACKAGES, program=PROGRAM))
    elif place == "archives":
        path = [archived(tmp_path / f"{name}.zip", name) for name in PACKAGES]
    else:
        path = [linked(tmp_path / name, name) for name in PACKAGES]
    if place == "PYTHONPATH":
        environment["PYTHONPATH"] = os.pathsep.join(path)
    if place != "one archive":
        # Daemons import the program: it is the host that has to tell them.
        first = f"import sys\nif __name__ == '__main__':\n    sys.path[:0] = {path!r}\n"
        program.write_text(PROGRAM if place == "PYTHONPATH" else first + PROGRAM)
    done = subprocess.run(
        [sys.executable, "-S", str(program)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=environment,
        check=False,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    where = [str(program)] * 3 if place == "one archive" else path
    files = [f"{where[n]}/{name}/__init__.py" for n, name in enumerate(("cloudpickle", "tblib"))]
    assert done.stdout.splitlines() == ["OurError('ours') fail", *files] * 2
