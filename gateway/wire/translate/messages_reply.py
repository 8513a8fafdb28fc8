"""PURE: one of Anthropic's messages as a chat completion."""

from __future__ import annotations

from typing import Any

from gateway.wire.translate.fields import encode
from gateway.wire.translate.names import ToolNames, chat_id
from gateway.wire.translate.reasons import explanation, finish_reason
from gateway.wire.translate.tokens import chat_tier, chat_usage

Block = dict[str, Any]


def chat_reply(said: Any, created: int, names: ToolNames) -> dict[str, Any]:
    """The whole reply. Blocks that a chat has no words for are left out; nothing in `said` raises."""
    said = said if isinstance(said, dict) else {}
    usage = said.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    model = said.get("model")
    choice = {
        "index": 0,
        "message": _message(said, names),
        "logprobs": None,
        "finish_reason": finish_reason(said.get("stop_reason")),
    }
    reply: dict[str, Any] = {
        "id": chat_id(said.get("id")),
        "object": "chat.completion",
        "created": created,
        "model": model if isinstance(model, str) else "",
        "choices": [choice],
        "usage": chat_usage(usage),
    }
    tier = chat_tier(usage)
    return reply if tier is None else {**reply, "service_tier": tier}


def _message(said: Block, names: ToolNames) -> Block:
    texts: list[str] = []
    thoughts: list[Block] = []
    calls: list[Block] = []
    notes: list[Block] = []
    content = said.get("content")
    for block in content if isinstance(content, list) else ():
        if not isinstance(block, dict):
            continue
        match block.get("type"):
            case "text" if isinstance(block.get("text"), str):
                start = sum(map(len, texts))
                texts.append(block["text"])
                notes.extend(_notes(block.get("citations"), start, start + len(block["text"])))
            case "thinking" | "redacted_thinking":
                thoughts.append(block)
            case "tool_use":
                calls.append(_call(block, names))
    text = "".join(texts)
    message: Block = {"role": "assistant", "content": text or (None if calls else "")}
    refused = said.get("stop_reason") == "refusal"
    message["refusal"] = explanation(said.get("stop_details")) if refused else None
    reasoning = "".join(
        word for word in (block.get("thinking") for block in thoughts) if isinstance(word, str)
    )
    if reasoning:
        message["reasoning_content"] = reasoning
    if thoughts:
        message["thinking_blocks"] = thoughts
    if calls:
        message["tool_calls"] = calls
    if notes:
        message["annotations"] = notes
    return message


def _call(block: Block, names: ToolNames) -> Block:
    name, given = block.get("name"), block.get("input")
    arguments = encode(given if isinstance(given, dict) else {}).decode()
    function = {"name": names.back(name) if isinstance(name, str) else "", "arguments": arguments}
    return {"id": str(block.get("id") or ""), "type": "function", "function": function}


def _notes(citations: object, start: int, end: int) -> list[Block]:
    found = (annotation(item, start, end) for item in citations) if isinstance(citations, list) else ()
    return [note for note in found if note is not None]


def annotation(citation: object, start: int, end: int) -> Block | None:
    """A citation of a page as OpenAI's annotation of these characters; None for one of a document."""
    if not isinstance(citation, dict) or not isinstance(citation.get("url"), str):
        return None
    title = citation.get("title")
    cited = {"url": citation["url"], "title": title if isinstance(title, str) else ""}
    return {"type": "url_citation", "url_citation": {**cited, "start_index": start, "end_index": end}}
