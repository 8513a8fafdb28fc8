"""What crosses the border to an engine is plain data, so that the engine may live in another process."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from gateway.failover.outcome import Failure, Outcome
from gateway.local import mailbox
from gateway.local.request import ChatRequest

MODEL = mailbox.ModelFolder(name="m", path="/m", size_bytes=1, fingerprint="f", context=5)
REQUEST = ChatRequest(messages=[{"role": "user", "content": "x"}], tools=[{"type": "function"}])
FAILURE = Failure(outcome=Outcome.LOCAL_FAULT, message="x")
MESSAGES: list[Any] = [
    mailbox.EngineSettings(batch_size=1, prefill_step=1, default_max_tokens=1, cache_bytes=1),
    mailbox.Submit(1, MODEL, REQUEST),
    mailbox.Cancel(1),
    mailbox.Load(MODEL),
    mailbox.Stop(),
    mailbox.Accepted(1, 5),
    mailbox.Began(1),
    mailbox.Delta(1, "x", True),
    mailbox.Called(1, 0, mailbox.ToolCall("c", "f", "{}")),
    mailbox.Finished(1, "stop", 1, 2),
    mailbox.Refused(1, FAILURE),
    mailbox.ModelChanged(MODEL, "failed", FAILURE),
    mailbox.Gone(),
    mailbox.Counters(steps=3),
    mailbox.Pulse("idle", 1.0),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_every_message_survives_a_pipe(message: Any) -> None:
    assert pickle.loads(pickle.dumps(message)) == message


def test_no_message_is_missing_here() -> None:
    union = mailbox.Command | mailbox.Event
    assert set(union.__args__) <= {type(message) for message in MESSAGES}
