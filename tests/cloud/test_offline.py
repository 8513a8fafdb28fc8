"""When an upstream can't be reached because of this machine's network, and when it is its own fault."""

from __future__ import annotations

import pytest

from gateway.cloud.offline import NO_ROUTE, Answer, Sight, is_here, is_literal, is_settled, why_offline

HERE, MISSING, SILENT = Sight(Answer.HERE), Sight(Answer.MISSING), Sight(Answer.SILENT)
REACHED, UNROUTED = Sight(Answer.FOUND, routed=True), Sight(Answer.FOUND)
LOST = Sight(Answer.MISSING, lost=True)
NO_INTERNET, NO_SERVER = "there is no route to the internet", "no name server answers"


@pytest.mark.parametrize(
    ("own", "others", "outside", "why"),
    [
        # A mistyped name stays that upstream's own fault, with or without another one.
        (MISSING, {}, True, None),
        (MISSING, {"b.test": MISSING}, True, None),
        (MISSING, {"b.test": SILENT}, True, None),
        (MISSING, {}, False, NO_INTERNET),  # macOS says so of every name then
        # No name server can be reached, or only this domain's can't.
        (SILENT, {}, True, NO_SERVER),
        (SILENT, {"b.test": SILENT}, True, NO_SERVER),
        (SILENT, {"b.test": REACHED}, True, None),
        (SILENT, {"b.test": UNROUTED}, True, None),
        (SILENT, {"b.test": MISSING}, True, None),
        (SILENT, {"b.test": HERE}, True, NO_SERVER),  # the hosts file has answered
        (SILENT, {"10.0.0.7": REACHED}, True, NO_SERVER),  # an address was not asked for
        (SILENT, {"b.test": REACHED}, False, NO_INTERNET),  # the name server of a network without internet
        # It was found where there is no route to now.
        (LOST, {}, True, NO_ROUTE),
        (Sight(Answer.SILENT, lost=True), {"b.test": REACHED}, True, NO_ROUTE),
        # What has addresses needs a route to one of them, and nothing else.
        (REACHED, {}, False, None),
        (REACHED, {"b.test": SILENT}, True, None),
        (UNROUTED, {}, True, NO_ROUTE),
        (HERE, {}, False, None),
    ],
)
def test_what_makes_an_upstream_offline(
    own: Sight, others: dict[str, Sight], outside: bool, why: str | None
) -> None:
    sights = {"a.test": own, **others}
    assert why_offline("a.test", sights, outside=outside) == why


def test_nothing_is_said_of_what_was_not_looked_at() -> None:
    assert why_offline("a.test", {"b.test": SILENT}, outside=False) is None
    assert not is_settled("a.test", {"b.test": SILENT}, outside=False)


@pytest.mark.parametrize(
    ("sights", "outside", "settled"),
    [
        ({"a.test": SILENT}, True, False),
        ({"a.test": SILENT}, False, True),
        ({"a.test": SILENT, "b.test": MISSING}, True, True),
        ({"a.test": REACHED}, True, True),
        ({"a.test": Sight(Answer.SILENT, lost=True)}, True, True),
        ({"a.test": MISSING}, True, True),
    ],
)
def test_when_the_rest_need_not_be_waited_for(sights: dict[str, Sight], outside: bool, settled: bool) -> None:
    assert is_settled("a.test", sights, outside=outside) is settled


def test_what_needs_no_network() -> None:
    assert all(map(is_here, ["localhost", "api.localhost", "127.0.0.1", "127.9.9.9", "::1"]))
    assert not any(map(is_here, ["localhost.test", "10.0.0.1", "::2", "a.test", ""]))
    assert is_literal("10.0.0.1") and is_literal("fe80::1") and not is_literal("10.0.0.1.test")
