"""joblib's own tests of backends, with ours among them.

Its file is copied with two changes: the workers that are processes are ours, and the scripts that
it runs import our module, as users do.
"""

import re
import subprocess
import sys
from pathlib import Path

import joblib.test

# Each demands something that is otherwise here, and says what.
LEFT_OUT = {
    "test_error_capture": "that workers are others after an error; here they need no replacement",
    "test_auto_memmap_on_arrays_from_generator": "numpy.memmap; here arrays come by shared memory",
    "test_memmapping_leaks": "numpy.memmap; here arrays come by shared memory",
}


def test_the_page_names_the_tests_that_are_left_out() -> None:
    page = (Path(__file__).parents[2] / "docs/ecosystem/joblib.md").read_text()
    assert set(re.findall(r"^\| `(test_\w+)` \|", page, re.MULTILINE)) == set(LEFT_OUT)


def test_the_tests_of_joblib_pass(tmp_path: Path) -> None:
    source = (Path(joblib.test.__file__).parent / "test_parallel.py").read_text(encoding="utf-8")
    source, times = re.subn(
        r'PROCESS_BACKENDS = \["multiprocessing", "loky"\]', 'PROCESS_BACKENDS = ["mirai"]', source
    )
    assert times == 1, "joblib names its backends otherwise now"
    ours = "import mirai_executor.integrations.joblib\n"
    source, times = re.subn(
        r"^from joblib import Parallel, delayed\n", ours + r"\g<0>", source, flags=re.MULTILINE
    )
    assert times > 1, "joblib's scripts look otherwise now"
    (tmp_path / "test_ours.py").write_text(ours + source, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    chosen = " and ".join(["mirai", "not loky", *(f"not {name}" for name in LEFT_OUT)])
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen, "."],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-8000:]
    passed = re.search(r"(\d+) passed", ran.stdout)
    assert passed is not None
    assert int(passed[1]) > 80, ran.stdout[-2000:]
