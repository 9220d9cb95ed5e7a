"""The page that a host and a daemon share."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirai_executor import _nameless
from mirai_executor._shared import Page, Pages


@pytest.fixture
def pages() -> Iterator[Pages]:
    pages = Pages()
    yield pages
    pages.close()


def test_the_daemon_sees_which_tasks_the_host_wants_stopped(pages: Pages) -> None:
    host, _, fd = pages.create()
    daemon = Page.inherited(fd)
    host.stop(2**63 + 5)
    assert daemon.must_stop(2**63 + 5)
    host.stop(7)
    assert [daemon.must_stop(task) for task in (2**63 + 5, 6, 7)] == [True, False, True]
    daemon.close()


def test_the_last_hundreds_of_stops_are_seen(pages: Pages) -> None:
    host, _, fd = pages.create()
    daemon = Page.inherited(fd)
    for task in range(1, 1001):
        host.stop(task)
    assert all(map(daemon.must_stop, range(801, 1001)))
    assert not daemon.must_stop(1)
    daemon.close()


def test_a_page_names_no_task_though_it_was_anothers_before(pages: Pages) -> None:
    for _ in range(100):  # more than a sheet has
        page, _, fd = pages.create()
        os.close(fd)
        assert not any(map(page.must_stop, (0, 7)))
        page.stop(7)
        pages.release(page)


def refuse(fd: int, _: int) -> int:
    raise OSError(errno.ENOENT, f"no /proc/self/fd/{fd}")


@pytest.mark.parametrize("has_proc", [True, False])
def test_each_daemon_has_a_page_of_its_own(
    pages: Pages, has_proc: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_proc:
        monkeypatch.setattr(_nameless, "reopen", refuse)
    both = [pages.create() for _ in range(20)]
    daemons = [Page.inherited(fd) for *_, fd in both]
    for task, (page, *_) in enumerate(both, 1):
        page.stop(task)
    seen = [[task for task in range(1, 21) if it.must_stop(task)] for it in daemons]
    assert seen == [[task] for task in range(1, 21)]
    for daemon in daemons:
        daemon.close()


def test_pages_cost_few_descriptors(pages: Pages) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(32):
        *_, fd = pages.create()
        os.close(fd)
    assert len(list(Path("/proc/self/fd").iterdir())) - before <= 4
