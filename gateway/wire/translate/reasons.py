"""PURE: why an answer ended, in either API's words."""

from __future__ import annotations

from typing import Any

_TO_CHAT = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "pause_turn": "length",  # the answer is not whole, and goes on when it is sent back
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_TO_MESSAGES = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}


def finish_reason(stop_reason: object) -> str:
    """Anthropic's reason as OpenAI's; one that is unknown is an end like any other."""
    return _TO_CHAT.get(stop_reason, "stop") if isinstance(stop_reason, str) else "stop"


def stop_reason(finish: object, *, called: bool, refused: bool) -> str:
    """OpenAI's reason as Anthropic's. Calls and refusals are there or not, whatever the reason says:
    a call that was forced by its name ends with `stop`, and so does a refusal.
    """
    reason = _TO_MESSAGES.get(finish, "end_turn") if isinstance(finish, str) else "end_turn"
    if reason in ("end_turn", "tool_use"):
        if called:
            return "tool_use"
        return "refusal" if refused else "end_turn"
    return reason


def stop_details(refusal: str) -> dict[str, Any]:
    """What Anthropic says about a refusal beside its reason."""
    return {"type": "refusal", "category": None, "explanation": refusal or None}


def explanation(details: object) -> str | None:
    """The sentence out of these details."""
    found = details.get("explanation") if isinstance(details, dict) else None
    return found if isinstance(found, str) and found else None
