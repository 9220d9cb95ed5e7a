"""What the link of a local daemon asks of the system."""

import contextlib
import fcntl
import os
from collections.abc import Iterator

import pytest

from mirai_executor._local import _process


@pytest.fixture
def capacities() -> Iterator[list[int]]:
    """The bytes that fit into the pipes of twelve links."""
    if not hasattr(fcntl, "F_GETPIPE_SZ"):
        pytest.skip("this system does not tell what fits into a pipe")
    before = len(_process._wide)
    with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
        links = [_process._open_link(ours, theirs)[0] for _ in range(12)]
        sizes = [
            fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)
            for link in links
            for fd in (link.fileno(), link.fileno_to_write())
        ]
        assert before == 0, "links of other tests are still open"
        yield sizes


def test_only_the_first_links_take_much_of_what_a_user_may_have(capacities: list[int]) -> None:
    if os.geteuid() != 0 and capacities[0] < 1 << 20:
        pytest.skip("this user's pipes have used up what Linux grants")
    assert capacities == [1 << 20] * 16 + [1 << 18] * 8


def test_a_link_that_is_closed_leaves_its_place_to_another() -> None:
    for _ in range(20):
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            link, _ = _process._open_link(ours, theirs)
            assert link in _process._wide
