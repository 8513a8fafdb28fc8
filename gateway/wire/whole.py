"""PURE: a whole JSON reply: is it one, does a 200 hide an error, and what did it cost."""

from __future__ import annotations

import msgspec

from gateway.wire import syntax
from gateway.wire.api import Api
from gateway.wire.failure import WireError, malformed, read_error
from gateway.wire.usage import Usage, read_usage


class WholeReply(msgspec.Struct, frozen=True, gc=False):
    """What was found: an error, or nothing against it. `usage` is None where none was told."""

    error: WireError | None = None
    usage: Usage | None = None


class _Reply(msgspec.Struct, gc=False):
    error: object = None
    usage: object = None
    kind: object = msgspec.field(default=None, name="type")
    noun: object = msgspec.field(default=None, name="object")
    name: object = msgspec.field(default=None, name="id")
    choices: object = None
    output: object = None
    content: object = None


# Where the answer stands in a reply of each API. Whatever else may be odd about it is the client's to see.
_ANSWER = {Api.CHAT: "choices", Api.COMPLETIONS: "choices", Api.RESPONSES: "output", Api.MESSAGES: "content"}

_decode = msgspec.json.Decoder(_Reply).decode


def check_whole(api: Api, body: bytes) -> WholeReply:
    """Look at a reply of status 200 and JSON content type; nothing that it holds raises."""
    if not body and api is Api.OTHER:  # HEAD, and what has nothing to say
        return WholeReply()
    try:
        reply = _decode(body)
    except (ValueError, RecursionError):
        return _check_odd(api, body)
    if not syntax.is_utf8(body) or not syntax.is_sound(body):
        return _unreadable()
    return _judge(api, body, reply)


def _check_odd(api: Api, body: bytes) -> WholeReply:
    try:
        value = syntax.parse(body)
    except ValueError:
        return _unreadable()
    if not isinstance(value, dict):
        if api is Api.OTHER:
            return WholeReply()
        return WholeReply(malformed("the reply is JSON but not an object"))
    fields = {key: value.get(key) for key in ("error", "usage", "choices", "output", "content")}
    return _judge(
        api, body, _Reply(**fields, kind=value.get("type"), noun=value.get("object"), name=value.get("id"))
    )


def _judge(api: Api, body: bytes, reply: _Reply) -> WholeReply:
    usage = read_usage(reply.usage)
    if not reply.error and "error" not in (reply.kind, reply.noun):
        wanted = _ANSWER.get(api)
        if wanted is not None and not isinstance(getattr(reply, wanted), list):
            return WholeReply(malformed(f"the reply is JSON but no answer: it has no {wanted}"), usage)
        return WholeReply(None, usage)
    if api is Api.OTHER and (reply.name is not None or reply.noun not in (None, "error")):
        return WholeReply(None, usage)  # a job or file that failed says so in a field of this name
    return WholeReply(read_error(body), usage)


def _unreadable() -> WholeReply:
    return WholeReply(malformed("the reply is not valid JSON; it may have been cut short"))
