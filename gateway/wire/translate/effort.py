"""PURE: how much a model is to think: OpenAI's reasoning_effort, Anthropic's effort and budgets.

                    Claude before 4.6      Claude from 4.6 on           and back
    none            no thinking            thinking off, or effort low  -
    minimal         budget  1024           adaptive, effort low         -
    low             budget  2048           adaptive, effort low         effort low, or below  4096
    medium          budget  8192           adaptive, effort medium      medium,     below 16384
    high            budget 16384           adaptive, effort high        high,       and above
    xhigh, max      budget 32768           adaptive, effort xhigh, max  xhigh, max

Claude before 4.6 knows budgets only, from 4.7 on there are none, and sampling can't be changed either;
4.6 itself has no xhigh and is told high.
A budget counts towards the longest answer, so one that is too large for it is made smaller. A name
without a Claude version is taken for an older one: whoever imitates the API imitates that.
"""

from __future__ import annotations

import re
from typing import Any

_VERSION = re.compile(r"claude-(?:[a-z]+-)*?([0-9]{1,2})(?:[.-]([0-9]{1,2}))?(?![0-9])")
LEAST_BUDGET = 1024
_BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16384, "xhigh": 32768, "max": 32768}
_EFFORTS = {
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "xhigh",
    "max": "max",
}
EFFORTS = ("none", *_BUDGETS)

ADAPTIVE = (4, 6)  # takes effort
NO_SAMPLING = (4, 7)  # refuses temperature, top_p, top_k, budgets, and a thinking that is switched off
SYSTEM_TURNS = (4, 8)  # takes system messages in the middle


def claude_version(model: str) -> tuple[int, int]:
    """The version in a Claude model's name, (0, 0) without one."""
    found = _VERSION.search(model.lower())
    return (int(found[1]), int(found[2] or 0)) if found else (0, 0)


class Thinking:
    """What a chat's effort became: fields for the request; `exact` if nothing was lost on the way."""

    __slots__ = ("exact", "fields", "on")

    def __init__(self, fields: dict[str, Any], *, on: bool, exact: bool = True) -> None:
        self.fields = fields
        self.on = on
        self.exact = exact


def thinking_of(effort: str, version: tuple[int, int], max_tokens: int | None) -> Thinking:
    """The thinking that an effort stands for; `max_tokens` is None where the client set no limit."""
    if effort == "none":
        if version >= NO_SAMPLING:
            return Thinking({"output_config": {"effort": "low"}}, on=False, exact=False)
        return Thinking({"thinking": {"type": "disabled"}} if version >= ADAPTIVE else {}, on=False)
    if version >= ADAPTIVE:
        level = "high" if effort == "xhigh" and version < NO_SAMPLING else _EFFORTS[effort]
        fields = {"thinking": {"type": "adaptive"}, "output_config": {"effort": level}}
        return Thinking(fields, on=True, exact=level == effort)
    budget = _BUDGETS[effort]
    if max_tokens is not None and budget > max_tokens // 2:
        budget = max_tokens // 2
    if budget < LEAST_BUDGET:
        return Thinking({}, on=False, exact=False)
    exact = budget == _BUDGETS[effort]
    return Thinking({"thinking": {"type": "enabled", "budget_tokens": budget}}, on=True, exact=exact)


def effort_of_budget(budget: int) -> str:
    """The effort that a budget is closest to."""
    if budget < 4096:
        return "low"
    return "medium" if budget < 16384 else "high"
