"""Runs the examples of the page of engines that need one, against clusters started for them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs/engines.md"
BLOCKS = re.compile(
    r"^```py\n(?P<code>.*?)^```\n(?:\n```text\n(?P<shown>.*?)^```\n)?", re.MULTILINE | re.DOTALL
)
# A scheduler and a worker in processes of their own. Ray is started by the page itself.
PROGRAM = """\
import sys
from distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=1, host="127.0.0.1", dashboard_address=None) as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()
"""


def test_the_examples_of_the_page_print_what_it_shows(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    pytest.importorskip("ray", reason="Ray has no wheel for this Python")
    blocks = list(BLOCKS.finditer(PAGE.read_text()))
    shown = [block["shown"] for block in blocks]
    assert len(blocks) == 3
    assert all(shown)
    (tmp_path / "cluster.py").write_text(PROGRAM)
    with subprocess.Popen(
        [sys.executable, tmp_path / "cluster.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as cluster:
        assert cluster.stdin is not None
        assert cluster.stdout is not None
        address = cluster.stdout.readline().decode().strip()
        code = "\n".join(block["code"] for block in blocks)
        code = code.replace("tcp://10.0.0.1:8786", address).replace("10.0.0.1:6379", "local")
        run = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=150, check=False
        )
        cluster.stdin.close()
    assert run.returncode == 0, run.stderr
    printed = [line for line in run.stdout.splitlines() if not line.startswith("(")]  # Ray's own
    assert printed == [line for text in shown for line in text.splitlines()]
