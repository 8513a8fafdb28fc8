"""A request as it is relayed: the same bytes, but for the name at the target."""

from __future__ import annotations

from gateway.relay.inbound import Bytes, Inbound
from gateway.wire.api import Api
from gateway.wire.body import read_json
from gateway.wire.dialect import Dialect
from tests.relay.test_upload import END, FILE, MODEL, upload


def inbound(body: object) -> Inbound:
    return Inbound(
        request_id="r",
        method="POST",
        path="/v1/chat/completions",
        query="",
        dialect=Dialect.OPENAI,
        api=Api.CHAT,
        headers=(("authorization", "Bearer secret"),),
        body=body,  # type: ignore[arg-type]
    )


async def test_the_same_name_is_the_same_bytes() -> None:
    data = b'{ "stream":true,\n"model" : "a", "x": 1.0e0 }'
    request = inbound(read_json(data))
    body = request.body_for("a")
    assert isinstance(body, Bytes)
    assert body.data is data
    assert body.size == len(data)
    assert [piece async for piece in body.chunks()] == [data]
    assert request.stream
    assert request.replayable()


def test_another_name_changes_only_its_value() -> None:
    body = inbound(read_json(b'{ "model" : "a", "x": 1.0e0 }')).body_for("longer/name")
    assert body is not None
    assert body.data == b'{ "model" : "longer/name", "x": 1.0e0 }'


def test_without_a_body_there_is_nothing_to_send() -> None:
    request = inbound(None)
    assert request.model is None
    assert request.body_for("a") is None
    assert not request.stream
    assert request.replayable()


def test_a_body_without_a_model_stays_as_it_is() -> None:
    body = inbound(read_json(b'{"input": 1}')).body_for("a")
    assert body is not None
    assert body.data == b'{"input": 1}'


async def test_uploads_are_sent_again_only_while_all_is_held() -> None:
    form = upload(MODEL + FILE + END)
    await form.find_model()
    request = inbound(form)
    assert request.model == "whisper-1"
    assert not request.stream
    assert request.body_for("whisper-1") is form
    renamed = request.body_for("tiny")
    assert renamed is not None
    assert renamed.size == len(MODEL + FILE + END) - len("whisper-1") + len("tiny")
    assert request.replayable()
    assert [piece async for piece in renamed.chunks()]
    assert not request.replayable()
    form.close()


async def test_uploads_without_a_model_keep_their_form() -> None:
    form = upload(FILE + END)
    await form.find_model()
    assert inbound(form).body_for("x") is form
    form.close()


def test_nothing_secret_is_shown() -> None:
    assert "secret" not in repr(inbound(read_json(b'{"model": "secret"}')))
