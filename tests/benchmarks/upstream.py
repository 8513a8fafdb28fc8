"""A mock upstream that is never the bottleneck: one asyncio protocol, canned bytes, no parsing of JSON.

The model name says what comes: `whole`, `burst` (100 events at once), `paced` (100 events, 20 ms apart).
On /v1/messages a burst is one of Anthropic's.
"""

from __future__ import annotations

import asyncio
import sys

EVENTS = 100
PACE_S = 0.02

_WHOLE_BODY = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"' + b"word " * 150 + b'"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":9,"completion_tokens":150,"total_tokens":159}}'
)
_WHOLE = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(_WHOLE_BODY)
) + _WHOLE_BODY
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _event(number: int, *, last: bool = False) -> bytes:
    finish = b'"stop"' if last else b"null"
    return (
        b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","system_fingerprint":'
        b'"fp_0000000000","choices":[{"index":0,"delta":{"content":"word %d "},"logprobs":null,"finish_reason":%b}]}\n\n'
        % (number, finish)
    )


_EVENTS = [_chunk(_event(number)) for number in range(EVENTS)]
_END = _chunk(_event(EVENTS, last=True) + b"data: [DONE]\n\n") + b"0\r\n\r\n"


def _named(kind: str, rest: str) -> bytes:
    return f'event: {kind}\ndata: {{"type":"{kind}"{rest}}}\n\n'.encode()


_MESSAGE = [
    _named(
        "message_start",
        ',"message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],'
        '"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":9,"output_tokens":1}}',
    ),
    _named("content_block_start", ',"index":0,"content_block":{"type":"text","text":""}'),
    *(
        _named("content_block_delta", f',"index":0,"delta":{{"type":"text_delta","text":"word {number} "}}')
        for number in range(EVENTS)
    ),
    _named("content_block_stop", ',"index":0'),
    _named(
        "message_delta",
        ',"delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":100}',
    ),
    _named("message_stop", ""),
]
_MESSAGE_EVENTS = [_chunk(event) for event in _MESSAGE]


class Upstream(asyncio.Protocol):
    """One connection; requests are answered in turn."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._data = b""
        self._open = True

    def connection_lost(self, exc: Exception | None) -> None:
        self._open = False

    def data_received(self, data: bytes) -> None:
        self._data += data
        while True:
            head, blank, rest = self._data.partition(b"\r\n\r\n")
            if not blank:
                return
            length = _length(head)
            if len(rest) < length:
                return
            body, self._data = rest[:length], rest[length:]
            self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        if b"burst" in body and b"/messages " in head:
            self._transport.write(_HEAD)
            for event in _MESSAGE_EVENTS:
                self._transport.write(event)
            self._transport.write(b"0\r\n\r\n")
        elif b"burst" in body:
            self._transport.write(_HEAD)
            for event in _EVENTS:
                self._transport.write(event)
            self._transport.write(_END)
        elif b"paced" in body:
            self._transport.write(_HEAD)
            loop = asyncio.get_running_loop()
            self._pace(0, loop.time())
        else:
            self._transport.write(_WHOLE)

    def _pace(self, number: int, started: float) -> None:
        if not self._open:
            return
        if number == EVENTS:
            self._transport.write(_END)
            return
        self._transport.write(_EVENTS[number])
        loop = asyncio.get_running_loop()
        loop.call_at(started + (number + 1) * PACE_S, self._pace, number + 1, started)


def _length(head: bytes) -> int:
    lowered = head.lower()
    at = lowered.find(b"content-length:")
    return int(lowered[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit(0)
