"""Who is in memory, who comes and who goes, before a host that only notes what it is told."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from gateway.backend import AttemptFailed
from gateway.failover.outcome import Failure, Outcome
from gateway.local import residents
from gateway.local.host import Host
from gateway.local.mailbox import Counters, ModelChanged, ModelFolder
from gateway.local.residency import footprint
from gateway.local.residents import Residents
from gateway.local.scheduler import Scheduler
from tests.local.asking import soon
from tests.local.fakes import FakeHost, facts, folder

MIB = 1024**2
SIZE = footprint(MIB)
FAILURE = Failure(outcome=Outcome.LOCAL_FAULT, message="broken")
A, B, C = (folder(name, MIB) for name in "abc")


@dataclass
class Place:
    """Room for two models, unless the test says otherwise, and the clock in its hand."""

    limit: int = 2 * SIZE
    pinned: frozenset[str] = frozenset()
    keep_alive_s: float = 0.0
    grown: int = 0
    host: FakeHost = field(default_factory=FakeHost)
    line: Scheduler = field(default_factory=lambda: Scheduler(batch_size=2, max_queue=2))

    def __post_init__(self) -> None:
        self.of = Residents(
            lambda: cast(Host, self.host),
            self.line,
            limit_bytes=self.limit,
            pinned=self.pinned,
            keep_alive_s=self.keep_alive_s,
            grown=lambda: self.grown,
        )

    def ready(self, *models: ModelFolder) -> None:
        """They are loaded, in this order."""
        for model in models:
            self.of.claim(model)
            self.of.changed(ModelChanged(model, "loading"))
            self.of.changed(ModelChanged(model, "ready", progress=1.0, facts=facts()))

    def refusal(self, model: ModelFolder) -> Failure:
        with pytest.raises(AttemptFailed) as caught:
            self.of.check(model)
        return caught.value.failure


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="gateway.local")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(residents, "time", type("Clock", (), {"monotonic": lambda: now[0]}))
    return now


async def test_a_models_stay_from_claim_to_cold() -> None:
    place = Place()
    assert (place.of.state(A.path), place.of.stay(A.path), place.of.paths) == ("cold", None, [])
    place.of.check(A)
    place.of.claim(A)
    assert (place.of.state(A.path), place.of.known(A.path), place.of.paths) == ("loading", True, [A.path])
    place.of.changed(ModelChanged(A, "loading", progress=0.5))
    stay = place.of.stay(A.path)
    assert stay is not None
    assert stay.progress == 0.5
    place.of.changed(ModelChanged(A, "ready", progress=1.0, facts=facts()))
    assert (place.of.state(A.path), stay.progress, stay.facts) == ("ready", 1.0, facts())
    going = asyncio.create_task(place.of.unload(A.path))
    await asyncio.sleep(0)
    assert place.host.did == [("unload", "a")]
    assert not going.done(), "its memory is not free yet"
    place.of.changed(ModelChanged(A, "cold"))
    assert await going
    assert place.of.state(A.path) == "cold"
    assert await place.of.unload(A.path), "it is not there"


async def test_a_load_by_command_is_asked_for_once_and_waited_for_by_all() -> None:
    place = Place()
    loads = [asyncio.create_task(place.of.load(A)) for _ in range(3)]
    await asyncio.sleep(0)
    place.of.changed(ModelChanged(A, "ready", facts=facts()))
    await asyncio.gather(*loads)
    assert set(place.host.did) == {("load", "a")}
    await place.of.load(A)
    assert len(place.host.did) == 3


async def test_one_who_no_longer_waits_for_a_load_does_not_disturb() -> None:
    place = Place()
    load = asyncio.create_task(place.of.load(A))
    await asyncio.sleep(0)
    load.cancel()
    await asyncio.wait([load])
    place.of.changed(ModelChanged(A, "ready", facts=facts()))
    assert place.of.state(A.path) == "ready"


async def test_a_load_that_failed_is_told_to_all_and_not_tried_again_at_once(clock: list[float]) -> None:
    place = Place()
    loads = [asyncio.create_task(place.of.load(A)) for _ in range(2)]
    await asyncio.sleep(0)
    place.of.changed(ModelChanged(A, "failed", FAILURE))
    for load in loads:
        with pytest.raises(AttemptFailed) as caught:
            await load
        assert caught.value.failure is FAILURE
    assert (place.of.state(A.path), place.of.known(A.path), place.of.paths) == ("failed", False, [A.path])
    assert place.refusal(A) is FAILURE
    clock[0] += 61
    place.of.check(A)
    assert place.of.state(A.path) == "cold"
    place.of.changed(ModelChanged(A, "failed", FAILURE))
    place.of.check(ModelFolder(name="a", path=A.path, size_bytes=MIB, fingerprint="another"))


async def test_a_failure_without_a_reason_may_be_tried_again() -> None:
    place = Place()
    place.of.claim(A)
    place.of.changed(ModelChanged(A, "failed"))
    place.of.check(A)


async def test_an_engine_that_rests_is_not_asked() -> None:
    place = Place()
    place.host.rest_s = 12.5
    failure = place.refusal(A)
    assert (failure.code, failure.retry_after_s) == ("engine_failed", 12.5)


async def test_the_least_recently_used_goes_for_another() -> None:
    place = Place()
    place.ready(A, B)
    place.of.claim(A)
    place.of.check(C)
    place.of.claim(C)
    assert place.host.did == [("unload", "b")]
    assert [place.of.state(model.path) for model in (A, B, C)] == ["ready", "cold", "loading"]


async def test_one_in_use_one_that_loads_and_one_pinned_stay() -> None:
    place = Place(limit=3 * SIZE, pinned=frozenset("c"))
    place.ready(C)
    place.ready(A)
    place.of.claim(B)  # is being loaded
    place.line.admit(A.path, 1, 0.0)
    failure = place.refusal(folder("d", MIB))
    assert (failure.outcome, failure.code, failure.status) == (Outcome.OVERLOADED, "memory_full", 503)
    assert "in use or pinned" in failure.message
    assert not await place.of.unload(A.path)
    assert not await place.of.unload(B.path)
    place.line.left(A.path, 1, 1.0)
    place.of.claim(folder("d", MIB))
    assert place.host.did == [("unload", "a")]


async def test_what_can_never_fit_is_told_the_limit() -> None:
    failure = Place().refusal(folder("huge", 1024 * MIB))
    assert (failure.outcome, failure.code) == (Outcome.LOCAL_FAULT, "model_too_large")
    assert "local.memory_limit_gb" in failure.message


async def test_a_draft_model_counts_with_the_one_it_drafts_for() -> None:
    place = Place()
    place.ready(folder("a", MIB, draft="/small", draft_bytes=2 * MIB))
    place.of.claim(B)
    assert place.host.did == [("unload", "a")]
    tight = Place(limit=footprint(2 * MIB) + 1)
    assert tight.refusal(folder("a", MIB, draft="/small", draft_bytes=2 * MIB)).code == "model_too_large"


async def test_kept_prompts_make_room_before_a_model_goes() -> None:
    place = Place(grown=2 * SIZE)
    place.ready(A)
    place.host.held = Counters(prompt_cache_bytes=SIZE)
    place.of.claim(B)
    assert place.host.did == [("shrink", 0)]


async def test_one_who_finds_no_room_waits_for_one_that_is_done() -> None:
    place = Place(limit=SIZE)
    place.ready(A)
    place.line.admit(A.path, 1, 0.0)
    waiting = asyncio.create_task(place.of.room(B, soon()))
    await asyncio.sleep(0)
    place.of.idle(A.path)  # one of several
    for _ in range(3):
        await asyncio.sleep(0)
    assert not waiting.done()
    place.line.left(A.path, 1, 1.0)
    place.of.idle(A.path)
    await waiting
    place.of.check(B)


@pytest.mark.parametrize("patience", [0.01, 60.0])
async def test_nobody_waits_for_room_beyond_the_deadline_or_patience(
    monkeypatch: pytest.MonkeyPatch, patience: float
) -> None:
    monkeypatch.setattr(residents, "_PATIENCE_S", patience)
    place = Place(limit=SIZE)
    place.ready(A)
    place.line.admit(A.path, 1, 0.0)
    await place.of.room(B, soon(60.0 if patience < 1 else 0.01))
    assert place.refusal(B).code == "memory_full"
    await place.of.room(folder("huge", 1024 * MIB), soon())  # no use to wait


async def test_who_was_not_asked_for_in_a_while_goes(clock: list[float]) -> None:
    place = Place(limit=9 * SIZE, pinned=frozenset("c"), keep_alive_s=100.0)
    place.ready(A, B, C)
    clock[0] += 60
    place.of.idle(B.path)
    place.of.idle("/nobody")
    clock[0] += 60
    place.of.tend()
    assert place.host.did == [("unload", "a")]
    place.line.admit(B.path, 1, 0.0)
    clock[0] += 500
    place.of.tend()
    assert len(place.host.did) == 1
    place.line.left(B.path, 1, 1.0)
    place.of.tend()
    assert place.host.did[1:] == [("unload", "b")]


async def test_prompts_go_when_the_process_has_grown_beyond_the_limit() -> None:
    place = Place()
    place.of.tend()
    assert place.host.did == []
    place.grown = place.limit + 1
    place.of.tend()
    assert place.host.did == [("shrink", 0)]


@pytest.mark.parametrize("path", [None, A.path])
async def test_an_engine_that_is_lost_takes_its_models_and_tells_who_waits(path: str | None) -> None:
    place = Place(limit=9 * SIZE)
    place.ready(B)
    load = asyncio.create_task(place.of.load(A))
    unload = asyncio.create_task(place.of.unload(B.path))
    await asyncio.sleep(0)
    place.ready(C)
    place.of.lost(path)
    with pytest.raises(AttemptFailed) as caught:
        await load
    assert caught.value.failure.outcome is Outcome.LOCAL_FAULT
    assert place.of.state(A.path) == "cold"
    if path is None:
        assert await unload
        assert place.of.paths == []
    else:
        assert not unload.done()
        assert place.of.state(C.path) == "ready"
        place.of.changed(ModelChanged(B, "cold"))
        assert await unload


async def test_a_model_that_was_asked_for_while_it_was_sent_away_is_known_again() -> None:
    place = Place()
    place.of.changed(ModelChanged(A, "loading", progress=0.2))
    assert place.of.state(A.path) == "loading"
    place.of.changed(ModelChanged(B, "ready"))
    assert place.of.state(B.path) == "cold", "it has been sent away meanwhile"


async def test_a_model_without_a_batch_has_one_place_from_then_on() -> None:
    place = Place()
    place.of.claim(A)
    place.of.changed(ModelChanged(A, "ready", facts=facts(batched=False)))
    answers: list[Any] = [place.line.admit(A.path, number, time.monotonic()) for number in (1, 2)]
    assert [answer.wait_s for answer in answers] == [0.0, 2.0]


async def test_a_refusal_for_want_of_memory_says_when_a_model_in_use_should_be_done() -> None:
    place = Place(limit=2 * SIZE, pinned=frozenset("b"))
    place.ready(A, B)
    place.line.admit(A.path, 1, time.monotonic())
    place.line.admit(A.path, 2, time.monotonic())
    place.line.admit(A.path, 3, time.monotonic())  # waits for one of two places, each held for 2 s
    assert place.refusal(C).retry_after_s == pytest.approx(4.0, abs=0.5)
    assert place.of.foresee(C) == pytest.approx(4.0, abs=0.5)
    assert place.of.free_bytes() == 0
    alone = Place(limit=SIZE, pinned=frozenset("a"))
    alone.ready(A)
    assert alone.refusal(B).retry_after_s is None
    with pytest.raises(AttemptFailed):
        alone.of.foresee(B)


async def test_a_wait_beyond_patience_is_a_refusal_and_so_is_an_engine_that_rests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = Place(limit=SIZE)
    place.of.claim(A)  # nobody has asked it anything: it is only being loaded
    assert place.of.foresee(B) == 2.0
    assert [stay.folder for stay in place.of.loading()] == [A]
    place.host.rest_s = 5.0
    with pytest.raises(AttemptFailed) as caught:
        place.of.foresee(B)
    assert caught.value.failure.code == "engine_failed"
    place.host.rest_s = 0.0
    monkeypatch.setattr(residents, "_PATIENCE_S", 1.0)
    with pytest.raises(AttemptFailed) as caught:
        place.of.foresee(B)
    assert (caught.value.failure.code, caught.value.failure.retry_after_s) == ("memory_full", 2.0)


async def test_who_would_go_and_what_they_weigh() -> None:
    place = Place()
    place.ready(A, B)
    assert place.of.foresee(C) == 0.0
    assert place.of.displaced(C) == ("a",)
    assert place.of.displaced(A) == ()
    assert place.of.weight_bytes() == 2 * facts().weight_bytes
    assert place.host.did == [], "only asked"
