"""PURE: a request for one of Anthropic's messages as a chat request."""

from __future__ import annotations

from typing import Any

from gateway.wire.translate.effort import EFFORTS, effort_of_budget
from gateway.wire.translate.fields import Changes, Fields, no_way, wrong
from gateway.wire.translate.messages_turns import Manner, chat_messages
from gateway.wire.translate.names import CHAT_USER, user_name
from gateway.wire.translate.schema import format_for_chat
from gateway.wire.translate.tools import tools_for_chat

_MOST_STOPS = 4  # OpenAI takes no more
_TIERS = {"auto": "auto", "standard_only": "default"}
_LOCAL_EFFORTS = {"xhigh": "high", "max": "high"}  # what templates know


def chat_request(asked: Fields, manner: Manner, limit_field: str) -> dict[str, Any]:
    """The fields of the request; `limit_field` is what the target calls the longest answer."""
    changes, local = manner.changes, manner.local
    if asked.take("mcp_servers"):
        raise no_way("mcp_servers", "the provider's own tools are known to that provider only")
    _refuse_held(asked, changes)
    made: dict[str, Any] = {"model": asked.text("model") or "", "messages": chat_messages(asked, manner)}
    limit = asked.integer("max_tokens")
    if limit is not None:
        made[limit_field] = limit
    made.update(tools_for_chat(asked, manner.names, changes))
    made.update(_thinking(asked, changes, local=local))
    made.update(_sampling(asked, changes, local=local))
    made.update(_stops(asked, local=local))
    made.update(_user(asked, changes))
    tier = asked.take("service_tier")
    if isinstance(tier, str) and tier in _TIERS:
        made["service_tier"] = _TIERS[tier]
    elif tier is not None:
        changes.note("service_tier")
    if asked.flag("stream"):
        made["stream"] = True
        made["stream_options"] = {"include_usage": True}  # Anthropic's streams always tell
    asked.drop_rest(changes)
    return made


def _refuse_held(asked: Fields, changes: Changes) -> None:
    """A conversation that is to be kept by the provider is still whole when it begins; later it is not."""
    thread = asked.fields("thread")
    if thread is None:
        return
    if thread.take("type") != "create":
        raise no_way("thread", "the turns before are kept by another provider; send the whole conversation")
    changes.note("thread")


def _sampling(asked: Fields, changes: Changes, *, local: bool) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name in ("temperature", "top_p"):
        value = asked.number(name)
        if value is not None:
            made[name] = value
    top_k = asked.integer("top_k")
    if top_k is not None and local:
        made["top_k"] = top_k
    elif top_k is not None:
        changes.note("top_k")
    return made


def _stops(asked: Fields, *, local: bool) -> dict[str, Any]:
    stops = asked.array("stop_sequences")
    if not stops:
        return {}
    if not all(isinstance(stop, str) for stop in stops):
        raise wrong("stop_sequences", "a list of strings", stops)
    if len(stops) > _MOST_STOPS and not local:
        raise no_way("stop_sequences", f"it takes at most {_MOST_STOPS}, not {len(stops)}")
    return {"stop": stops}


def _user(asked: Fields, changes: Changes) -> dict[str, Any]:
    metadata = asked.fields("metadata")
    if metadata is None:
        return {}
    user = metadata.text("user_id")
    metadata.drop_rest(changes)
    return {"user": user_name(user, CHAT_USER, "metadata.user_id", changes)} if user else {}


def _thinking(asked: Fields, changes: Changes, *, local: bool) -> dict[str, Any]:
    """`thinking`, `output_config` and the older `output_format`."""
    config = asked.fields("output_config") or Fields("output_config", {})
    made: dict[str, Any] = {}
    form = config.fields("format") or asked.fields("output_format")
    if form is not None:
        made["response_format"] = format_for_chat(form, changes, local=local)
    effort = config.take("effort")
    if effort is not None and effort not in EFFORTS:
        raise wrong("output_config.effort", "low, medium, high, xhigh or max", effort)
    config.drop_rest(changes)
    on = None
    thinking = asked.fields("thinking")
    if thinking is not None:
        on, effort = _switch(thinking, effort, changes)
    made.update(_for_template(on, effort) if local else _for_cloud(on, effort, changes))
    return made


def _switch(thinking: Fields, effort: str | None, changes: Changes) -> tuple[bool, str | None]:
    """Is there to be thinking, and how much."""
    kind = thinking.take("type")
    budget = thinking.integer("budget_tokens")
    thinking.drop_rest(changes)
    if kind == "disabled":
        return False, effort
    if kind == "enabled" and budget is not None:
        changes.note("thinking.budget_tokens")
        return True, effort or effort_of_budget(budget)
    if kind not in ("enabled", "adaptive"):
        changes.note("thinking")
    return True, effort


def _for_template(on: bool | None, effort: str | None) -> dict[str, Any]:
    """For the local engine, told to the chat template, which overlooks what it doesn't know: thinking is
    allowed in Anthropic's words, not demanded, and must not keep a model from answering that has none.
    A client that says nothing of it expects none, as its first block may be all that it reads.
    """
    args: dict[str, Any] = {"enable_thinking": bool(on)}
    if effort is not None and on is not False:
        args["reasoning_effort"] = _LOCAL_EFFORTS.get(effort, effort)
    return {"chat_template_kwargs": args}


def _for_cloud(on: bool | None, effort: str | None, changes: Changes) -> dict[str, Any]:
    """For OpenAI, whose models either always think or never do: switching it off is not said."""
    if on is False:
        changes.note("thinking")
        return {}
    return {} if effort is None else {"reasoning_effort": effort}
