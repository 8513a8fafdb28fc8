"""Messages as bytes: whatever the cut, the same messages come out."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.failover.outcome import Failure, Outcome
from gateway.local import frames, mailbox
from gateway.local.frames import Report, Splitter, command_of, frame, said_of, settings_of
from gateway.local.request import Chat, Count, Embed, Format, Generate, Sampling, Text, Tokens, Tooling

MODEL = mailbox.ModelFolder(name="m", path="/m", size_bytes=1, fingerprint="f", kv_bits=4, draft="/d")
FAILURE = Failure(outcome=Outcome.SLOW, message="x", headers=(("a", "b"),), body=b"\xff", retry_after_s=1.5)
FACTS = mailbox.ModelFacts(
    **{
        field.name: {float: 0.5, int: 2**40, str: "KVCache", bool: True}[field.type]
        for field in msgspec.structs.fields(mailbox.ModelFacts)
    }
)
CHAT = Chat(messages=[{"role": "user", "content": "ä", "n": None, "f": 1.5}], template_args={"x": [1, {}]})
GENERATE = Generate(
    prompts=(CHAT, Text("t"), Tokens([1, 2])),
    sampling=Sampling(seed=2**63, logit_bias=((1, -100.0),)),
    tooling=Tooling(tools=[{"type": "function"}], choice="named", name="f"),
    format=Format("json_schema", {"type": "object"}),
    stop=("a",),
)
COMMANDS: list[Any] = [
    mailbox.Submit(1, MODEL, GENERATE),
    mailbox.Submit(2, MODEL, Embed(inputs=(Text("a"), Tokens([1])))),
    mailbox.Submit(3, MODEL, Count(work=Generate(prompts=(CHAT,)))),
    mailbox.Cancel(1),
    mailbox.Load(MODEL),
    mailbox.Unload("/m"),
    mailbox.Shrink(5),
    mailbox.Stop(),
]
LIKELY = mailbox.Likely("a", b"\xe4", -0.5)
EVENTS: list[Any] = [
    mailbox.Accepted(1, 5),
    mailbox.Began(1),
    mailbox.Delta(1, "ä", reasoning=True, choice=2, probs=(mailbox.TokenProb(LIKELY, (LIKELY,)),)),
    mailbox.CallBegan(1, 0, "c", "f"),
    mailbox.CallDelta(1, 0, "{}"),
    mailbox.Ended(1, "stop"),
    mailbox.Vectors(1, (b"\0\0\0\0",)),
    mailbox.Finished(id=1, prompt_tokens=2, decode_s=0.25),
    mailbox.Refused(1, FAILURE),
    mailbox.ModelChanged(MODEL, "ready", facts=FACTS, progress=1.0),
    mailbox.ModelChanged(MODEL, "failed", FAILURE),
    mailbox.Gone(),
]


def only(data: bytes | bytearray) -> bytes:
    (found,) = Splitter().feed(bytes(data))
    return found


def test_every_message_arrives_as_it_was() -> None:
    settings = mailbox.EngineSettings(batch_size=1, prefill_step=2, default_max_tokens=3, cache_bytes=2**40)
    assert settings_of(only(frame(settings))) == settings
    for command in COMMANDS:
        assert command_of(only(frame(command))) == command
    assert said_of(only(frame(EVENTS))) == EVENTS
    report = Report(mailbox.Pulse("step", 1.25, 2.0), mailbox.Counters(steps=3, active_bytes=2**40))
    heard = said_of(only(frame(report)))
    assert heard == report
    assert isinstance(heard, Report)
    assert heard.pulse.phase == "step"


def test_no_message_is_missing_here() -> None:
    assert {type(message) for message in COMMANDS} == set(mailbox.Command.__args__)
    assert {type(message) for message in EVENTS} == set(mailbox.Event.__args__)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 64, 10_000])
def test_the_cut_does_not_matter(size: int) -> None:
    data = b"".join(frame(command) for command in COMMANDS)
    splitter = Splitter()
    found = [
        command_of(payload)
        for at in range(0, len(data), size)
        for payload in splitter.feed(data[at : at + size])
    ]
    assert found == COMMANDS


def test_an_empty_frame_is_a_frame() -> None:
    assert list(Splitter().feed(b"\0\0\0\0\0\0\0\1x\0")) == [b"", b"x"]


def test_a_length_that_cannot_be_is_told_before_the_bytes_are_waited_for() -> None:
    found = Splitter().feed(b"\0\0\0\1x\xff\xff\xff\xff")
    assert next(found) == b"x"  # what was said before is not lost
    with pytest.raises(ValueError, match="claims 4294967295 bytes"):
        next(found)


def test_what_is_larger_than_any_reader_takes_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "LARGEST", 10)
    with pytest.raises(ValueError, match="more than 10"):
        frame(mailbox.Unload("/a/long/path"))


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x80", b"\x81\xa4type\xa4Nope"])
def test_what_is_no_message_is_a_value_error(data: bytes) -> None:
    for read in (settings_of, command_of, said_of):
        with pytest.raises(ValueError) as raised:
            read(data)
        assert isinstance(raised.value, msgspec.DecodeError)
