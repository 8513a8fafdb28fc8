from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.api import Api
from gateway.wire.usage import Usage
from gateway.wire.whole import WholeReply, check_whole

KNOWN = [Api.CHAT, Api.COMPLETIONS, Api.RESPONSES, Api.MESSAGES]


@pytest.mark.parametrize("api", list(Api))
def test_a_sound_reply_has_nothing_against_it(api: Api) -> None:
    answer: dict[str, object] = {"choices": [], "output": [], "content": []}
    usage = {"input_tokens": 1, "output_tokens": 2}
    body = json.dumps({**answer, "id": "x", "error": None, "usage": usage}).encode()
    assert check_whole(api, body) == WholeReply(None, Usage(1, 2))
    odd = json.dumps(answer)[1:].encode()
    assert check_whole(api, b'{"usage":"odd",' + odd) == WholeReply()
    assert check_whole(api, b'{"usage":1e999,"a":"\\ud83d",' + odd) == WholeReply()


@pytest.mark.parametrize("api", KNOWN)
@pytest.mark.parametrize("body", [b"{}", b'{"choices":{},"output":1,"content":"x"}', b'{"a":"\\ud83d"}'])
def test_json_without_an_answer_is_no_success(api: Api, body: bytes) -> None:
    error = check_whole(api, body).error
    assert error is not None
    assert error.malformed
    assert check_whole(Api.OTHER, body) == WholeReply()


@pytest.mark.parametrize("api", list(Api))
@pytest.mark.parametrize(
    "body",
    [
        b'{"choices":[{"message":{"content":"Hel',
        b"<html>",
        b'{"a":"\xff"}',
        b'{"a":NaN}',
        b'{"a":' + b"7" * 5000 + b"}",
        b"[" * 5000,
        b'{"a":' + b"[" * 400 + b"]" * 400 + b"}",
    ],
)
def test_a_cut_or_broken_reply_is_no_success(api: Api, body: bytes) -> None:
    error = check_whole(api, body).error
    assert error is not None
    assert error.malformed


@pytest.mark.parametrize("api", list(Api))
@pytest.mark.parametrize(
    "body",
    [
        b'{"error":{"message":"m","type":"server_error"}}',
        b'{"error":"m"}',
        b'{"type":"error","error":{"type":"api_error","message":"m"}}',
        b'{"object":"error","message":"m","code":500}',
        b'{"error":{"message":"m"},"a":1e999,"usage":1e999}',
    ],
)
def test_a_200_that_holds_an_error_is_one(api: Api, body: bytes) -> None:
    error = check_whole(api, body).error
    assert error is not None
    assert error.message == "m"
    assert not error.malformed


def test_a_job_that_failed_is_a_sound_answer_about_a_job() -> None:
    job = b'{"object":"fine_tuning.job","id":"ft-1","status":"failed","error":{"code":"x","message":"m"}}'
    assert check_whole(Api.OTHER, job).error is None
    assert check_whole(Api.OTHER, b'{"object":"file","error":"m"}').error is None
    assert check_whole(Api.RESPONSES, job).error is not None


@pytest.mark.parametrize("body", [b"[]", b'"x"', b"null", b"7"])
def test_a_reply_that_is_no_object_is_none(body: bytes) -> None:
    for api in KNOWN:
        error = check_whole(api, body).error
        assert error is not None
        assert error.malformed
    assert check_whole(Api.OTHER, body) == WholeReply()


def test_an_empty_reply_is_fine_only_where_nothing_is_known() -> None:
    assert check_whole(Api.OTHER, b"") == WholeReply()
    assert check_whole(Api.CHAT, b"").error is not None


@given(st.binary(max_size=60), st.sampled_from(list(Api)))
def test_junk_never_raises(body: bytes, api: Api) -> None:
    reply = check_whole(api, body)
    if reply.error is None and body:
        json.loads(body)
