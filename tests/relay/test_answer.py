"""The head of an answer, and the one error that a client gets."""

from __future__ import annotations

import json

import pytest
from aiohttp import web

from gateway.errors import RequestError
from gateway.failover.outcome import Failure, Outcome
from gateway.failover.verdict import Verdict
from gateway.relay.answer import Trail, broken_event, put_head, refusal, refused_request, status_of
from gateway.wire.dialect import Dialect
from tests.relay.puppet import Answer, Puppet
from tests.relay.test_attempt import attempt, until_content

TRAIL = Trail(
    request_id="req_1",
    rule="gpt-*",
    attempts="a/m=ok;dur=3",
    served_by="a/m",
    local_only=True,
    total_ms=3.21,
)


def verdict(**changes: object) -> Verdict:
    fields = {"status": 502, "kind": "server_error", "code": "upstream_error", "message": "it burns"}
    return Verdict(**{**fields, **changes})  # type: ignore[arg-type]


def body_of(response: web.Response) -> dict[str, object]:
    assert isinstance(response.body, bytes)
    value = json.loads(response.body)
    assert isinstance(value, dict)
    return value


async def test_the_head_is_the_backends_and_ours() -> None:
    """What a client may see of an upstream's head is decided where it is read (tests/cloud)."""
    tried = attempt(
        Puppet(
            Answer(
                [b"x"],
                kind="audio/mpeg",
                status=201,
                headers=(("openai-processing-ms", "7"),),
            )
        )
    )
    await until_content(tried)
    response = web.StreamResponse()
    put_head(response, tried, TRAIL)
    assert response.status == 201
    assert dict(response.headers) == {
        "content-type": "audio/mpeg",
        "openai-processing-ms": "7",
        "x-request-id": "req_1",
        "x-gateway-rule": "gpt-*",
        "x-gateway-served-by": "a/m",
        "x-gateway-attempts": "a/m=ok;dur=3",
        "x-gateway-locality": "local-only",
        "server-timing": "gateway;dur=3.2",
        "server": "mlx-gateway",
    }


def test_who_answered_is_left_out_when_nobody_did() -> None:
    names = [name for name, _ in Trail(request_id="r", rule="-", attempts="").headers()]
    assert names == ["x-request-id", "x-gateway-rule", "server-timing"]


def test_refusals_speak_the_clients_dialect() -> None:
    openai = refusal(Dialect.OPENAI, verdict(param="model"), TRAIL)
    assert openai.status == 502
    assert openai.content_type == "application/json"
    assert body_of(openai)["error"] == {
        "message": "it burns",
        "type": "server_error",
        "param": "model",
        "code": "upstream_error",
    }
    anthropic = refusal(Dialect.ANTHROPIC, verdict(), TRAIL)
    assert body_of(anthropic) == {
        "type": "error",
        "error": {"type": "api_error", "message": "it burns"},
        "request_id": "req_1",
    }
    for response in (openai, anthropic):
        assert response.headers["x-should-retry"] == "false"
        assert response.headers["x-request-id"] == "req_1"
        assert response.headers["server"] == "mlx-gateway"
        assert "retry-after" not in response.headers


def test_overload_has_a_status_of_its_own_in_anthropics() -> None:
    told = verdict(status=503, overloaded=True)
    assert status_of(Dialect.OPENAI, told) == 503
    assert status_of(Dialect.ANTHROPIC, told) == 529
    response = refusal(Dialect.ANTHROPIC, told, TRAIL)
    assert response.status == 529
    assert b"overloaded_error" in (response.body or b"")  # type: ignore[operator]


@pytest.mark.parametrize(("wait_s", "told"), [(0.0, "1"), (0.2, "1"), (1.2, "2"), (60.0, "60")])
def test_retry_after_is_whole_seconds_and_never_none(wait_s: float, told: str) -> None:
    response = refusal(Dialect.OPENAI, verdict(status=429, retry_after_s=wait_s, should_retry=True), TRAIL)
    assert response.headers["retry-after"] == told
    assert "x-should-retry" not in response.headers


def test_the_upstreams_own_words_go_through_as_they_are() -> None:
    body = b'{ "error" : {"message": "no", "unknown": 1.0e0} }'
    theirs = Failure(
        outcome=Outcome.CLIENT_FAULT,
        message="no",
        status=422,
        headers=(("content-type", "application/json"), ("x-upstream-request-id", "theirs")),
        body=body,
    )
    response = refusal(Dialect.OPENAI, verdict(status=400, relay=theirs), TRAIL)
    assert response.status == 422
    assert response.body == body
    assert response.headers["x-upstream-request-id"] == "theirs"
    assert response.headers["x-request-id"] == "req_1"


def test_events_of_both_dialects() -> None:
    assert broken_event(Dialect.OPENAI, verdict(), "req_1").startswith(b'data: {"error":')
    event = broken_event(Dialect.ANTHROPIC, verdict(status=503, overloaded=True), "req_1")
    assert event.startswith(b"event: error\ndata: ")
    assert b'"overloaded_error"' in event
    assert b'"req_1"' in event
    assert event.endswith(b"\n\n")


def test_the_error_event_of_a_response_has_a_type_and_a_number() -> None:
    event = broken_event(Dialect.OPENAI, verdict(), "req_1", number=7)
    head, _, data = event.partition(b"\n")
    assert head == b"event: error"
    told = json.loads(data.removeprefix(b"data: "))
    assert (told["type"], told["sequence_number"]) == ("error", 7)
    assert told["message"] == told["error"]["message"] == verdict().message


def test_a_wrong_request_is_not_to_be_sent_again() -> None:
    response = refused_request(Dialect.OPENAI, RequestError("no", status=413, code="x", param="y"), "req_1")
    assert response.status == 413
    assert response.headers["x-should-retry"] == "false"
    assert body_of(response)["error"] == {
        "message": "no",
        "type": "invalid_request_error",
        "param": "y",
        "code": "x",
    }
