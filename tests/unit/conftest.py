"""What tests of several files here look at."""

import pytest

from mirai_executor import keeper
from mirai_executor.credentials import DaemonCredentials, new_secret


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[keeper.KeeperOptions]:
    """What the command line would have kept a daemon with."""
    kept: list[keeper.KeeperOptions] = []

    def keep(options: keeper.KeeperOptions, _: DaemonCredentials) -> keeper.ExitCode:
        kept.append(options)
        return keeper.ExitCode.DONE

    monkeypatch.setattr(keeper, "keep", keep)
    for name, value in DaemonCredentials(new_secret()).environment.items():
        monkeypatch.setenv(name, value)
    return kept
