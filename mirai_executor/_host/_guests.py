"""Shares the places for those who have proved nothing yet, and says how many were refused.

Strangers may come by the thousand. They get few descriptors, since the program needs its own; and
who comes from where many others come from, takes a place from one of these.
"""

from __future__ import annotations

import ipaddress
import logging
import random
import resource
from typing import TYPE_CHECKING, Protocol

from mirai_executor.credentials import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mirai_executor._waiting import Reactor, Timer

_LOG = logging.getLogger("mirai_executor")
MOST = 128  # guests at once
WEBSOCKET = 6  # descriptors that a guest takes that is heard over a WebSocket
_SHARE = 8  # guests have one in so many of the descriptors of this process
_LEAST = 8
_RESERVE = 16  # descriptors that are left to the program, if it has no more than these
_LINES = 10  # of the log that say one refusal each
_PAUSE = 60.0  # seconds from one line to the next, after these


class Guest(Protocol):
    """What is asked about one.

    Attributes:
        network: Where it comes from, as :func:`network_of` has it.
        has_greeted: It knows the token of a daemon, or has overheard one who does.
    """

    @property
    def network(self) -> str: ...
    @property
    def has_greeted(self) -> bool: ...


def most_guests() -> int:
    """Return how many there may be at once."""
    return min(MOST, most_places())


def most_places() -> int:
    """Return how many descriptors they may have together."""
    return max(_LEAST, _descriptors() // _SHARE)


def is_reserved(fd: int) -> bool:
    """Tell whether a descriptor is one of the last, which the program needs for its own files."""
    return fd >= _descriptors() - min(_RESERVE, _descriptors() // _SHARE)


def _descriptors() -> int:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MOST * _SHARE if limit == resource.RLIM_INFINITY else limit


def network_of(address: str) -> str:
    """Return what one stranger has: an IPv4 address, or 64 bits of IPv6 addresses."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if found.version == 4 or found.ipv4_mapped is not None:
        return address
    return found.packed[:8].hex()


def who_goes(guests: Mapping[int, Guest]) -> int:
    """Return those who make room, by descriptor: one at random of where most of them come from.

    The oldest would be the one who is far away, and needs more time than others; and an attacker
    would know how many connections it takes to have anyone sent away.
    """
    by_network: dict[str, list[int]] = {}
    for fd, guest in guests.items():
        by_network.setdefault(guest.network, []).append(fd)
    largest = max(by_network.values(), key=len)
    silent = [fd for fd in largest if not guests[fd].has_greeted]
    return random.choice(silent or largest)  # noqa: S311 - nothing is won by guessing it


class Refusals:
    """Counts those who were refused, and says so: each of the first ones, then now and then.

    Args:
        reactor: Tells when it is time.
    """

    def __init__(self, reactor: Reactor) -> None:
        self.count = 0
        self._reactor = reactor
        self._lines = self._held_back = 0
        self._last = ("", "")
        self._pause: Timer | None = None

    def note(self, address: str, why: object) -> None:
        """Take note of one."""
        self.count += 1
        if not isinstance(why, ProtocolError):
            _LOG.debug("a connection from %s was dropped: %s", address, why)
        elif self._lines < _LINES:
            self._lines += 1
            _LOG.warning("a connection from %s was refused: %s", address, why)
        else:
            self._held_back += 1
            self._last = (address, str(why))
            if self._pause is None:
                self._pause = self._reactor.call_in(_PAUSE, self._sum_up)

    def _sum_up(self) -> None:
        self._pause = None
        if self._held_back:
            _LOG.warning(
                "more connections were refused: %d, the last from %s: %s",
                self._held_back,
                *self._last,
            )
            self._held_back = 0

    def close(self) -> None:
        """Say the rest."""
        if self._pause is not None:
            self._pause.cancel()
            self._sum_up()
