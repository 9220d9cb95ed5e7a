"""A daemon keeps the functions that came last, and its host knows which without asking."""

import random

import pytest

from mirai_executor._payload.common import entries as entries_module
from mirai_executor._payload.common.entries import FUNCTION, Kept
from mirai_executor._payload.host import NameEntry, Sent
from mirai_executor.errors import PayloadError


def test_host_and_daemon_forget_the_same_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries_module, "MOST_FUNCTIONS", 5)
    monkeypatch.setattr(entries_module, "MOST_BYTES", 100)
    draw = random.Random(1)
    sizes = [draw.choice([1, 10, 30, 200]) for _ in range(12)]
    sent, kept, resent = Sent(), Kept(), 0
    for number in draw.choices(range(12), k=10_000):
        entry = NameEntry(FUNCTION, b"%d" % number, bytes(sizes[number]))
        is_new = sent.is_new(entry)
        resent += is_new
        kept.receive(entry.digest, entry.blob if is_new else None)
        assert kept[entry.digest] == entry.blob
        assert list(sent._functions._sizes) == list(kept._latest._sizes)
        assert set(kept._blobs) == set(kept._latest._sizes)
        assert len(kept._blobs) <= 5
        assert len(kept._blobs) == 1 or sum(map(len, kept._blobs.values())) <= 100
    assert 1000 < resent < 9000


def test_a_function_without_its_bytes_says_so() -> None:
    with pytest.raises(PayloadError, match="have not arrived"):
        Kept()[b"digest"]


def test_names_that_came_together_count_as_sent_until_one_of_them_changes() -> None:
    sent = Sent()

    def is_new(names: str, *digests: str) -> bool:
        return sent.is_new(NameEntry(names, "".join(d * 16 for d in digests).encode(), b"value"))

    assert is_new("a", "1")
    assert is_new("a,b,c", "1", "2", "3")  # an a of its own is not that of the others
    assert not any((is_new("a", "1"), is_new("a,c", "1", "3"), is_new("a,b,c", "1", "2", "3")))
    assert is_new("a", "4")
    assert is_new("a,c", "4", "3")
    assert is_new("a,b,c", "4", "2", "3")
    assert not is_new("c", "3")
