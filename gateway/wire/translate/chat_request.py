"""PURE: a chat request as a request for one of Anthropic's messages."""

from __future__ import annotations

from typing import Any

from gateway.wire.translate.chat_turns import Conversation, conversation_of
from gateway.wire.translate.effort import EFFORTS, NO_SAMPLING, Thinking, claude_version, thinking_of
from gateway.wire.translate.fields import Changes, Fields, no_way, wrong
from gateway.wire.translate.names import MESSAGES_USER, ToolNames, user_name
from gateway.wire.translate.schema import format_for_messages
from gateway.wire.translate.tools import tools_for_messages

MAX_TOKENS = 16384  # where a chat sets no limit; Anthropic wants one, and every Claude since 3.7 can do this
_ONE_SAMPLER = (4, 1)  # from here on either temperature or top_p is taken, not both
_TIERS = {"auto": "auto", "default": "standard_only"}
_MEANINGFUL = {  # without these the answer is another one than was asked for
    "audio": "only text is known on both sides",
    "web_search_options": "this target has no such search",
    "functions": "send tools instead",
    "function_call": "send tool_choice instead",
}


def messages_request(asked: Fields, names: ToolNames, changes: Changes, max_tokens: int) -> dict[str, Any]:
    """The fields of the request; `max_tokens` is the limit where the client sets none."""
    _refuse_others(asked)
    model = asked.text("model") or ""
    version = claude_version(model)
    talk = conversation_of(asked, version, names, changes)
    made: dict[str, Any] = {"model": model, "max_tokens": max_tokens}
    if talk.system is not None:
        made["system"] = talk.system
    made["messages"] = talk.messages
    made.update(tools_for_messages(asked, names, changes))
    limit = _limit(asked)
    choice = made.get("tool_choice")
    thinking = _thinking(asked, talk, changes, version=version, limit=limit, choice=choice)
    _put_limit(made, limit, thinking, changes)
    made.update(thinking.fields)
    form = format_for_messages(asked, changes)
    if form is not None:
        made["output_config"] = {**made.get("output_config", {}), "format": form}
    made.update(_sampling(asked, version, thinking, changes))
    made.update(_stops(asked))
    made.update(_user(asked, changes))
    tier = asked.take("service_tier")
    if tier is not None:
        if isinstance(tier, str) and tier in _TIERS:
            made["service_tier"] = _TIERS[tier]
        else:
            changes.note("service_tier")
    if asked.flag("stream"):
        made["stream"] = True
    _drop_silent(asked)
    asked.drop_rest(changes)
    return made


def _refuse_others(asked: Fields) -> None:
    if (asked.integer("n") or 1) > 1:
        raise no_way("n", "it gives one answer at a time")
    if asked.flag("logprobs") or asked.integer("top_logprobs"):
        raise no_way("logprobs", "it tells no probabilities")
    if asked.take("modalities") not in (None, ["text"]):
        raise no_way("modalities", "only text is known on both sides")
    for name, why in _MEANINGFUL.items():
        if asked.take(name) is not None:
            raise no_way(name, why)


def _limit(asked: Fields) -> int | None:
    limits = [asked.integer("max_completion_tokens"), asked.integer("max_tokens")]
    return min((limit for limit in limits if limit is not None), default=None)


def _put_limit(made: dict[str, Any], limit: int | None, thinking: Thinking, changes: Changes) -> None:
    if limit is not None:
        made["max_tokens"] = limit
        return
    changes.note("max_tokens")
    made["max_tokens"] += thinking.fields.get("thinking", {}).get("budget_tokens", 0)


def _thinking(
    asked: Fields,
    talk: Conversation,
    changes: Changes,
    *,
    version: tuple[int, int],
    limit: int | None,
    choice: dict[str, Any] | None,
) -> Thinking:
    effort = asked.take("reasoning_effort")
    if effort is None:
        return Thinking({}, on=False)
    if effort not in EFFORTS:
        raise wrong("reasoning_effort", " or ".join(EFFORTS), effort)
    thinking = thinking_of(effort, version, limit)
    forced = choice is not None and choice["type"] in ("any", "tool")
    budget = "budget_tokens" in thinking.fields.get("thinking", {})
    if thinking.on and (forced or (budget and talk.lacks_thinking)):  # both would be refused
        del thinking.fields["thinking"]
        thinking.on = thinking.exact = False
    if not thinking.exact:
        changes.note("reasoning_effort")
    return thinking


def _sampling(
    asked: Fields, version: tuple[int, int], thinking: Thinking, changes: Changes
) -> dict[str, Any]:
    """What of the sampling can be had: none of it with the newest models, little of it while thinking."""
    temperature, top_p, top_k = asked.number("temperature"), asked.number("top_p"), asked.integer("top_k")
    fixed = version >= NO_SAMPLING
    made: dict[str, Any] = {}
    if temperature is not None:
        if fixed or thinking.on:
            _note_unless(temperature == 1, "temperature", changes)
        else:
            _note_unless(temperature <= 1, "temperature", changes)
            made["temperature"] = min(temperature, 1)
    if top_p is not None and top_p != 1:
        taken = top_p >= 0.95 if thinking.on else (version < _ONE_SAMPLER or "temperature" not in made)
        if taken and not fixed:
            made["top_p"] = top_p
        else:
            changes.note("top_p")
    if top_k is not None:
        if fixed or thinking.on:
            changes.note("top_k")
        else:
            made["top_k"] = top_k
    return made


def _note_unless(same: bool, name: str, changes: Changes) -> None:
    if not same:
        changes.note(name)


def _stops(asked: Fields) -> dict[str, Any]:
    stop = asked.take("stop")
    stops = [stop] if isinstance(stop, str) else stop
    if not stops:
        return {}
    if not isinstance(stops, list) or not all(isinstance(item, str) for item in stops):
        raise wrong("stop", "a string or a list of strings", stop)
    if not all(item.strip() for item in stops):
        raise no_way("stop", "each stop sequence must hold more than white space")
    return {"stop_sequences": stops}


def _user(asked: Fields, changes: Changes) -> dict[str, Any]:
    user, safety = asked.text("user"), asked.text("safety_identifier")
    if user and safety and user != safety:
        changes.note("safety_identifier")
    name = user or safety
    if not name:
        return {}
    field = "user" if user else "safety_identifier"
    return {"metadata": {"user_id": user_name(name, MESSAGES_USER, field, changes)}}


def _drop_silent(asked: Fields) -> None:
    """Take what asks for nothing, so that it isn't listed: defaults, and the padding of streams."""
    for name in ("frequency_penalty", "presence_penalty", "store"):
        if asked.left.get(name) in (0, False):
            asked.take(name)
    asked.take("stream_options")
