"""PURE: whether this machine is offline, as far as one upstream is concerned, from what a look found.

A name that nobody knows is an answer: somebody could be asked, so a mistyped base_url stays that
upstream's own fault. A name that gets no answer may be its domain's fault while another upstream's
name is answered; when none is, no name server can be reached. Without a route to the outside both
are explained by that, and a network without it may still reach what lies inside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address

NO_ROUTE = "there is no route to this upstream"  # clients read this; hosts are not their business


class Answer(StrEnum):
    """What came of looking up a host."""

    HERE = "here"  # this machine itself: no network is needed
    FOUND = "found"  # it has addresses, or is one
    MISSING = "missing"  # a name server said that there is no such name
    SILENT = "silent"  # no name server said anything


@dataclass(frozen=True, slots=True)
class Sight:
    """What is known of a host. `routed`: there is a route to one of its addresses. `lost`: it is not found
    any more, and there is no route to where it was.
    """

    answer: Answer
    routed: bool = False
    lost: bool = False


def why_offline(host: str, sights: Mapping[str, Sight], *, outside: bool) -> str | None:
    """Why `host` can't be reached from this machine now; None when the network is no reason.

    `outside`: there is a route to the internet, in either family.
    """
    own = sights.get(host)
    if own is None or own.answer is Answer.HERE:
        return None
    if own.answer is Answer.FOUND:
        return None if own.routed else NO_ROUTE
    if not outside:
        return "there is no route to the internet"
    if own.lost:  # macOS says of every name that it is missing, and may have a route that leads nowhere
        return NO_ROUTE
    if own.answer is Answer.SILENT and not _answered(sights):
        return "no name server answers"
    return None


def is_settled(host: str, sights: Mapping[str, Sight], *, outside: bool) -> bool:
    """Can what the other hosts still come to change nothing for `host`?"""
    own = sights.get(host)
    if own is None:
        return False
    return own.answer is not Answer.SILENT or own.lost or not outside or _answered(sights)


def is_here(host: str) -> bool:
    """Does `host` name this machine, so that nothing needs to be looked up?"""
    return host == "localhost" or host.endswith(".localhost") or is_loopback(host)


def is_loopback(host: str) -> bool:
    return is_literal(host) and ip_address(host).is_loopback


def is_literal(host: str) -> bool:
    """Is `host` an address, rather than a name?"""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _answered(sights: Mapping[str, Sight]) -> bool:
    """Did a name server say anything? Addresses are in here too; they were not asked for."""
    return any(
        sight.answer in (Answer.FOUND, Answer.MISSING) and not is_literal(host)
        for host, sight in sights.items()
    )
