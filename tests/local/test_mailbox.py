"""What crosses the border to an engine is plain data, so that the engine may live in another process."""

from __future__ import annotations

import pickle
from typing import Any

import msgspec
import pytest

from gateway.failover.outcome import Failure, Outcome
from gateway.local import mailbox
from gateway.local.request import Chat, Count, Embed, Format, Generate, Sampling, Text, Tokens, Tooling

MODEL = mailbox.ModelFolder(name="m", path="/m", size_bytes=1, fingerprint="f", context=5, kv_bits=4)
CHAT = Chat(messages=[{"role": "user", "content": "x"}], reasoning_effort="low", template_args={"a": [1]})
GENERATE = Generate(
    prompts=(CHAT, Text("x"), Tokens([1, 2])),
    sampling=Sampling(temperature=0.5, logit_bias=((1, 2.0),), min_tokens=3),
    tooling=Tooling(tools=[{"type": "function"}], choice="named", name="f", parallel=False),
    format=Format("json_schema", {"type": "object"}, strict=True),
    stop=("a",),
    n=2,
    top_logprobs=3,
    trail=True,
    resume=(5, 6),
)
FAILURE = Failure(outcome=Outcome.LOCAL_FAULT, message="x")
FACTS = mailbox.ModelFacts(
    load_s=1.0,
    parameters=5,
    weight_bytes=20,
    vocabulary=300,
    cache="KVCache",
    kv_token_bytes=8,
    batched=True,
    chat=True,
    tools="json_tools",
    thinking=False,
    embeddings=False,
)
LIKELY = mailbox.Likely("é", "é".encode()[:1], -0.5)
COMMANDS: list[Any] = [
    mailbox.Submit(1, MODEL, GENERATE),
    mailbox.Submit(2, MODEL, Embed(inputs=(Text("x"), Tokens([3])), dimensions=5)),
    mailbox.Submit(3, MODEL, Count(work=Generate(prompts=(CHAT,)))),
    mailbox.Cancel(1),
    mailbox.Load(MODEL),
    mailbox.Unload("/m"),
    mailbox.Shrink(5),
    mailbox.Stop(),
]
EVENTS: list[Any] = [
    mailbox.Accepted(1, 5),
    mailbox.Began(1),
    mailbox.Delta(1, "x", True, 2, (mailbox.TokenProb(LIKELY, (LIKELY,)),), (7, 8)),
    mailbox.CallBegan(1, 0, "c", "f", 1),
    mailbox.CallDelta(1, 0, "{}", 1),
    mailbox.Ended(1, "tool_calls", 1),
    mailbox.Vectors(1, (b"\0\0\0\0", b"")),
    mailbox.Finished(id=1, prompt_tokens=1, completion_tokens=2, cached_tokens=1),
    mailbox.Refused(1, FAILURE),
    mailbox.ModelChanged(MODEL, "failed", FAILURE),
    mailbox.ModelChanged(MODEL, "ready", progress=1.0, facts=FACTS),
    mailbox.Gone(),
]


@pytest.mark.parametrize("message", [*COMMANDS, *EVENTS], ids=lambda m: type(m).__name__)
def test_every_message_survives_a_pipe(message: Any) -> None:
    kind = mailbox.Command if message in COMMANDS else mailbox.Event
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=kind) == message
    assert pickle.loads(pickle.dumps(message)) == message


@pytest.mark.parametrize(
    "message",
    [
        mailbox.EngineSettings(batch_size=1, prefill_step=1, default_max_tokens=1, cache_bytes=1),
        mailbox.Counters(steps=3),
        mailbox.Pulse("idle", 1.0),
    ],
    ids=lambda m: type(m).__name__,
)
def test_so_do_settings_and_signs_of_life(message: Any) -> None:
    data = msgspec.msgpack.encode(message)
    assert msgspec.msgpack.decode(data, type=type(message)) == message


def test_no_message_is_missing_here() -> None:
    union = mailbox.Command | mailbox.Event
    assert set(union.__args__) == {type(message) for message in [*COMMANDS, *EVENTS]}


def test_messages_cannot_be_changed_on_their_way() -> None:
    with pytest.raises(AttributeError):
        mailbox.Cancel(1).id = 2  # type: ignore[misc]
