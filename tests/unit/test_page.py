"""The page that a host and a daemon share."""

import os

from mirai_executor._page import Page


def test_the_daemon_sees_which_tasks_the_host_wants_stopped() -> None:
    host, fd = Page.create()
    daemon = Page(fd)
    host.stop(2**63 + 5)
    assert daemon.must_stop(2**63 + 5)
    host.stop(7)
    assert [daemon.must_stop(task) for task in (2**63 + 5, 6, 7)] == [True, False, True]
    host.close()
    daemon.close()


def test_the_last_hundreds_of_stops_are_seen() -> None:
    host, fd = Page.create()
    daemon = Page(fd)
    for task in range(1, 1001):
        host.stop(task)
    assert all(map(daemon.must_stop, range(801, 1001)))
    assert not daemon.must_stop(1)
    host.close()
    daemon.close()


def test_a_new_page_names_no_task() -> None:
    page, fd = Page.create()
    os.close(fd)
    assert not page.must_stop(0)
    page.close()
