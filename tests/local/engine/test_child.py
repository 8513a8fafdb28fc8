"""The worker's half, with a loop that does what it is told in place of MLX's."""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.failover.outcome import Outcome
from gateway.local.child import EngineChild
from gateway.local.frames import Splitter, frame, said_of
from gateway.local.mailbox import (
    Accepted,
    Began,
    Cancel,
    Delta,
    Ended,
    Event,
    Finished,
    Load,
    ModelChanged,
    ModelFolder,
    Refused,
    Stop,
    Submit,
)
from gateway.local.request import Chat, Generate, Sampling
from tests.local.models import make_model
from tests.local.workers import PUPPET, SETTINGS, Ears, child, eventually, program, submit


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    return [(r.levelno, r.getMessage()) for r in caplog.records if hasattr(r, "worker")]


def test_a_request_is_answered_and_the_end_is_clean(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with child(PUPPET) as (engine, ears):
        engine.post(submit(1, "tell('a'); tell('b')"))
        eventually(lambda: ears.of(Finished))
        assert engine.counters().completion_tokens == 1  # counted before the end was told
        assert ears.text == "ab"
        engine.post(Stop())
        assert engine.join(10)
        assert ears.gone == 1
    assert lines(caplog) == [(logging.INFO, "closed"), (logging.INFO, "streams cleared")]
    assert not [r for r in caplog.records if r.levelno > logging.INFO]  # so the exit code was 0


def test_what_is_still_to_be_said_at_the_end_is_said() -> None:
    with child(PUPPET) as (engine, ears):
        ears.gate.clear()
        engine.post(submit(1, "[tell('x' * 1000) for _ in range(2000)]"))
        engine.post(Stop())
        assert not engine.join(0.3)
        ears.gate.set()
        assert engine.join(10)
        assert len(ears.text) == 2_000_000
        assert len(ears.of(Finished)) == 1


def test_an_exception_out_of_the_loop_ends_it_with_its_traceback_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with child(PUPPET) as (engine, ears):
        engine.post(submit(1, "1 / 0"))
        eventually(lambda: ears.gone)
        assert engine.join(10)
    told = lines(caplog)
    assert (logging.ERROR, "the worker's loop has failed") in told
    assert (logging.ERROR, "ZeroDivisionError: division by zero") in told
    assert "the worker of tiny ended with exit code 1" in caplog.messages


def test_a_crash_leaves_its_last_words(caplog: pytest.LogCaptureFixture) -> None:
    with child(PUPPET) as (engine, ears):
        engine.post(submit(1, "import ctypes; ctypes.string_at(0)"))
        eventually(lambda: ears.gone)
        assert engine.join(10)
    assert (logging.WARNING, "Fatal Python error: Segmentation fault") in lines(caplog)
    assert "the worker of tiny was killed by SIGSEGV" in caplog.messages


def test_it_reports_while_the_loop_is_in_a_long_call() -> None:
    with child(PUPPET) as (engine, ears):
        engine.post(submit(1, "tell('here'); time.sleep(60)"))
        eventually(lambda: ears.events)
        eventually(lambda: engine.pulse().phase == "step")
        since = engine.pulse().since
        assert 0 <= time.monotonic() - since < 10  # one clock for both
        heard = engine._heard
        eventually(lambda: engine._heard != heard)
        eventually(lambda: engine.pulse() == ("step", since, 0.0))


def test_a_loop_that_lets_no_other_thread_run_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    from gateway.local import child as module

    monkeypatch.setattr(module, "_SILENCE_S", 1.0)
    with child(PUPPET) as (engine, ears):
        engine.post(submit(1, "tell('here'); sys.setswitchinterval(1e6)\nwhile True: pass"))
        eventually(lambda: ears.events)
        eventually(lambda: engine.pulse().phase == "silent")


def test_it_is_a_private_process_that_the_gateway_alone_ends() -> None:
    look = """
import json, signal
state = open('/proc/self/status').read() if sys.platform == 'linux' else ''
old = os.umask(0)
tell(json.dumps({
  'umask': old, 'int': signal.getsignal(2) == signal.SIG_IGN, 'term': signal.getsignal(15) == signal.SIG_DFL,
  'blocked': sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())), 'offline': os.environ['HF_HUB_OFFLINE'],
  'core': __import__('resource').getrlimit(4), 'fds': sorted(map(int, os.listdir('/dev/fd')))[:-1],
  'stdin': os.readlink('/proc/self/fd/0') if state else '/dev/null',
  'oom': int(open('/proc/self/oom_score_adj').read()) if state else 500}))
"""
    with child(PUPPET) as (engine, ears):
        assert engine.pid
        engine.post(submit(1, look))
        eventually(lambda: ears.of(Finished))
        found = json.loads(ears.text)
        assert found.pop("oom") >= 500
        fds = found.pop("fds")
        assert fds[:3] == [0, 1, 2]
        assert len(fds) == 4  # and its line
        assert found == {
            "umask": 0o077,
            "int": True,
            "term": True,
            "blocked": [],
            "offline": "1",
            "core": [0, 0],
            "stdin": "/dev/null",
        }
        os.kill(engine.pid, signal.SIGINT)
        engine.post(submit(2))
        eventually(lambda: len(ears.of(Finished)) == 2)


def test_text_that_cannot_be_sent_ends_its_request_only(caplog: pytest.LogCaptureFixture) -> None:
    with child(PUPPET) as (engine, ears):
        engine.post(submit(1, "border.deliver([Delta(1, 'a'), Delta(1, chr(0xd800)), Delta(9, 'b')])"))
        eventually(lambda: "cancelled 1" in ears.text)
        assert ears.text == "abcancelled 1"
        (refused,) = ears.of(Refused)
        assert (refused.id, refused.failure.outcome) == (1, Outcome.LOCAL_FAULT)
        assert engine.alive
    assert "an answer of the model can't be sent" in caplog.text


def test_its_log_keeps_levels_and_takes_prints_and_warnings(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    do = """
logging.getLogger('gateway.x').info('one\\nmore')
logging.getLogger('mlx_lm').warning('two')
logging.getLogger('gateway.x').debug('not this')
print('three'); sys.stderr.write('four\\n'); os.write(1, b'five\\n')
"""
    with child(PUPPET) as (engine, ears):
        engine.post(submit(1, do))
        eventually(lambda: ears.of(Finished))
        eventually(lambda: len(lines(caplog)) == 6)
    assert lines(caplog) == [
        (logging.INFO, "one"),
        (logging.INFO, "more"),
        (logging.WARNING, "mlx_lm: two"),
        (logging.WARNING, "three"),
        (logging.WARNING, "four"),
        (logging.WARNING, "five"),
    ]


@pytest.fixture
def unread() -> Iterator[tuple[socket.socket, subprocess.Popen[bytes]]]:
    """A worker whose log nobody reads."""
    ours, theirs = socket.socketpair()
    with (
        ours,
        theirs,
        subprocess.Popen(
            [*program(PUPPET), str(theirs.fileno())],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[theirs.fileno()],
        ) as process,
    ):
        theirs.close()
        ours.settimeout(10)
        yield ours, process
        process.kill()


def hear(line: socket.socket) -> Iterator[Event]:
    splitter = Splitter()
    while data := line.recv(65536):
        for payload in splitter.feed(data):
            said = said_of(payload)
            yield from said if isinstance(said, list) else ()


def test_a_log_that_nobody_reads_stops_nothing(
    unread: tuple[socket.socket, subprocess.Popen[bytes]],
) -> None:
    line, process = unread
    do = "[(logging.error('x' * 100), print('y' * 100)) for _ in range(5000)]"
    for message in (SETTINGS, submit(1, do), Stop()):
        line.sendall(frame(message))
    assert [type(event) for event in hear(line)] == [Finished]
    assert process.wait(10) == 0


@pytest.mark.parametrize("garbage", [b"\xff" * 8, b"\0\0\0\1\xc1"])
def test_a_command_that_cannot_be_read_ends_it(
    garbage: bytes, unread: tuple[socket.socket, subprocess.Popen[bytes]]
) -> None:
    line, process = unread
    line.sendall(frame(SETTINGS) + frame(submit(1, "tell('here'); time.sleep(60)")))
    assert next(hear(line)) == Delta(1, "here")
    line.sendall(garbage)
    assert process.wait(10) == 1


def test_a_gateway_that_never_says_anything_and_leaves(
    unread: tuple[socket.socket, subprocess.Popen[bytes]],
) -> None:
    line, process = unread
    assert select.select([line], [], [], 10)[0]  # it reports before it is told its settings
    line.close()
    assert process.wait(10) in (0, 1)


# --- with the real loop and MLX ---------------------------------------------------------------------

_LOOP = Path(__file__).parents[3] / "gateway" / "local" / "engine" / "loop.py"
real = pytest.mark.skipif(
    "ChatRequest" in _LOOP.read_text(), reason="the loop does not take these commands yet"
)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[tuple[EngineChild, Ears, ModelFolder]]:
    path = make_model(tmp_path / "tiny", context=4096)
    ears = Ears()
    found = EngineChild(SETTINGS, ears)
    yield found, ears, ModelFolder(name="tiny", path=str(path), size_bytes=1, fingerprint="f", context=4096)
    found.abandon()
    assert found.join(10)


def ask(number: int, model: ModelFolder, *, max_tokens: int) -> Submit:
    chat = Chat(messages=[{"role": "user", "content": "hi"}])
    endless = Sampling(temperature=0.0, logit_bias=((256, -100.0),))
    return Submit(number, model, Generate(prompts=(chat,), sampling=endless, max_tokens=max_tokens))


@real
def test_the_real_engine_answers_cancels_and_stops(
    engine: tuple[EngineChild, Ears, ModelFolder], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    child, ears, model = engine
    child.post(Load(model))
    child.post(ask(1, model, max_tokens=20))
    eventually(lambda: ears.of(Finished), 60)
    kinds = [type(event) for event in ears.events if not isinstance(event, ModelChanged)]
    assert [kind for n, kind in enumerate(kinds) if kind not in kinds[:n]] == [
        Accepted,
        Began,
        Delta,
        Ended,
        Finished,
    ]
    assert ears.of(Finished)[0].completion_tokens == 20
    assert child.counters().loads == 1
    child.post(ask(2, model, max_tokens=3000))
    eventually(lambda: [event for event in ears.of(Delta) if event.id == 2])
    child.post(Cancel(2))
    eventually(lambda: child.counters().cancelled == 1)
    eventually(lambda: child.pulse().phase == "idle")
    assert len(ears.of(Finished)) == 1
    child.post(Stop())
    assert child.join(10)
    assert ears.gone == 1
    assert "exit code" not in caplog.text
    assert "killed" not in caplog.text


@real
def test_the_real_engine_is_killed_in_the_middle(engine: tuple[EngineChild, Ears, ModelFolder]) -> None:
    child, ears, model = engine
    child.post(ask(1, model, max_tokens=3000))
    eventually(lambda: ears.of(Delta), 60)
    assert child.pid
    os.kill(child.pid, signal.SIGKILL)
    assert eventually(lambda: ears.gone) < 1
    assert not ears.of(Finished)
