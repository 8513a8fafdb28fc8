"""One try of one target: what is held until there is content, and how it may fail."""

from __future__ import annotations

import asyncio
import logging

import aiohttp
import pytest
from aiohttp import web

from gateway.backend import AttemptFailed, Call, Framing
from gateway.errors import RequestError
from gateway.failover.command import Content, Failed
from gateway.failover.outcome import Outcome
from gateway.failover.plan import Candidate
from gateway.relay.attempt import Attempt, Opening
from gateway.wire.api import Api
from gateway.wire.dialect import Dialect
from gateway.wire.translate.responses_to_chat import ResponsesToChat
from tests import canned
from tests.canned import dump
from tests.relay.puppet import CHAT, STREAM, Answer, Puppet, events, failure, json, local_stream, whole


def attempt(puppet: Puppet, *, limit: int = 1 << 20, stream: bool = True) -> Attempt:
    call = Call(
        request_id="r",
        method="POST",
        path="/v1/chat/completions",
        query="",
        dialect=Dialect.OPENAI,
        headers=(),
        body=None,
        model="m",
        stream=stream,
    )
    return Attempt(1, Candidate(0, "lab", "m"), Opening(puppet, call), reply_limit=limit)


async def until_content(tried: Attempt, api: Api = Api.CHAT) -> Content | Failed:
    event = await tried.until_content(api, deadline=asyncio.get_running_loop().time() + 5)
    assert isinstance(event, (Content, Failed))
    return event


async def failed(answer: Answer, api: Api = Api.CHAT, *, limit: int = 1 << 20) -> Failed:
    event = await until_content(attempt(Puppet(answer), limit=limit), api)
    assert isinstance(event, Failed), event
    return event


async def rest(tried: Attempt) -> bytes:
    return b"".join([part async for part in tried.rest()])


@pytest.mark.parametrize("answer", [Answer(), Answer([b"".join(CHAT)]), local_stream()])
async def test_what_came_before_the_content_is_held_and_nothing_is_lost(answer: Answer) -> None:
    tried = attempt(Puppet(answer))
    assert isinstance(await until_content(tried), Content)
    held = b"".join(tried.held)
    assert b'"assistant"' in held
    assert b"Hello" in held
    told = b"".join(events()) if answer.framing is Framing.EVENTS else b"".join(CHAT)  # type: ignore[arg-type]
    assert held + await rest(tried) == told


async def test_role_alone_is_no_content() -> None:
    gate = asyncio.Event()
    tried = attempt(Puppet(Answer([CHAT[0], gate, *CHAT[1:]])))
    waiting = asyncio.create_task(until_content(tried))
    await asyncio.wait([waiting], timeout=0.02)
    assert not waiting.done()
    assert tried.held == [CHAT[0]]
    gate.set()
    assert isinstance(await waiting, Content)


async def test_an_empty_answer_that_ends_properly_is_an_answer() -> None:
    wire = [CHAT[0], canned.chat_chunk({}, finish="stop"), canned.DONE]
    tried = attempt(Puppet(Answer(wire)))
    assert isinstance(await until_content(tried), Content)
    assert tried.ended
    assert b"".join(tried.held) == b"".join(wire)
    assert await rest(tried) == b""


async def test_an_error_behind_the_first_content_breaks_the_rest() -> None:
    """Both in one chunk: the content goes out, and the break is told after it."""
    wire = CHAT[0] + CHAT[1] + b'data: {"error": {"message": "boom"}}\n\n'
    tried = attempt(Puppet(Answer([wire])))
    assert isinstance(await until_content(tried), Content)
    assert b"".join(tried.held) == CHAT[0] + CHAT[1]
    with pytest.raises(AttemptFailed, match="boom"):
        await rest(tried)


@pytest.mark.parametrize(
    ("pieces", "outcome"),
    [
        ([b'data: {"error": {"message": "boom", "type": "server_error"}}\n\n'], Outcome.SERVER_FAULT),
        ([CHAT[0], b'data: {"error": {"code": "rate_limit_exceeded"}}\n\n'], Outcome.RATE_LIMITED),
        ([CHAT[0], b"data: {nonsense}\n\n"], Outcome.SERVER_FAULT),
        ([CHAT[0]], Outcome.SERVER_FAULT),  # no terminal event
        ([], Outcome.SERVER_FAULT),
        ([CHAT[0], failure(Outcome.SLOW)], Outcome.SLOW),
        ([b": nothing but comments\n\n" * 60_000], Outcome.SERVER_FAULT),
    ],
    ids=["error", "limit", "malformed", "cut", "empty", "broken", "endless comments"],
)
async def test_a_stream_that_fails_before_its_content(pieces: list[bytes], outcome: Outcome) -> None:
    assert (await failed(Answer(pieces))).failure.outcome is outcome


async def test_the_targets_own_words_are_kept() -> None:
    event = await failed(Answer([b'data: {"error": {"message": "boom", "type": "server_error"}}\n\n']))
    assert "boom" in event.failure.message


@pytest.mark.parametrize("framing", [Framing.RAW, Framing.WHOLE])
async def test_a_whole_reply_is_content_when_it_is_complete(framing: Framing) -> None:
    body = whole()
    pieces = [body] if framing is Framing.WHOLE else [body[:7], body[7:9], body[9:]]
    answer = Answer(pieces, kind="application/json; charset=utf-8", framing=framing)
    tried = attempt(Puppet(answer), stream=False)
    assert isinstance(await until_content(tried), Content)
    assert tried.body == body
    assert tried.usage is not None
    assert tried.usage.output_tokens == 4
    assert await rest(tried) == b""


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        ([whole()[:-5]], "not valid JSON"),
        ([b'{"error": {"message": "boom"}}'], "boom"),
        ([b"[]"], "not an object"),
        ([b"x" * 600, b"x" * 600], "larger than"),
        ([b'{"a":', failure()], "puppet says no"),
    ],
)
async def test_a_whole_reply_that_is_none(pieces: list[bytes], words: str) -> None:
    event = await failed(json(*pieces), limit=1000)
    assert words in event.failure.message
    assert event.failure.outcome is Outcome.SERVER_FAULT


@pytest.mark.parametrize("kind", ["text/html", "text/plain", None])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_page_is_no_answer_to_a_prompt(kind: str | None, stream: bool) -> None:
    """A captive portal's 200 was passed on as the model's answer, and booked as a success."""
    tried = attempt(Puppet(Answer([b"<html>please log in</html>"], kind=kind)), stream=stream)
    event = await until_content(tried)
    assert isinstance(event, Failed)
    assert event.failure.outcome is Outcome.SERVER_FAULT


@pytest.mark.parametrize("kind", ["text/plain", "application/x-ndjson", None])
async def test_a_stream_under_a_wrong_name_is_watched(kind: str | None) -> None:
    """Its type was not that of events, so its sudden end looked like a clean one."""
    tried = attempt(Puppet(Answer(CHAT[:3], kind=kind)))
    assert isinstance(await until_content(tried), Content)
    with pytest.raises(AttemptFailed):
        await rest(tried)


async def test_a_whole_reply_to_a_stream_request_is_a_failure_in_time() -> None:
    event = await failed(json(whole()))
    assert "whole reply" in event.failure.message


@pytest.mark.parametrize("reply", [b"{}", b'{"type":"message","content":[]}', b'{"choices":null}'])
async def test_json_without_an_answer_is_none(reply: bytes) -> None:
    tried = attempt(Puppet(json(reply)), stream=False)
    assert isinstance(await until_content(tried), Failed)


async def test_of_anything_else_the_first_byte_is_content() -> None:
    gate = asyncio.Event()
    tried = attempt(Puppet(Answer([b"", b"ID3", gate, b"more"], kind="audio/mpeg")))
    assert isinstance(await until_content(tried, Api.OTHER), Content)
    assert tried.held == [b"ID3"]
    gate.set()
    assert await rest(tried) == b"more"


@pytest.mark.parametrize("kind", [None, "audio/mpeg"])
async def test_nothing_at_all_is_an_empty_answer(kind: str | None) -> None:
    tried = attempt(Puppet(Answer([], kind=kind, status=204)))
    assert isinstance(await until_content(tried, Api.OTHER), Content)
    assert tried.ended
    assert await rest(tried) == b""


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RequestError("the upload stood still", status=408, code="upload_timeout"), 408),
        (aiohttp.ClientPayloadError("cut"), 400),
        (ConnectionResetError("the client left"), 400),
        (web.RequestPayloadError("a bad chunk"), 400),
    ],
)
@pytest.mark.parametrize("late", [False, True], ids=["before the reply", "in the reply"])
async def test_a_body_that_breaks_is_the_clients_fault(error: Exception, status: int, late: bool) -> None:
    """A client's own broken upload was booked against the target, with a traceback in the log."""
    event = await failed(Answer([error]) if late else Answer(head=[error]))
    assert event.failure.outcome is Outcome.CLIENT_FAULT
    assert event.failure.status == status


@pytest.mark.parametrize(
    "error", [RequestError("the upload stood still", status=408), ConnectionResetError(), RuntimeError("x")]
)
async def test_whatever_breaks_an_answer_is_told_as_a_failure(error: Exception) -> None:
    """It came out of the pump as it was, and a second head was written into the running answer."""
    tried = attempt(Puppet(Answer([*CHAT[:2], error])))
    assert isinstance(await until_content(tried), Content)
    with pytest.raises(AttemptFailed):
        await rest(tried)


async def test_what_nobody_foresaw_is_a_fault_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        event = await failed(Answer(head=[RuntimeError("a bug")]))
    assert event.failure.outcome is Outcome.SERVER_FAULT
    assert "a bug" not in event.failure.message
    assert "a bug" in caplog.text


async def test_refusal_of_the_backend_is_passed_on() -> None:
    told = failure(Outcome.OVERLOADED)
    assert (await failed(Answer(head=[told]))).failure is told


async def test_closing_is_safe_at_any_time() -> None:
    puppet = Puppet()
    tried = attempt(puppet)
    await tried.aclose()
    await until_content(tried)
    await tried.aclose()
    await tried.aclose()
    assert puppet.replies[0].closed == 2


@pytest.mark.parametrize("ending", [failure(), None], ids=["breaks", "cut"])
async def test_tokens_of_an_answer_that_breaks_are_counted(ending: object) -> None:
    """Usage was only taken over at a clean end: what a broken stream had cost was lost."""
    wire = [*CHAT[:3], canned.chat_usage(), *([ending] if ending else [])]
    tried = attempt(Puppet(Answer(wire)))  # type: ignore[arg-type]
    await until_content(tried)
    with pytest.raises(AttemptFailed):
        await rest(tried)
    assert tried.usage is not None
    assert tried.usage.input_tokens == 7


async def test_events_without_a_type_are_still_events() -> None:
    """Local streams say so by their framing."""
    tried = attempt(Puppet(Answer(events(), kind=None, framing=Framing.EVENTS)))
    assert isinstance(await until_content(tried), Content)
    assert tried.is_events
    assert not attempt(Puppet()).is_events
    assert STREAM == "text/event-stream"


@pytest.mark.parametrize(
    "answer",
    [Answer(), Answer([b"".join(CHAT)]), local_stream(), json()],
    ids=["parts", "one", "local", "whole"],
)
async def test_a_translated_answer_is_complete_before_its_end_is_sent(answer: Answer) -> None:
    """Who reads the end of a response may go on from it at once: it must have been kept by then. One that is
    not the client's, because another was faster, is not kept.
    """
    told: list[str] = []
    stream = answer.kind == STREAM
    for committed in (False, True):
        translation = ResponsesToChat(response_id="resp_1", created=0)
        translation.request(dump({"model": "m", "input": "x", "stream": stream}))

        def complete(of: ResponsesToChat = translation) -> None:
            assert of.response is not None
            told.append(of.response["status"])

        tried = attempt(Puppet(answer), stream=stream)
        way = Opening(Puppet(answer), tried.call, translation, complete)
        tried = Attempt(1, tried.candidate, way, reply_limit=1 << 20)
        assert isinstance(await until_content(tried, Api.RESPONSES), Content)
        assert told == []
        if committed:
            tried.commit()
        if not tried.ended and tried.body is None:
            async for part in tried.rest():
                if b"response.completed" in part:
                    assert told == (["completed"] if committed else [])
        assert told == (["completed"] if committed else [])
