"""Large values that were sent before are recognised, and nothing else is taken for them."""

import pytest

from mirai_executor._payload.common.entries import digest_of
from mirai_executor._payload.host import seals as seals_module
from mirai_executor._payload.host.seals import Seals
from unit.test_payload_driver import run_host

LARGE = 1 << 16


def test_equal_bytes_are_those_of_last_time_with_the_digest_that_is_their_own() -> None:
    seals = Seals()
    first, equal = b"x" * LARGE, bytes(bytearray(b"x" * LARGE))
    assert seals.of("a", first)[0] is first
    for _ in range(2):  # what is added to a digest is not in that of the next one
        blob, seal = seals.of("a", equal)
        assert blob is first
        assert seal.digest() == digest_of(first)
        seal.update(b"more")
        assert seal.digest() == digest_of(first + b"more")


def test_what_has_changed_or_has_another_name_is_itself() -> None:
    seals = Seals()
    for name, blob in [("a", b"x" * LARGE), ("a", b"y" * LARGE), ("b", b"y" * LARGE)]:
        found, seal = seals.of(name, blob)
        assert found is blob
        assert seal.digest() == digest_of(blob)


def test_no_more_is_kept_than_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seals_module, "_MOST", 1 << 22)
    seals = Seals()
    for number in range(6):
        seals.of(number, bytes(1 << 20))
        assert 0 < sum(len(blob) for blob, _ in seals._last.values()) <= 1 << 22


def test_calls_that_wait_share_the_bytes_of_a_large_global_that_has_not_changed() -> None:
    out = run_host(
        """
        import warnings
        from mirai_executor._payload.host import CallEncoder
        warnings.simplefilter("ignore")  # that the value is large
        DATA = bytearray(1 << 20)
        def task(i): return DATA[i]
        encoder = CallEncoder()
        def entry():
            return next(e for e in encoder.encode(task, (1,), {}).names if e.name == "DATA")
        one, two = entry(), entry()
        DATA[1] = 7
        three = entry()
        print(one.blob is two.blob, one.digest == two.digest, one.digest == three.digest)
        """
    )
    assert out == "True True False\n"
