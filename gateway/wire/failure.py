"""PURE: errors as the dialects write them: reading an upstream's, writing the gateway's own.

Reading takes anything: a proxy's HTML page, a stack trace, an array, half a JSON text. What it can't
understand becomes the message.
"""

from __future__ import annotations

import re
from html import unescape

import msgspec

from gateway.wire import syntax
from gateway.wire.dialect import Dialect

_MESSAGE_LIMIT = 1000
_TAG = re.compile(r"<(script|style)\b.*?</\1\s*>|<[^>]*>", re.DOTALL | re.IGNORECASE)
_SHOWN_KEY = re.compile(r"(?i)(api[ _-]?key\b[^:=]{0,20}[:=]\s*['\"`]?)(?=\S*[\d*])[^\s'\"`]{8,}")


class WireError(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An error inside the wire's bytes. `status` is what the error itself says or its kind stands
    for, not the reply's; `malformed` marks bytes that are no sound reply at all.
    """

    message: str
    kind: str | None = None
    code: str | None = None
    param: str | None = None
    malformed: bool = False
    status: int | None = None


def malformed(message: str, *, code: str = "malformed_reply") -> WireError:
    """The upstream's bytes break the format; the sentence says how."""
    return WireError(message=message, code=code, malformed=True)


# --- reading ---------------------------------------------------------------------------------------

_STATUS = {
    "invalid_request_error": 400,
    "context_length_exceeded": 400,
    "exceed_context_size_error": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "model_not_found": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "api_error": 500,
    "server_error": 500,
    "internal_server_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
    # Google's words, which its OpenAI endpoint uses too
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}


def read_error(body: bytes, dialect: Dialect = Dialect.OPENAI) -> WireError:
    """What an upstream's error body says, in whichever dialect or none it is written.

    `dialect` is what the upstream should speak; many speak another one when they fail.
    """
    try:
        value = syntax.parse(body)
    except ValueError:
        return WireError(message=_plain(body.decode("utf-8", "replace")))
    return error_of(value)


def error_of(value: object) -> WireError:
    """The same for JSON that is parsed already."""
    if isinstance(value, list) and value:  # Google wraps its error into an array
        value = value[0]
    if not isinstance(value, dict):
        return WireError(message=_plain(_text(value)))
    inner = value.get("error")
    if isinstance(inner, dict):
        return _of_fields({**{key: value.get(key) for key in ("code", "status", "message")}, **inner})
    return _of_fields({**value, "message": inner} if inner else value)


def _of_fields(fields: dict[str, object]) -> WireError:
    kind, code = _word(fields.get("type")), _word(fields.get("code"))
    kind = None if kind == "error" else kind  # the envelope's name, not a kind
    status = _word(fields.get("status"))
    number = _http(code) or _http(status) or _http(_word(fields.get("status_code")))
    if status is not None and not status.isdigit() and (code is None or code.isdigit()):
        code = status  # Google: the number is the reply's status, the word says what happened
    for word in (code, kind):
        number = number or _STATUS.get(word or "")
    message = _plain(_text(fields))
    param = _word(fields.get("param")) or _place(fields)
    return WireError(message=message, kind=kind, code=code, param=param, status=number)


def _place(value: object, depth: int = 4) -> str | None:
    """Where the first fault is, as pydantic tells it beside its sentence (Mistral, vLLM, FastAPI's like)."""
    if isinstance(value, list) and value and depth:
        return _place(value[0], depth - 1)
    if not isinstance(value, dict) or not depth:
        return None
    loc = value.get("loc")
    if isinstance(loc, list):
        return _word(".".join(str(step) for step in loc[:16]))
    return _place(value.get("message"), depth - 1) or _place(value.get("detail"), depth - 1)


def _text(value: object, depth: int = 4) -> str:
    """The sentence in whatever stands where a message should."""
    if isinstance(value, str):
        return value
    if not value or not depth:
        return ""
    if isinstance(value, list):
        return _text(value[0], depth - 1)
    if not isinstance(value, dict):
        return str(value)
    for key in ("message", "detail", "msg", "error", "title"):
        if text := _text(value.get(key), depth - 1):
            return text + _cause(value.get("metadata"))
    return ""


def _cause(metadata: object) -> str:
    """What stood behind a router's own sentence (OpenRouter: "Provider returned error")."""
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    return f": {raw}" if raw and isinstance(raw, str) else ""


def _plain(text: str) -> str:
    """One line without markup, and without the key that some upstreams repeat."""
    text = text[: _MESSAGE_LIMIT * 4]
    if "<" in text[:200] and ">" in text:
        text = unescape(_TAG.sub(" ", text))
    text = " ".join(text.split())
    text = _SHOWN_KEY.sub(r"\1***", text)
    if len(text) > _MESSAGE_LIMIT:
        text = text[: _MESSAGE_LIMIT - 3] + "..."
    return text or "the upstream gave no reason"


def _word(value: object) -> str | None:
    if isinstance(value, str):
        return value[:100] or None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)[:100]
    return None


def _http(word: str | None) -> int | None:
    return int(word) if word is not None and re.fullmatch(r"[45][0-9][0-9]", word) else None


# --- writing ---------------------------------------------------------------------------------------

_ANTHROPIC_KINDS = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_TOO_LONG = "prompt is too long"  # by which Anthropic's clients know that they have to shorten it
# A client whose conversation is kept at its provider sends it whole from then on.
_NO_THREADS = {"error_code": "thread_unsupported_request"}
_OPENAI_CODES = {401: "invalid_api_key", 429: "rate_limit_exceeded"}


def error_body(
    dialect: Dialect,
    *,
    status: int,
    message: str,
    kind: str | None = None,
    code: str | None = None,
    param: str | None = None,
    request_id: str | None = None,
) -> bytes:
    """The body of one error reply. `kind` is OpenAI's type; Anthropic's follows from the status."""
    if dialect is Dialect.ANTHROPIC:
        if code == "context_length_exceeded" and _TOO_LONG not in message.lower():
            message = f"{_TOO_LONG}: {message}"
        inner: dict[str, object] = {"type": _anthropic_kind(status), "message": message}
        if code == "untranslatable" and param == "thread":
            inner["details"] = _NO_THREADS
        return _encode({"type": "error", "error": inner, "request_id": request_id})
    if code is None:
        code = "model_not_found" if status == 404 and param == "model" else _OPENAI_CODES.get(status)
    kind = kind or _openai_kind(status, code)
    return _encode({"error": {"message": message, "type": kind, "param": param, "code": code}})


def error_event(
    dialect: Dialect,
    *,
    status: int,
    message: str,
    kind: str | None = None,
    code: str | None = None,
    param: str | None = None,
    request_id: str | None = None,
    number: int | None = None,
) -> bytes:
    """The event that ends a stream with an error; nothing may follow it, no [DONE] either. `number` is its
    place among the events of a response, whose error says its type; None for every other API.
    """
    body = error_body(
        dialect, status=status, message=message, kind=kind, code=code, param=param, request_id=request_id
    )
    if number is not None:
        # As it is documented and, beside that, as OpenAI sends it: its own clients raise for `error`.
        inner = msgspec.json.decode(body)["error"]
        told = {name: inner[name] for name in ("code", "message", "param")}
        body = _encode({"type": "error", "sequence_number": number, **told, "error": inner})
    # Anthropic's clients overlook an error without its event line; a chat's have none.
    line = b"event: error\n" if dialect is Dialect.ANTHROPIC or number is not None else b""
    return line + b"data: " + body + b"\n\n"


def _anthropic_kind(status: int) -> str:
    return _ANTHROPIC_KINDS.get(status) or ("api_error" if status >= 500 else "invalid_request_error")


def _openai_kind(status: int, code: str | None) -> str:
    if code == "insufficient_quota":
        return code
    if status == 429:
        return "rate_limit_error"
    return "server_error" if status >= 500 else "invalid_request_error"


def _encode(value: object) -> bytes:
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:  # half of a surrogate pair in a message that was cut
        return msgspec.json.encode(_sound(value))


def _sound(value: object) -> object:
    if isinstance(value, dict):
        return {key: _sound(item) for key, item in value.items()}
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
