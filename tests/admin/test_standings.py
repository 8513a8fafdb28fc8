"""How targets and credentials stand, as the operations tell it without a daemon: what was saved last."""

from __future__ import annotations

import time

import pytest

from gateway.admin.operations import Context
from gateway.errors import MissingError, RefusedError
from gateway.failover.breaker import Breakers, Key
from gateway.store import standings
from tests.admin.conftest import Run
from tests.failover.play import failure

DEAD = "its credential was refused, and is left alone until it is changed"


async def save(context: Context, *failed: tuple[Key, str]) -> None:
    """What a daemon leaves behind that has seen these failures, a moment ago."""
    breakers = Breakers()
    for key, outcome in failed:
        breakers.record(key, failure(outcome), 0.0)
    dump = breakers.dump(0.0)
    await context.store.change("test", lambda _: standings.replace(dump, time.time()))


@pytest.fixture
async def three(do: Run, context: Context) -> None:
    """Three credentials, of which one is dead and one unpaid, and some models that cool."""
    await do("upstreams.add", name="openai", preset="openai")
    await do("upstreams.add", name="ollama", preset="ollama")
    for name in ("a", "b", "c"):
        await do("credentials.add", upstream="openai", name=name, secret="sk-0123456789abcdef")
    await save(
        context,
        (Key("openai", 1, "gpt", 1), "auth"),
        (Key("openai", 2, "gpt", 1), "billing"),
        (Key("openai", 3, "gpt", 1), "rate_limited"),
        (Key("openai", 3, "gpt-old", 1), "model_missing"),
        (Key("ollama", None, "q", 0), "model_missing"),
        (Key("local", None, "demo", 0), "model_missing"),
    )


@pytest.mark.usefixtures("three")
async def test_a_credential_that_is_dead_is_told_from_one_that_is_unpaid(do: Run) -> None:
    listed = await do("credentials.list")
    assert [(c["name"], c["standing"]) for c in listed] == [("a", "dead"), ("b", "unpaid"), ("c", "cooling")]
    assert listed[0]["until_s"] is None
    assert 290 < listed[1]["until_s"] <= 300
    assert 50 < listed[2]["until_s"] <= 60
    assert (await do("credentials.show", upstream="openai", name="a"))["standing"] == "dead"
    # A changed secret has done nothing wrong yet.
    await do("credentials.set", upstream="openai", name="a", secret="sk-fedcba9876543210")
    assert (await do("credentials.show", upstream="openai", name="a"))["standing"] == "ok"


@pytest.mark.usefixtures("three")
async def test_an_upstream_shows_what_of_it_is_left_alone(do: Run) -> None:
    shown = await do("upstreams.show", name="openai")
    assert [c["standing"] for c in shown["credentials"]] == ["dead", "unpaid", "cooling"]
    told = [(c["model"], c["credential"], c["state"], c["outcome"]) for c in shown["cooling"]]
    assert told == [
        (None, "a", "dead", "auth"),
        (None, "b", "unpaid", "billing"),
        ("gpt", "c", "cooling", "rate_limited"),
        ("gpt-old", "c", "cooling", "model_missing"),
    ]
    assert (shown["cooling"][0]["until_s"], shown["cooling"][0]["reason"]) == (None, DEAD)
    (keyless,) = (await do("upstreams.show", name="ollama"))["cooling"]
    assert (keyless["model"], keyless["credential"], keyless["backend"]) == ("q", None, "ollama")


@pytest.mark.usefixtures("three")
async def test_a_reset_says_what_it_cleared(do: Run) -> None:
    done = await do("upstreams.reset", name="openai", credential="c")
    assert (done["upstream"], done["credential"]) == ("openai", "c")
    assert [(c["model"], c["state"]) for c in done["cleared"]] == [("gpt", "cooling"), ("gpt-old", "cooling")]
    assert [c["standing"] for c in await do("credentials.list")] == ["dead", "unpaid", "ok"]
    done = await do("upstreams.reset", name="openai")
    assert [c["credential"] for c in done["cleared"]] == ["a", "b"]
    assert [c["standing"] for c in await do("credentials.list")] == ["ok", "ok", "ok"]
    assert (await do("upstreams.reset", name="openai"))["cleared"] == []
    assert len((await do("upstreams.reset", name="local"))["cleared"]) == 1
    assert len((await do("upstreams.reset", name="ollama"))["cleared"]) == 1


async def test_a_reset_of_what_is_not_there(do: Run) -> None:
    await do("upstreams.add", name="openai", preset="openai")
    with pytest.raises(MissingError, match="there is no upstream 'opnai'"):
        await do("upstreams.reset", name="opnai")
    with pytest.raises(MissingError, match="has no credential 'x'; known: none yet"):
        await do("upstreams.reset", name="openai", credential="x")
    with pytest.raises(RefusedError):
        await do("upstreams.reset", name="local", credential="x")
