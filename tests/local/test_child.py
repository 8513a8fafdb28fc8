"""The gateway's half of an engine in a process, against small programs that behave well or badly."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time

import msgspec
import pytest

from gateway.failover.outcome import Outcome
from gateway.local import child as child_module
from gateway.local.child import EngineChild
from gateway.local.mailbox import (
    Accepted,
    Cancel,
    Delta,
    Event,
    Finished,
    Load,
    ModelChanged,
    Pulse,
    Refused,
    Stop,
)
from tests.local.workers import (
    MODEL,
    SETTINGS,
    SPEAKER,
    Ears,
    child,
    descriptors,
    ended,
    eventually,
    program,
    submit,
)

QUIET = SPEAKER + "time.sleep(60)"
DEAF = "import time; time.sleep(60)"
BEATING = SPEAKER + "while True: beat(); time.sleep(0.01)"
ECHO = (
    SPEAKER
    + """
beat("step")
for command in commands():
    match command:
        case Stop(): os._exit(0)
        case Cancel(): say(Delta(command.id, "cancelled"))
        case Submit(): say(Accepted(command.id, settings.batch_size), Finished(id=command.id, prompt_tokens=1))
"""
)


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


def test_commands_go_and_events_come_in_their_order(caplog: pytest.LogCaptureFixture) -> None:
    with child(ECHO) as (engine, ears):
        for number in (1, 2):
            engine.post(submit(number))
        engine.post(Cancel(2))
        eventually(lambda: len(ears.events) == 5)
        assert ears.events == [
            Accepted(1, 7),
            Finished(id=1, prompt_tokens=1),
            Accepted(2, 7),
            Finished(id=2, prompt_tokens=1),
            Delta(2, "cancelled"),
        ]
        assert engine.alive
        assert engine.pulse().phase == "step"
        assert engine.counters().steps == 5
        assert engine.counters() is not engine.counters()
        engine.post(Stop())
        assert engine.join(10)
        eventually(lambda: ears.gone == 1)
    assert ears.gone == 1
    assert errors(caplog) == []


def test_a_flood_of_events_arrives_whole() -> None:
    code = SPEAKER + "for n in range(20000): say(Delta(n, 'x' * (n % 300)))"
    with child(code) as (_, ears):
        eventually(lambda: ears.gone)
        assert [event.id for event in ears.of(Delta)] == list(range(20000))
        assert all(len(event.text) == event.id % 300 for event in ears.of(Delta))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "was killed by SIGSEGV"),
        ("os.abort()", "was killed by SIGABRT"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "was killed by SIGKILL"),
        ("os.kill(os.getpid(), 40)", "was killed by signal 40"),
        ("os._exit(3)", "ended with exit code 3"),
        ("os._exit(0)", "ended with exit code 0"),
        ("line.send(b'\\xff' * 8); time.sleep(60)", "sent what is no message"),
        ("line.send(b'\\0\\0\\0\\2\\xc1\\xc1'); time.sleep(60)", "sent what is no message"),
        ("line.send(frame([Stop()])); time.sleep(60)", "sent what is no message"),
        ("line.send(frame([Gone()])[:-1]); os._exit(4)", "ended with exit code 4"),
        ("line.shutdown(socket.SHUT_RDWR); time.sleep(60)", "closed its line, did not end and was killed"),
    ],
)
def test_a_worker_that_is_lost_is_gone_once_and_the_log_says_why(
    how: str, said: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "closed" in said:
        monkeypatch.setattr(child_module, "_LEAVE_S", 0.1)
    with child(f"{SPEAKER}next(heard)\nsay(Delta(1, 'a'))\n{how}") as (engine, ears):
        engine.post(submit(1))
        eventually(lambda: not engine.alive)
        assert engine.join(10)
        assert ears.gone == 1
        assert ears.events[0] == Delta(1, "a")
    assert ears.gone == 1
    (line,) = errors(caplog)
    assert line.startswith(f"the worker of tiny {said}")


def test_a_worker_that_is_killed_from_outside_is_missed_at_once(caplog: pytest.LogCaptureFixture) -> None:
    with child(BEATING) as (engine, ears):
        eventually(lambda: engine.pulse().phase == "idle")
        assert engine.pid
        os.kill(engine.pid, signal.SIGKILL)
        assert eventually(lambda: ears.gone) < 1
        assert not engine.alive
    assert errors(caplog) == ["the worker of no model was killed by SIGKILL"]


def test_a_program_that_is_not_there_is_an_engine_that_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    ears, before = Ears(), descriptors()
    engine = EngineChild(SETTINGS, ears, command=["/nowhere/python"])
    assert engine.join(10)
    assert (engine.pid, engine.alive, ears.gone) == (None, False, 1)
    engine.post(submit())
    engine.abandon()
    assert descriptors() == before
    assert "can't be started" in caplog.text


def test_a_start_is_a_load_until_something_is_heard() -> None:
    with child(QUIET) as (engine, _):
        first = engine.pulse()
        assert (first.phase, first.allowance_s, engine.alive) == ("load", 120.0, True)
        assert time.monotonic() - first.since < 5
        assert engine.counters().steps == 0


def test_a_stopped_worker_is_silent_and_speaks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "_SILENCE_S", 0.3)
    with child(BEATING) as (engine, _):
        eventually(lambda: engine.pulse().phase == "idle")
        assert engine.pid
        os.kill(engine.pid, signal.SIGSTOP)
        eventually(lambda: engine.pulse().phase == "silent")
        silent = engine.pulse()
        assert engine.alive
        assert 0.3 < time.monotonic() - silent.since < 5
        assert silent.allowance_s == 0.0
        os.kill(engine.pid, signal.SIGCONT)
        eventually(lambda: engine.pulse().phase == "idle")


def test_a_silent_load_may_take_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """`import mlx` from a cold disk lets no thread run, which must not count as a hang."""
    monkeypatch.setattr(child_module, "_SILENCE_S", 0.01)
    loading = "line.sendall(frame(Report(Pulse('load', 0.0, 77.0), Counters()))); time.sleep(60)"
    with child(SPEAKER + loading) as (engine, _):
        eventually(lambda: engine.pulse().phase == "silent")
        assert engine.pulse().allowance_s == 77.0


def test_the_gateway_itself_was_stopped_so_the_worker_was_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """After Ctrl-Z and `fg` the watchdog looked before the worker's reports were read, and killed it."""
    monkeypatch.setattr(child_module, "_SILENCE_S", 0.05)
    with child(SPEAKER + "beat(); say(Delta(1, 'a'))\nwhile True: beat(); time.sleep(0.01)") as (
        engine,
        ears,
    ):
        ears.gate.clear()
        eventually(lambda: engine.pulse().phase == "idle")
        since = time.monotonic()
        while time.monotonic() - since < 0.3:
            assert engine.pulse().phase == "idle"
        ears.gate.set()


@pytest.mark.parametrize("how", ["deaf", "stopped"])
def test_posting_never_waits_and_abandoning_neither(how: str) -> None:
    big = submit(1, text="x" * 100_000)
    with child(DEAF) as (engine, ears):
        assert engine.pid
        if how == "stopped":
            os.kill(engine.pid, signal.SIGSTOP)
        began = time.monotonic()
        for _ in range(300):
            engine.post(big)
        assert time.monotonic() - began < 1
        assert engine.alive
        assert not engine.join(0.05)
        began = time.monotonic()
        engine.abandon()
        assert time.monotonic() - began < 0.5
        assert engine.join(5)
        assert ears.events == []


def test_nothing_is_delivered_after_abandon(caplog: pytest.LogCaptureFixture) -> None:
    with child(SPEAKER + "while True: say(Delta(1, 'x'))") as (engine, ears):
        eventually(lambda: ears.calls > 10)
        engine.abandon()
        calls = ears.calls
        assert engine.join(5)
        assert ears.calls <= calls + 1  # the one that had begun
        assert ears.gone == 0
    assert errors(caplog) == []


def test_a_child_that_is_abandoned_before_it_was_born_is_ended_all_the_same() -> None:
    for _ in range(3):
        ears = Ears()
        engine = EngineChild(SETTINGS, ears, command=program(DEAF))
        engine.abandon()
        assert engine.join(5)
        assert engine.pid
        assert ended(engine.pid)
        assert ears.events == []


def test_a_worker_that_does_not_stop_is_reported_and_then_killed() -> None:
    with child(BEATING) as (engine, ears):
        engine.post(Stop())
        assert not engine.join(0.05)
        assert not engine.join(-1)
        engine.abandon()
        assert engine.join(5)
        assert ears.gone == 0


def test_no_descriptor_thread_or_zombie_is_left() -> None:
    before = descriptors()
    for code in (ECHO, QUIET, SPEAKER + "os._exit(3)", SPEAKER + "line.send(b'\\xff' * 9)", DEAF):
        with child(code) as (engine, _):
            engine.post(Stop())
            engine.join(0.2)
        assert engine.pid
        with pytest.raises(ChildProcessError):
            os.waitpid(engine.pid, os.WNOHANG)
    assert descriptors() == before


def test_what_cannot_be_sent_is_refused_and_the_rest_goes_on() -> None:
    deep: dict[str, object] = {}
    for _ in range(5000):
        deep = {"a": deep}
    with child(ECHO) as (engine, ears):
        engine.post(submit(1, seed=2**70))
        engine.post(submit(2, schema=deep))
        engine.post(submit(3, text="\ud800"))
        engine.post(Load(msgspec.structs.replace(MODEL, path="/m/\udcff")))
        engine.post(submit(5))
        eventually(lambda: ears.of(Finished))
        refused = {event.id: event.failure for event in ears.of(Refused)}
        assert list(refused) == [1, 2, 3]
        for failure, what in zip(refused.values(), ("64 bits", "too deeply", "not Unicode"), strict=True):
            assert (failure.outcome, failure.status) == (Outcome.CLIENT_FAULT, 400)
            assert what in failure.message
        (changed,) = ears.of(ModelChanged)
        assert changed.state == "failed"
        assert changed.failure.outcome is Outcome.LOCAL_FAULT
        assert ears.of(Accepted) == [Accepted(5, 7)]


def test_what_is_as_deep_as_can_be_sent_can_be_read() -> None:
    """Both ends count the depth of a message; the worker must never be the first to find it too much."""
    found: list[int] = []
    with child(ECHO) as (engine, ears):
        for depth in range(940, 1000):
            deep: dict[str, object] = {}
            for _ in range(depth):
                deep = {"a": deep}
            engine.post(submit(depth, schema=deep))
        eventually(lambda: len(ears.of(Finished)) + len(ears.of(Refused)) == 60)
        found += [event.id for event in ears.of(Finished)]
        assert engine.alive
    assert found == list(range(940, 940 + len(found)))


def test_a_listener_that_fails_costs_its_message_only(caplog: pytest.LogCaptureFixture) -> None:
    class Touchy(Ears):
        def __call__(self, events: list[Event]) -> None:
            if self.calls == 0:
                self.calls += 1
                raise RuntimeError("not now")
            super().__call__(events)

    ears = Touchy()
    engine = EngineChild(SETTINGS, ears, command=program(ECHO))
    engine.post(submit(1))
    engine.post(submit(2))
    engine.post(Stop())
    assert engine.join(10)
    assert ears.of(Accepted) == [Accepted(2, 7)]
    assert ears.gone == 1
    assert "was lost" in caplog.text


def test_the_lines_of_a_worker_come_out_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    lines = r"<6>all is well\n<3>one\n<3>  two\n\nbare, as MLX writes it\n\xff" + "x" * 10_000
    with child(SPEAKER + f"os.write(1, b'{lines}'); os._exit(0)") as (engine, _):
        assert engine.join(10)
    records = [r for r in caplog.records if hasattr(r, "worker")]
    assert {(r.name, r.worker) for r in records} == {("gateway.local.engine", engine.pid)}
    assert [(r.levelname, r.getMessage()) for r in records][:4] == [
        ("INFO", "all is well"),
        ("ERROR", "one"),
        ("ERROR", "  two"),
        ("WARNING", "bare, as MLX writes it"),
    ]
    assert [len(r.getMessage()) for r in records][4:] == [8192, 10_001 - 8192]


def test_the_pulse_is_the_workers_own() -> None:
    pulse = Pulse("step", 12.5, 3.0)
    code = SPEAKER + f"line.sendall(frame(Report({pulse!r}, Counters())))\ntime.sleep(60)"
    with child(code) as (engine, _):
        eventually(lambda: engine.pulse() == pulse)


def test_importing_it_imports_nothing_of_mlx() -> None:
    code = (
        "import sys, gateway.local.child; print([m for m in sys.modules if m.startswith(('mlx', 'aiohttp'))])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
