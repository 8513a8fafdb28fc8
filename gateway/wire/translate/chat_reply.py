"""PURE: a chat completion as one of Anthropic's messages."""

from __future__ import annotations

from typing import Any

from gateway.wire.translate.chat_turns import arguments_of
from gateway.wire.translate.names import ToolNames, message_id
from gateway.wire.translate.reasons import stop_details, stop_reason
from gateway.wire.translate.tokens import messages_usage

Block = dict[str, Any]


def message_reply(said: Any, stops: list[str], names: ToolNames) -> dict[str, Any]:
    """The whole reply, of the first choice. `stops` are the client's; nothing in `said` raises."""
    said = said if isinstance(said, dict) else {}
    choices = said.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    choice = first if isinstance(first, dict) else {}
    found = choice.get("message")
    message = found if isinstance(found, dict) else {}
    refusal = text_of(message.get("refusal"))
    tail = message_id(said.get("id")).removeprefix("msg_")
    calls = _calls(message, names, tail)
    reason = stop_reason(choice.get("finish_reason"), called=bool(calls), refused=bool(refusal))
    model = said.get("model")
    return {
        "id": message_id(said.get("id")),
        "type": "message",
        "role": "assistant",
        "model": model if isinstance(model, str) else "",
        "content": [*thoughts_of(message), *_texts(message, refusal), *calls],
        **ending(reason, choice.get("stop_reason"), stops, refusal),
        "usage": messages_usage(said.get("usage")),
    }


def ending(reason: str, stopped_by: object, stops: list[str], refusal: str) -> dict[str, Any]:
    """The reason of the end and what belongs to it. vLLM tells by which string an answer was stopped."""
    sequence = None
    if reason == "end_turn" and isinstance(stopped_by, str) and stopped_by in stops:
        reason, sequence = "stop_sequence", stopped_by
    ends: dict[str, Any] = {"stop_reason": reason, "stop_sequence": sequence}
    if reason == "refusal":
        ends["stop_details"] = stop_details(refusal)
    return ends


def text_of(content: object) -> str:
    """The text of a string, or of parts as some servers send them."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    found = (part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text")
    return "".join(text for text in found if isinstance(text, str))


def reasoning_of(message: Block) -> str:
    """The words of the thinking, under either of the names that are in use."""
    return text_of(message.get("reasoning_content")) or text_of(message.get("reasoning"))


def signed_thoughts(message: Block) -> list[Block]:
    """Whole blocks of thinking with their signatures, from a server that has passed on Anthropic's."""
    found: list[Block] = []
    items = message.get("thinking_blocks")
    for item in items if isinstance(items, list) else ():
        block = item if isinstance(item, dict) else {}
        thinking, signature, data = block.get("thinking"), block.get("signature"), block.get("data")
        if block.get("type") == "thinking" and isinstance(thinking, str) and isinstance(signature, str):
            found.append({"type": "thinking", "thinking": thinking, "signature": signature})
        elif block.get("type") == "redacted_thinking" and isinstance(data, str):
            found.append({"type": "redacted_thinking", "data": data})
    return found


def thoughts_of(message: Block) -> list[Block]:
    """Blocks of thinking. What OpenAI's kind of server thinks bears no signature: it is empty."""
    signed = signed_thoughts(message)
    if any(block["type"] == "thinking" for block in signed):
        return signed
    words = reasoning_of(message)
    unsigned = [{"type": "thinking", "thinking": words, "signature": ""}] if words else []
    return [*unsigned, *signed]


def _texts(message: Block, refusal: str) -> list[Block]:
    return [{"type": "text", "text": text} for text in (text_of(message.get("content")), refusal) if text]


def _calls(message: Block, names: ToolNames, tail: str) -> list[Block]:
    made: list[Block] = []
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            continue
        name, arguments = function.get("name"), function.get("arguments")
        given = arguments if isinstance(arguments, dict) else arguments_of(text_of(arguments))
        block: Block = {"type": "tool_use", "id": str(call.get("id") or f"toolu_{tail}_{len(made)}")}
        made.append({**block, "name": names.back(name) if isinstance(name, str) else "", "input": given})
    return made
