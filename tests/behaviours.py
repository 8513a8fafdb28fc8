"""How an upstream of the lab may answer: well, badly, late, by half or not at all.

A behaviour is an async function of an `Exchange`. The functions here make the usual ones and are
also attributes of `Lab`; a test with a wish of its own passes its own function.
"""

from __future__ import annotations

import asyncio
import gzip as _gzip
import zlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from tests import canned

if TYPE_CHECKING:
    from tests.peer import Exchange

Behaviour = Callable[["Exchange"], Awaitable[None]]
Headers = Mapping[str, str] | Iterable[tuple[str, str]]
Framing = Literal["length", "chunked", "close"]
Cut = Literal["fin", "rst", "stall"]
# A piece of a body: bytes are written at once as one chunk, an event is waited for.
Piece = bytes | asyncio.Event

SSE = "text/event-stream; charset=utf-8"


def body(
    pieces: bytes | Sequence[Piece],
    *,
    status: int = 200,
    headers: Headers = (),
    content_type: str | None = "application/json",
    framing: Framing = "length",
    cut: Cut | None = None,
    cut_at: int | None = None,
    segment: int | None = None,
    pace: float = 0.0,
    keep_alive: bool = True,
) -> Behaviour:
    """Answer with a body; everything else that answers is made of this.

    `pieces`: bytes, or a list of bytes and gates (an `asyncio.Event` holds the body until it is set).
    `framing`: content-length, chunked (a chunk per piece), or the end of the connection.
    `cut` ends it before its end: by FIN, by RST, or by silence with the socket open; `cut_at` says
    after how many bytes of the body, else after the last piece (a length is then one byte too long).
    `segment` cuts the writes into so many bytes, `pace` waits so many seconds before every write.
    """
    parts: list[Piece] = [pieces] if isinstance(pieces, bytes) else list(pieces)
    size = sum(len(part) for part in parts if isinstance(part, bytes))
    announced = size + 1 if cut and (cut_at is None or cut_at >= size) else size

    async def answer(exchange: Exchange) -> None:
        fields = list(headers.items() if isinstance(headers, Mapping) else headers)
        if content_type is not None:
            fields.insert(0, ("content-type", content_type))
        if framing == "length":
            fields.append(("content-length", str(announced)))
        elif framing == "chunked":
            fields.append(("transfer-encoding", "chunked"))
        if framing == "close" or not keep_alive:
            fields.append(("connection", "close"))
        await exchange.head(status, fields)
        left = cut_at if cut and cut_at is not None else None
        for part in parts:
            if isinstance(part, asyncio.Event):
                await exchange.wait(part)
                continue
            keep = part if left is None else part[:left]
            start, end = (b"%x\r\n" % len(part), b"\r\n") if framing == "chunked" and part else (b"", b"")
            if keep is not part and len(keep) < len(part):
                await exchange.write(start + keep)
                break
            for write in _split(start + part + end, segment):
                if pace:
                    await exchange.sleep(pace)
                await exchange.write(write)
            left = None if left is None else left - len(part)
        if cut:
            await exchange.cut(cut)
        elif framing == "chunked":
            await exchange.write(b"0\r\n\r\n")
        if framing == "close" or not keep_alive:
            exchange.close()

    return answer


def sse(events: Sequence[Piece], *, framing: Framing = "chunked", **how: Any) -> Behaviour:
    """Answer with a stream of events; `how` as for `body`."""
    return body(events, framing=framing, content_type=how.pop("content_type", SSE), **how)


def json(value: object, **how: Any) -> Behaviour:
    """Answer with one JSON value; `how` as for `body`."""
    return body(canned.dump(value), **how)


def error(
    status: int,
    message: str = "the lab says no",
    *,
    kind: str | None = None,
    code: str | None = None,
    retry_after: str | int | None = None,
    dialect: Literal["openai", "anthropic"] | None = None,
    headers: Headers = (),
    **how: Any,
) -> Behaviour:
    """Answer with an error in the path's dialect (or the one named)."""
    fields = list(headers.items() if isinstance(headers, Mapping) else headers)
    if retry_after is not None:
        fields.append(("retry-after", str(retry_after)))

    async def answer(exchange: Exchange) -> None:
        speaks = dialect or ("anthropic" if "/messages" in exchange.seen.path else "openai")
        value = (
            canned.anthropic_error(status, message, kind=kind)
            if speaks == "anthropic"
            else canned.openai_error(status, message, kind=kind, code=code)
        )
        await json(value, status=status, headers=fields, **how)(exchange)

    return answer


def chat(text: str = canned.TEXT, **how: Any) -> Behaviour:
    """Answer /v1/chat/completions properly, as a stream where the request asks for one."""
    return _by_request(
        lambda asked: canned.chat_stream(text, model=_model(asked), usage=_wants_usage(asked)),
        lambda asked: canned.chat_whole(text, model=_model(asked)),
        how,
    )


def completions(text: str = canned.TEXT, **how: Any) -> Behaviour:
    """Answer /v1/completions properly."""
    return _by_request(
        lambda asked: canned.completion_stream(text, model=_model(asked)),
        lambda asked: canned.completion_whole(text, model=_model(asked)),
        how,
    )


def responses(text: str = canned.TEXT, **how: Any) -> Behaviour:
    """Answer /v1/responses properly."""
    return _by_request(
        lambda asked: canned.responses_stream(text, model=_model(asked)),
        lambda asked: canned.responses_whole(text, model=_model(asked)),
        how,
    )


def messages(text: str = canned.TEXT, **how: Any) -> Behaviour:
    """Answer /v1/messages properly."""
    return _by_request(
        lambda asked: canned.messages_stream(text, model=_model(asked)),
        lambda asked: canned.messages_whole(text, model=_model(asked)),
        how,
    )


def embeddings(**how: Any) -> Behaviour:
    """Answer /v1/embeddings properly."""

    async def answer(exchange: Exchange) -> None:
        asked = _asked(exchange)
        count = len(asked["input"]) if isinstance(asked.get("input"), list) else 1
        await json(canned.embeddings(count, model=_model(asked)), **how)(exchange)

    return answer


def models(*names: str, **how: Any) -> Behaviour:
    """Answer /v1/models in the dialect of who asks."""
    given = names or (canned.MODEL,)

    async def answer(exchange: Exchange) -> None:
        anthropic = exchange.seen.header("anthropic-version") is not None
        value = canned.anthropic_models(given) if anthropic else canned.openai_models(given)
        await json(value, **how)(exchange)

    return answer


def echo(**how: Any) -> Behaviour:
    """Answer any path with what was seen: method, path, query, size and hash of the body."""

    async def answer(exchange: Exchange) -> None:
        seen = exchange.seen
        value = {"object": "lab.echo", "method": seen.method, "path": seen.path, "query": seen.query}
        await json({**value, "size": seen.size, "sha256": seen.sha256}, **how)(exchange)

    return answer


def hang() -> Behaviour:
    """Take the request and never answer."""

    async def answer(exchange: Exchange) -> None:
        await exchange.cut("stall")

    return answer


def drop() -> Behaviour:
    """End the connection (FIN) without an answer; on a second request this is a stale keep-alive."""

    async def answer(exchange: Exchange) -> None:
        await exchange.cut("fin")

    return answer


def reset() -> Behaviour:
    """Reset the connection (RST) without an answer."""

    async def answer(exchange: Exchange) -> None:
        await exchange.cut("rst")

    return answer


def raw(wire: bytes, *, then: Cut | None = "fin") -> Behaviour:
    """Write bytes as they are: garbage status lines, wrong lengths. `then` None keeps the connection."""

    async def answer(exchange: Exchange) -> None:
        await exchange.write(wire)
        if then:
            await exchange.cut(then)

    return answer


def huge_headers(size: int = 100_000) -> Behaviour:
    """Answer with one header field of so many bytes."""
    return json({}, headers=[("x-huge", "h" * size)])


def redirect(location: str, status: int = 307) -> Behaviour:
    """Send the caller somewhere else."""
    return body(b"", status=status, headers=[("location", location)], content_type=None)


def compressed(
    plain: bytes,
    *,
    encoding: Literal["gzip", "deflate", "br"] = "gzip",
    truncate: int = 0,
    content_type: str = "application/json",
    **how: Any,
) -> Behaviour:
    """Answer compressed although nobody asked; `truncate` leaves so many bytes off the end, unnoticeably."""
    packed = _gzip.compress(plain, mtime=0) if encoding == "gzip" else zlib.compress(plain)
    packed = packed[: len(packed) - truncate]
    fields = [("content-encoding", encoding)]
    return body(packed, headers=fields, content_type=content_type, **how)


def early(behaviour: Behaviour) -> Behaviour:
    """Let `behaviour` begin when the head is there, before the body was read; it may `read_body` itself."""

    async def answer(exchange: Exchange) -> None:
        await behaviour(exchange)

    answer.early = True  # type: ignore[attr-defined] # the mark that the connection looks for
    return answer


def default_for(path: str) -> Behaviour:
    """What an unscripted path answers."""
    proper: dict[str, Callable[[], Behaviour]] = {
        "/v1/chat/completions": chat,
        "/v1/completions": completions,
        "/v1/responses": responses,
        "/v1/messages": messages,
        "/v1/embeddings": embeddings,
        "/v1/models": models,
    }
    return proper.get(path, echo)()


def _by_request(
    stream: Callable[[Any], Sequence[Piece]], whole: Callable[[Any], object], how: dict[str, Any]
) -> Behaviour:
    async def answer(exchange: Exchange) -> None:
        asked = _asked(exchange)
        made = sse(stream(asked), **how) if asked.get("stream") else json(whole(asked), **how)
        await made(exchange)

    return answer


def _asked(exchange: Exchange) -> dict[str, Any]:
    asked = exchange.seen.json
    return asked if isinstance(asked, dict) else {}


def _model(asked: Any) -> str:
    return str(asked.get("model", canned.MODEL))


def _wants_usage(asked: Any) -> bool:
    return bool((asked.get("stream_options") or {}).get("include_usage"))


def _split(piece: bytes, size: int | None) -> list[bytes]:
    if size is None:
        return [piece]
    return [piece[at : at + size] for at in range(0, len(piece), size)]
