"""What is promised about security, where no other test shows it."""

import psutil
import pytest

from live.mischief import SOON, own_pid
from mirai_executor import MiraiExecutor


@pytest.mark.local_link("it has no address")
def test_a_local_executor_listens_nowhere() -> None:
    before = set(psutil.Process().net_connections(kind="all"))
    with MiraiExecutor(1) as executor:
        daemon = psutil.Process(executor.submit(own_pid).result(SOON))
        found = set(psutil.Process().net_connections(kind="all")) - before
        found |= set(daemon.net_connections(kind="all"))
    assert not [one for one in found if str(one.laddr)]
