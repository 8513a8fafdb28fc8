"""PURE: the JSON of chats: chat.completion, and the chunks of a stream.

Chunks are put together from bytes that are the same for the whole stream, because one is made
for every token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from gateway.local.mailbox import CallBegan, CallDelta, Delta, Ended, Finished, Likely, TokenProb

DONE = b"[DONE]"
_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Collected:
    """One answer as far as it has come, for those who want it whole."""

    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: list[tuple[CallBegan, list[str]]] = field(default_factory=list)
    probs: list[TokenProb] = field(default_factory=list)
    reason: str = "stop"
    stop: str | None = None  # the string that it was stopped by

    def take(self, event: Delta | CallBegan | CallDelta | Ended) -> None:
        match event:
            case Delta():
                (self.reasoning if event.reasoning else self.text).append(event.text)
                self.probs += event.probs
            case CallBegan():
                self.calls.append((event, []))
            case CallDelta():
                self.calls[event.index][1].append(event.text)
            case _:
                self.reason, self.stop = event.reason, event.stop


class Answer(Protocol):
    """The JSON of one reply, whichever call it answers."""

    def opening(self, choices: int) -> Sequence[bytes]:
        """What a stream begins with; nothing of the answer."""

    def delta(self, event: Delta) -> bytes: ...

    def call_began(self, event: CallBegan) -> bytes: ...

    def call_delta(self, event: CallDelta) -> bytes: ...

    def ended(self, event: Ended) -> bytes: ...

    def usage(self, event: Finished) -> bytes:
        """The last chunk, for those who asked for it."""

    def whole(self, answers: Sequence[Collected], event: Finished) -> bytes: ...


class Frame:
    """What is the same in all chunks of a stream, and of which calls it speaks."""

    __slots__ = ("closing", "head", "noun", "values")

    def __init__(self, noun: str, *, stream: bool, include_usage: bool, **values: Any) -> None:
        self.noun = noun
        self.values = {"id": values.pop("answer_id"), "object": noun, **values}
        self.head = _encode(self.values)[:-1]
        self.closing = b',"usage":null}' if stream and include_usage else b"}"

    def last(self, event: Finished) -> bytes:
        return b"".join((self.head, b',"choices":[],"usage":', _encode(usage(event)), b"}"))

    def whole(self, choices: Sequence[Any], event: Finished) -> bytes:
        return _encode({**self.values, "choices": choices, "usage": usage(event)})


class ChatAnswer:
    """An answer of /v1/chat/completions."""

    __slots__ = ("_frame", "_probs", "_starts", "_tail")

    def __init__(self, *, stream: bool, include_usage: bool, probs: bool, **values: Any) -> None:
        noun = "chat.completion.chunk" if stream else "chat.completion"
        self._frame = Frame(noun, stream=stream, include_usage=include_usage, **values)
        self._probs = probs
        self._tail = b'},"logprobs":null,"finish_reason":null}]' + self._frame.closing
        self._starts: dict[int, bytes] = {}

    def opening(self, choices: int) -> list[bytes]:
        """One chunk for each choice that says who speaks."""
        opened = b'"role":"assistant","content":""'
        return [b"".join((self._start(choice), opened, self._tail)) for choice in range(choices)]

    def delta(self, event: Delta) -> bytes:
        key = b'"reasoning_content":' if event.reasoning else b'"content":'
        tail = self._tail
        if event.probs:
            tail = b'},"logprobs":' + _encode(_chat_probs(event.probs)) + b',"finish_reason":null}]'
            tail += self._frame.closing
        return b"".join((self._start(event.choice), key, _encode(event.text), tail))

    def call_began(self, event: CallBegan) -> bytes:
        call = {"index": event.index, **_call(event, "")}
        return b"".join((self._start(event.choice), b'"tool_calls":', _encode([call]), self._tail))

    def call_delta(self, event: CallDelta) -> bytes:
        call = {"index": event.index, "function": {"arguments": event.text}}
        return b"".join((self._start(event.choice), b'"tool_calls":', _encode([call]), self._tail))

    def ended(self, event: Ended) -> bytes:
        end = b'},"logprobs":null,"finish_reason":' + _encode(event.reason)
        if event.stop is not None:  # in vLLM's words; OpenAI has none, and Anthropic's clients want to know
            end += b',"stop_reason":' + _encode(event.stop)
        end += b"}]"
        return b"".join((self._start(event.choice), end, self._frame.closing))

    def usage(self, event: Finished) -> bytes:
        return self._frame.last(event)

    def whole(self, answers: Sequence[Collected], event: Finished) -> bytes:
        return self._frame.whole([self._choice(i, answer) for i, answer in enumerate(answers)], event)

    def _choice(self, index: int, answer: Collected) -> dict[str, Any]:
        text, reasoning = "".join(answer.text), "".join(answer.reasoning)
        message: dict[str, Any] = {"role": "assistant", "content": text or (None if answer.calls else "")}
        message["refusal"] = None
        if reasoning:
            message["reasoning_content"] = reasoning
        if answer.calls:
            message["tool_calls"] = [_call(began, "".join(parts)) for began, parts in answer.calls]
        probs = _chat_probs(answer.probs) if self._probs else None
        made = {"index": index, "message": message, "logprobs": probs, "finish_reason": answer.reason}
        return made if answer.stop is None else {**made, "stop_reason": answer.stop}

    def _start(self, choice: int) -> bytes:
        found = self._starts.get(choice)
        if found is None:
            found = self._frame.head + b',"choices":[{"index":%d,"delta":{' % choice
            self._starts[choice] = found
        return found


class TextAnswer:
    """An answer of /v1/completions."""

    __slots__ = ("_frame", "_offsets", "_probs")

    def __init__(self, *, stream: bool, include_usage: bool, probs: bool, **values: Any) -> None:
        self._frame = Frame("text_completion", stream=stream, include_usage=include_usage, **values)
        self._probs = probs
        self._offsets: dict[int, int] = {}  # characters that each choice has so far

    def opening(self, choices: int) -> list[bytes]:
        return []

    def delta(self, event: Delta) -> bytes:
        offset = self._offsets.get(event.choice, 0)
        self._offsets[event.choice] = offset + len(event.text)
        probs = _text_probs(event.probs, offset) if event.probs else None
        return self._chunk(event.choice, event.text, probs, None)

    def call_began(self, event: CallBegan) -> bytes:
        raise AssertionError("completions have no tools")

    def call_delta(self, event: CallDelta) -> bytes:
        raise AssertionError("completions have no tools")

    def ended(self, event: Ended) -> bytes:
        return self._chunk(event.choice, "", None, event.reason)

    def usage(self, event: Finished) -> bytes:
        return self._frame.last(event)

    def whole(self, answers: Sequence[Collected], event: Finished) -> bytes:
        choices = [
            _text_choice(
                index,
                "".join(answer.text),
                _text_probs(answer.probs, 0) if self._probs else None,
                answer.reason,
            )
            for index, answer in enumerate(answers)
        ]
        return self._frame.whole(choices, event)

    def _chunk(self, choice: int, text: str, probs: Any, reason: str | None) -> bytes:
        made = _encode([_text_choice(choice, text, probs, reason)])
        return b"".join((self._frame.head, b',"choices":', made, self._frame.closing))


def _text_choice(index: int, text: str, probs: Any, reason: str | None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": probs, "finish_reason": reason}


def _call(began: CallBegan, arguments: str) -> dict[str, Any]:
    function = {"name": began.name, "arguments": arguments}
    return {"id": began.call_id, "type": "function", "function": function}


def _chat_probs(probs: Sequence[TokenProb]) -> dict[str, Any]:
    content = [
        {**_chat_prob(prob.token), "top_logprobs": [_chat_prob(likely) for likely in prob.top]}
        for prob in probs
    ]
    return {"content": content, "refusal": None}


def _chat_prob(likely: Likely) -> dict[str, Any]:
    return {"token": likely.text, "logprob": likely.logprob, "bytes": list(likely.raw)}


def _text_probs(probs: Sequence[TokenProb], offset: int) -> dict[str, Any]:
    """The older form: lists side by side. Offsets count characters of the text so far."""
    offsets = []
    for prob in probs:
        offsets.append(offset)
        offset += len(prob.token.text)
    return {
        "tokens": [prob.token.text for prob in probs],
        "token_logprobs": [prob.token.logprob for prob in probs],
        "top_logprobs": [{likely.text: likely.logprob for likely in prob.top} for prob in probs],
        "text_offset": offsets,
    }


def usage(event: Finished) -> dict[str, Any]:
    """What a request cost, in OpenAI's words."""
    return {
        "prompt_tokens": event.prompt_tokens,
        "completion_tokens": event.completion_tokens,
        "total_tokens": event.prompt_tokens + event.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": event.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": event.reasoning_tokens},
    }
