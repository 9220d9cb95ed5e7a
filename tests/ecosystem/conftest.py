"""Other libraries, with daemons as their workers: run by ``tox -e ecosystem``, where they are."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from joblib import Parallel, delayed, parallel_config

from mirai_executor import MiraiExecutor, host_url
from mirai_executor.integrations.joblib import MiraiBackend, shut_down


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker("ecosystem")
            item.add_marker("live")


@pytest.fixture(scope="module", params=["shared", "given", "elsewhere"])
def two_jobs(request: pytest.FixtureRequest) -> Iterator[dict[str, object]]:
    """What parallel_config needs for two workers: made by the backend, given, or connected."""
    if request.param == "shared":
        with parallel_config(backend="mirai", n_jobs=2):
            Parallel(batch_size=1)(delayed(abs)(n) for n in range(20))  # both have started then
        yield {"backend": "mirai", "n_jobs": 2}
        shut_down()
    elif request.param == "given":
        with MiraiExecutor(2) as executor:
            executor.wait_ready(count=2)
            yield {"backend": MiraiBackend(executor), "n_jobs": 2}
    else:
        with MiraiExecutor(url=host_url(tls=True)) as executor:
            executor.launch_local(2)
            executor.wait_ready(count=2)
            yield {"backend": MiraiBackend(executor), "n_jobs": 2}
