"""The page that a host and a daemon share."""

import os

from mirai_executor._page import Page


def test_each_side_sees_what_the_other_has_written() -> None:
    host, fd = Page.create()
    daemon = Page(fd)
    daemon.begun = 2**63 + 5
    host.stop = 7
    assert (host.begun, daemon.stop) == (2**63 + 5, 7)
    host.close()
    daemon.close()


def test_a_new_page_names_no_task() -> None:
    page, fd = Page.create()
    os.close(fd)
    assert (page.begun, page.stop) == (0, 0)
    page.close()
