"""Tickets and workers with engines that do as they are told: who hears what, who is replaced, who leaves."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from gateway.backend import AttemptFailed
from gateway.failover.outcome import Failure, Outcome
from gateway.local.host import Host
from gateway.local.mailbox import (
    Accepted,
    Began,
    Cancel,
    Counters,
    Delta,
    Finished,
    Gone,
    Load,
    ModelChanged,
    Pulse,
    Refused,
    Shrink,
    Stop,
    Submit,
    Unload,
)
from gateway.local.request import Count, Generate, Text
from gateway.local.worker import Ticket
from tests.local.asking import soon, until
from tests.local.fakes import Engines, Heard, folder

WORK = Generate(prompts=(Text("x"),))
COUNT = Count(work=WORK)
FAILURE = Failure(outcome=Outcome.LOCAL_FAULT, message="broken")
A, B = folder("a"), folder("b")


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="gateway.local")


def hosting(*, one_each: bool = False, step_limit_s: float = 60.0) -> tuple[Host, Engines, Heard]:
    engines, heard = Engines(pids=one_each), Heard()
    return Host(engines, heard, step_limit_s=step_limit_s, one_each=one_each), engines, heard


async def turn() -> None:
    """What an engine has said is routed in the next turn of the loop."""
    await asyncio.sleep(0)


# --- tickets --------------------------------------------------------------------------------------


async def test_deltas_of_one_kind_are_taken_together() -> None:
    ticket = Ticket(1, A, 1)
    for event in (Delta(1, "a"), Delta(1, "b"), Delta(1, "c", reasoning=True), Delta(1, "d", choice=1)):
        ticket.put(event)
    taken = []
    for _ in range(3):
        first = await ticket.take()
        assert isinstance(first, Delta)
        taken.append(ticket.more(first))
    assert taken == [Delta(1, "ab"), Delta(1, "c", reasoning=True), Delta(1, "d", choice=1)]


async def test_one_waits_for_an_event_of_a_kind_or_for_the_refusal() -> None:
    ticket = Ticket(1, A, 1)
    waiting = asyncio.create_task(ticket.until(Accepted))
    ticket.put(Began(1))
    await turn()
    assert not waiting.done()
    ticket.put(Accepted(1, 5))
    assert (await waiting).prompt_tokens == 5
    ticket.put(Refused(1, FAILURE))
    with pytest.raises(AttemptFailed):
        await ticket.until(Finished)


# --- one engine for all ---------------------------------------------------------------------------


async def test_an_engine_is_made_when_it_is_needed_and_tells_each_its_own() -> None:
    host, engines, heard = hosting()
    assert (engines.made, host.phase(), host.counters()) == ([], "off", Counters())
    host.shrink(5)
    assert engines.made == [], "nobody has a prompt to let go of"
    one, other = host.ticket(A, 1), host.ticket(B, 1)
    host.submit(one, WORK)
    host.submit(other, WORK)
    assert engines.last.posted == [Submit(one.id, A, WORK), Submit(other.id, B, WORK)]
    assert len(engines.made) == 1
    engines.last.say([Began(other.id), Delta(other.id, "x"), Finished(id=other.id, prompt_tokens=1)])
    engines.last.say([Refused(one.id, FAILURE), Delta(99, "of one that left")])
    await turn()
    assert heard.told == [("began", 2), ("finished", 2), ("ended", 2), ("ended", 1)]
    assert [type(await other.take()) for _ in range(3)] == [Began, Delta, Finished]
    assert one.over
    assert other.over
    assert host.tired(A.path) == 0.0
    assert await host.close(soon(1))


async def test_commands_go_where_the_model_is() -> None:
    host, engines, _ = hosting()
    host.load(A)
    host.unload(A)
    host.shrink(7)
    assert engines.last.posted == [Load(A), Unload("/a"), Shrink(7)]
    assert host.pids() == []
    assert await host.close(soon(1))
    assert engines.last.posted[-1] == Stop()


async def test_who_leaves_hears_nothing_more_and_is_counted_once() -> None:
    host, engines, heard = hosting()
    ticket = host.ticket(A, 1)
    host.submit(ticket, WORK)
    host.cancel(ticket)
    host.cancel(ticket)
    engines.last.say([Delta(ticket.id, "late")])
    await turn()
    assert engines.last.posted[1:] == [Cancel(ticket.id)]
    assert heard.told == [("ended", ticket.id)]
    assert await host.close(soon(1))


async def test_an_engine_that_has_ended_is_replaced_and_what_it_did_still_counts() -> None:
    host, engines, heard = hosting()
    ticket = host.ticket(A, 1)
    host.submit(ticket, WORK)
    first = engines.last
    first.counted = Counters(steps=5, active_bytes=9, base_bytes=3)
    first.say([Began(ticket.id), Gone(), Delta(ticket.id, "never heard")])
    await turn()
    with pytest.raises(AttemptFailed) as caught:
        await ticket.until(Finished)
    assert caught.value.failure.code == "engine_failed"
    assert heard.told == [("began", 1), ("ended", 1), ("lost", None)]
    assert (host.replaced, host.phase(), first.abandoned) == (1, "off", True)
    host.load(A)
    engines.last.counted = Counters(steps=2, active_bytes=1)
    assert host.counters() == Counters(steps=7, active_bytes=1)
    first.say([ModelChanged(A, "ready")])
    await turn()
    assert heard.told[-1] == ("lost", None), "the one that was given up is not listened to"
    first.alive = False
    assert await host.close(soon(1))


@pytest.mark.parametrize("how", ["dead", "hangs", "silent"])
async def test_the_watchdog_gives_up_what_stands_still(how: str) -> None:
    host, engines, heard = hosting(step_limit_s=0.04)
    ticket = host.ticket(A, 1)
    host.submit(ticket, WORK)
    engine = engines.last
    if how == "dead":
        engine.alive = False
    else:
        engine.state = Pulse("step" if how == "hangs" else "silent", time.monotonic() - 1.0)
    await until(lambda: host.replaced == 1)
    assert heard.told == [("ended", 1), ("lost", None)]
    engine.alive = False
    assert await host.close(soon(1))


async def test_a_pulse_that_may_take_longer_is_waited_for() -> None:
    host, engines, _ = hosting(step_limit_s=0.04)
    host.load(A)
    engines.last.state = Pulse("load", time.monotonic() - 1.0, 60.0)
    looks = iter(range(5))

    def pulse() -> Pulse:
        next(looks, None)
        return engines.last.state

    engines.last.pulse = pulse  # type: ignore[method-assign]
    await until(lambda: next(looks, None) is None)
    assert host.replaced == 0
    assert host.phase() == "load"
    assert await host.close(soon(1))


async def test_after_three_losses_it_rests() -> None:
    host, engines, _ = hosting()
    for _ in range(3):
        assert host.tired(A.path) == 0.0
        host.load(A)
        engines.last.alive = False
        engines.last.say([Gone()])
        await turn()
    assert 59 < host.tired(A.path) <= 60
    assert await host.close(soon(1))


async def test_what_runs_at_the_end_is_told_and_what_does_not_end_is_said() -> None:
    host, engines, _ = hosting()
    ticket = host.ticket(A, 1)
    host.submit(ticket, WORK)
    engines.last.stubborn = True
    assert await host.close(soon(0.05)) is False
    assert engines.last.abandoned
    with pytest.raises(AttemptFailed) as caught:
        await ticket.until(Finished)
    assert caught.value.failure.outcome is Outcome.OVERLOADED


async def test_an_engine_that_speaks_after_the_loop_has_closed_disturbs_nobody() -> None:
    engines = Engines()

    async def short() -> None:
        host = Host(engines, Heard(), step_limit_s=60.0, one_each=False)
        host.load(A)
        await host.close(soon(1))

    await asyncio.to_thread(lambda: asyncio.run(short()))
    engines.last.say([Gone()])


# --- an engine for each ---------------------------------------------------------------------------


async def test_each_model_has_an_engine_whose_loss_is_its_own() -> None:
    host, engines, heard = hosting(one_each=True)
    for model in (A, B):
        host.load(model)
    a, b = engines.made
    assert (a.posted, b.posted, host.pids()) == ([Load(A)], [Load(B)], [100, 101])
    a.counted, b.counted = Counters(steps=1, base_bytes=10), Counters(steps=2, base_bytes=10)
    assert host.counters().steps == 3
    assert host.grown(lambda pid: {100: 15, 101: 5}[pid or 0]) == 5, "by less than nothing none can grow"
    b.state = Pulse("step", time.monotonic())
    assert host.phase() == "step"
    host.shrink(3)
    assert a.posted[-1] == b.posted[-1] == Shrink(3)
    b.say([Gone()])
    await turn()
    assert heard.told == [("lost", "/b")]
    assert host.pids() == [100]
    b.alive = False
    assert await host.close(soon(1))


async def test_a_model_that_is_let_go_takes_its_engine_with_it() -> None:
    host, engines, heard = hosting(one_each=True)
    host.load(A)
    engines.last.counted = Counters(loads=1, steps=4, active_bytes=9, base_bytes=1)
    host.unload(A)
    assert engines.last.posted == [Load(A), Stop()]
    await until(lambda: heard.told == [("cold", "a")])
    assert host.counters() == Counters(loads=1, unloads=1, steps=4)
    assert host.replaced == 0
    host.unload(A)
    assert heard.told == [("cold", "a")] * 2, "there is none any more"
    assert await host.close(soon(1))


async def test_an_engine_that_does_not_go_when_it_is_sent_away_is_killed() -> None:
    host, engines, heard = hosting(one_each=True)
    host.load(A)
    engines.last.stubborn = True
    host.unload(A)
    await until(lambda: heard.told == [("cold", "a")])
    assert engines.last.abandoned
    assert await host.close(soon(1))


async def test_an_engine_whose_only_model_can_not_be_loaded_is_let_go() -> None:
    """It stayed for ever, with nothing to do: a process for each broken folder that was ever asked for."""
    host, engines, heard = hosting(one_each=True)
    one, late = host.ticket(A, 1), host.ticket(A, 1)
    host.submit(one, WORK)
    engine = engines.last
    engine.say([ModelChanged(A, "failed", FAILURE), Refused(one.id, FAILURE)])
    host.submit(late, WORK)  # before that is heard
    await turn()
    assert engine.alive, "it still owes an answer"
    engine.say([ModelChanged(A, "failed", FAILURE), Refused(late.id, FAILURE)])
    await turn()
    assert engine.posted[-1] == Stop()
    assert host.pids() == []
    assert heard.told == [("failed", "a"), ("ended", 1), ("failed", "a"), ("ended", 2)]
    assert await host.close(soon(1))


async def test_a_shared_engine_goes_on_when_a_model_can_not_be_loaded() -> None:
    host, engines, _ = hosting()
    host.load(A)
    engines.last.say([ModelChanged(A, "failed", FAILURE)])
    await turn()
    assert engines.last.posted == [Load(A)]
    assert await host.close(soon(1))


async def test_one_that_leaves_while_its_successor_is_lost_is_still_seen_off() -> None:
    """The list of those that leave was cleared of the dead in between: nobody was told of the end."""
    host, engines, heard = hosting(one_each=True)
    host.load(A)
    released: asyncio.Event = asyncio.Event()
    loop = asyncio.get_running_loop()

    def join(timeout_s: float) -> bool:
        asyncio.run_coroutine_threadsafe(released.wait(), loop).result(timeout_s)
        return True

    engines.last.join = join  # type: ignore[method-assign]
    host.unload(A)
    host.load(A)
    engines.last.alive = False
    engines.last.say([Gone()])
    await turn()
    released.set()
    await until(lambda: ("cold", "a") in heard.told)
    assert await host.close(soon(1))


# --- counting -------------------------------------------------------------------------------------


async def test_tokens_are_counted_by_an_engine_that_runs_already() -> None:
    host, engines, _ = hosting(one_each=True)
    assert not host.running(A.path)
    host.load(A)
    assert host.running(A.path)
    ticket = host.ticket(B, 0)
    cancel = host.count(ticket, COUNT)
    assert engines.last.posted == [Load(A), Submit(ticket.id, B, COUNT)]
    cancel()
    cancel()
    assert engines.last.posted[2:] == [Cancel(ticket.id)]
    assert not host.running(B.path)


async def test_an_engine_that_was_started_to_count_ends_if_it_gets_no_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host, engines, _ = hosting(one_each=True)
    cancel = host.count(host.ticket(A, 0), COUNT)
    host.count(host.ticket(A, 0), COUNT)()
    assert len(engines.made) == 1
    host.tidy(lambda path: False)
    assert host.running(A.path), "its model may be wanted in a moment"
    monkeypatch.setattr("gateway.local.host._SPARE_S", 0.0)
    host.tidy(lambda path: False)
    assert host.running(A.path), "it still counts"
    cancel()
    host.tidy(lambda path: True)
    assert host.running(A.path), "its model is on its way"
    host.tidy(lambda path: False)
    assert not host.running(A.path)
    assert engines.last.posted[-1] == Stop()
    host.tidy(lambda path: False)
    host.load(A)
    host.tidy(lambda path: False)
    assert host.running(A.path), "this one was not started to count"
    assert await host.close(soon(5))
