"""PURE: how far an answer had come when its stream broke, and the request that asks for the rest of it.

Only plain text is gone on with: whoever takes over reads it as the beginning of the assistant's turn and
writes on. A call half written, an answer bound to a grammar, thinking without an answer yet, several
answers at once: what another model would make of these is no continuation.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

import msgspec

from gateway.wire import syntax
from gateway.wire.api import Api
from gateway.wire.events import DONE
from gateway.wire.needs import needs_of
from gateway.wire.spans import Edits, Value, encode, read
from gateway.wire.sse import SseSplitter, parse_event
from gateway.wire.usage import Usage, read_usage

IDENTITY = ("id", "created", "model", "system_fingerprint")
_MORE_THAN_TEXT = ("tool_calls", "function_call", "refusal", "audio", "images")
REASONING = ("reasoning", "reasoning_content", "reasoning_details")
# What binds an answer to a grammar outside of the dialects: vLLM, SGLang, llama.cpp.
_GRAMMARS = (
    *("guided_json", "guided_regex", "guided_choice", "guided_grammar", "structured_outputs"),
    *("json_schema", "regex", "ebnf", "grammar", "structural_tag"),
)
_UNSAID = (b"null", b"false", b'""', b"[]", b"{}", b"0", b"1")
_THINKING = ("thinking", "redacted_thinking")
_THINKING_DELTAS = ("thinking_delta", "signature_delta")


class Spoken(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What the client has of an answer: its text and whom it believes to hear. `identity` holds JSON.

    `index` is that of Anthropic's last block, which is still to be ended if `is_open`; `usage` what its
    stream had counted so far.
    """

    text: str
    identity: dict[str, bytes]
    index: int = 0
    is_open: bool = False
    usage: Usage | None = None

    def __repr__(self) -> str:  # an answer is nobody's business, a log's least of all
        return f"Spoken({len(self.text)} characters, index={self.index}, is_open={self.is_open})"


def spoken(api: Api, request_body: bytes, parts: Iterable[bytes], *, events: bool) -> Spoken | None:
    """What `parts` of a broken answer have told the client; None where nobody can go on with it.

    With `events`, each part is the data of one event, otherwise bytes of the stream. Of the request it is
    assumed that it was sound, of the parts that they were handed on, so that none of them is broken.
    """
    if not _may_go_on(api, request_body):
        return None
    datas = iter(parts) if events else _datas(parts)
    found = _of_messages(datas) if api is Api.MESSAGES else _of_chunks(api, datas)
    return found if found is not None and found.text.strip() else None


def continued_body(api: Api, request_body: bytes, said: Spoken) -> bytes:
    """The request for the rest: the same bytes, with the text as the beginning of the assistant's turn, or
    as more of it where the client had begun it itself. Raises ValueError for a body without a place for
    it, of which `spoken` makes nothing.

    Anthropic wants no blank at the end of the text, and no thinking in a turn that has begun without it.
    """
    root = read(request_body)
    if root is None:
        raise ValueError("the body is no JSON object")
    edits = Edits(request_body)
    if api is Api.COMPLETIONS:
        prompt = _prompt(root)
        if prompt is None:
            raise ValueError("the body has no single prompt")
        edits.insert(prompt.end - 1, encode(said.text)[1:-1])
        return edits.made()
    text = said.text.rstrip() if api is Api.MESSAGES else said.text
    messages = root.elements("messages")
    if not messages:
        raise ValueError("the body has no messages")
    last = messages[-1]
    if last.said("role") == "assistant" and not _is_said(last.get("tool_calls")):
        _append(edits, last, text)
    else:
        edits.insert(last.end, b',{"role":"assistant","content":' + encode(text) + b"}")
    thinking = root.get("thinking") if api is Api.MESSAGES else None
    if thinking is not None and thinking.said("type") != "disabled":
        edits.drop_members(root, ("thinking",))
    return edits.made()


def tail_of(api: Api, said: Spoken) -> str:
    """The blanks at the end of the text that `continued_body` has left out."""
    return said.text[len(said.text.rstrip()) :] if api is Api.MESSAGES else ""


def _append(edits: Edits, message: Value, text: str) -> None:
    """The client has begun the assistant's turn itself: the text goes behind what it wrote."""
    content = message.get("content")
    if content is None:
        edits.insert(message.end - 1, b',"content":' + encode(text))
    elif content.text() is not None:
        edits.insert(content.end - 1, encode(text)[1:-1])
    elif content.is_array:
        blocks = content.children()
        said = blocks[-1].get("text") if blocks and blocks[-1].said("type") == "text" else None
        if said is not None and said.text() is not None:
            edits.insert(said.end - 1, encode(text)[1:-1])
        else:
            comma = b"," if blocks else b""
            edits.insert(content.end - 1, comma + b'{"type":"text","text":' + encode(text) + b"}")
    else:
        edits.replace(content, encode(text))


# --- the request -----------------------------------------------------------------------------------------


def _may_go_on(api: Api, body: bytes) -> bool:
    if api not in (Api.CHAT, Api.COMPLETIONS, Api.MESSAGES):
        return False
    needs = needs_of(api, body)
    root = read(body)
    if root is None or needs.json or needs.logprobs or needs.choices > 1:
        return False
    if any(_is_said(root.get(name)) for name in _GRAMMARS):
        return False
    if api is Api.COMPLETIONS:
        odd = any(_is_said(root.get(name)) for name in ("echo", "suffix", "best_of"))
        return not odd and _prompt(root) is not None
    choice, function = root.get("tool_choice"), root.get("function_call")
    if function is not None and function.is_object:
        return False
    if choice is not None:
        kind = choice.said("type") if choice.is_object else choice.text()
        if kind not in (None, "auto", "none"):
            return False
    messages = root.elements("messages")
    return bool(messages) and messages[-1].is_object


def _prompt(root: Value) -> Value | None:
    """The one prompt of a completion, if it is a text."""
    prompt = root.get("prompt")
    if prompt is not None and prompt.is_array:
        prompts = prompt.children()
        prompt = prompts[0] if len(prompts) == 1 else None
    return prompt if prompt is not None and prompt.text() is not None else None


def _is_said(value: Value | None) -> bool:
    return value is not None and value.raw not in _UNSAID


# --- the answer ------------------------------------------------------------------------------------------


def _datas(parts: Iterable[bytes]) -> Iterator[bytes]:
    splitter = SseSplitter()
    for part in parts:
        for raw in splitter.feed(part):
            data = parse_event(raw).data
            if data:
                yield data


def _of_chunks(api: Api, datas: Iterator[bytes]) -> Spoken | None:
    """Chunks of OpenAI's dialect."""
    texts: list[str] = []
    identity: dict[str, bytes] = {}
    was_text = False
    for data in datas:
        chunk = _fields(data)
        if chunk is None:
            return None
        for key in IDENTITY:
            if key not in identity and chunk.get(key) is not None:
                identity[key] = json.dumps(chunk[key]).encode()
        choices = chunk.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if not _is_running(choice):
                return None
            delta = choice if api is Api.COMPLETIONS else choice.get("delta")
            if not isinstance(delta, dict):
                continue
            text = delta.get("text" if api is Api.COMPLETIONS else "content")
            if any(delta.get(name) for name in _MORE_THAN_TEXT) or (text and not isinstance(text, str)):
                return None
            if any(delta.get(name) for name in REASONING):
                was_text = False
            if text:
                texts.append(text)
                was_text = True
    return Spoken(text="".join(texts), identity=identity) if was_text else None


def _is_running(choice: object) -> bool:
    """Is it the only choice, and neither at its end nor told with probabilities?"""
    return isinstance(choice, dict) and not any(
        choice.get(name) for name in ("index", "finish_reason", "logprobs", "error")
    )


def _of_messages(datas: Iterator[bytes]) -> Spoken | None:
    """Events of Anthropic's dialect."""
    texts: list[str] = []
    identity: dict[str, bytes] = {}
    kind, index, is_open, usage = "", 0, False, None
    for data in datas:
        event = _fields(data)
        if event is None:
            return None
        match event.get("type"):
            case "message_start":
                message = event.get("message")
                message = message if isinstance(message, dict) else {}
                identity = {key: json.dumps(message[key]).encode() for key in IDENTITY if message.get(key)}
                usage = read_usage(message.get("usage"))
            case "content_block_start":
                block = event.get("content_block")
                said = block.get("type") if isinstance(block, dict) else None
                if said != "text" and said not in _THINKING:
                    return None
                kind, is_open = said, True
                index = _index(event)
                if said == "text" and isinstance(block, dict) and isinstance(block.get("text"), str):
                    texts.append(block["text"])
            case "content_block_delta":
                delta = event.get("delta")
                delta = delta if isinstance(delta, dict) else {}
                if delta.get("type") == "text_delta" and isinstance(delta.get("text"), str):
                    texts.append(delta["text"])
                elif delta.get("type") not in _THINKING_DELTAS:
                    return None  # a citation, or something new
            case "content_block_stop":
                is_open = False
            case "message_delta" | "message_stop":
                return None
    if kind != "text":
        return None
    return Spoken(text="".join(texts), identity=identity, index=index, is_open=is_open, usage=usage)


def _index(event: dict[str, object]) -> int:
    index = event.get("index")
    return index if isinstance(index, int) else 0


def _fields(data: bytes) -> dict[str, object] | None:
    """What an event says; None for the end, and for what is no object."""
    if data.strip() == DONE:
        return None
    try:
        value = syntax.parse(data)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
