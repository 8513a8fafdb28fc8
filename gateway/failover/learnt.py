"""PURE: what the refusals of a target teach of its abilities, for a while."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from gateway.failover.ability import Ability
from gateway.failover.outcome import Failure, Outcome
from gateway.wire.failure import WireError
from gateway.wire.needs import Needs
from gateway.wire.phrases import unable

UNABLE_S = 600.0  # a server may have been started anew with another model or other options
CONTEXT_S = 3600.0  # the same, but the number was its own
KEYS = 1024

_NUMBER = r"(\d[\d,_]*)"
# The whole context, prompt and answer together. Limits of the prompt alone (xAI's "maximum prompt length",
# Google's "input token count") are no such number: the answer does not count against them.
_CONTEXT = re.compile(
    "|".join(
        (
            rf"maximum context length (?:is |of |\()(?:only )?{_NUMBER}",
            rf"maximum model length (?:is |of ){_NUMBER}",
            rf"with {_NUMBER} maximum context length",
            rf"\bcontext (?:length|size|window) (?:is |of )(?:only )?{_NUMBER}",
            rf"\bcontext (?:length|size|window) \({_NUMBER} tokens?\)",
            rf"tokens > {_NUMBER} maximum",
            rf"exceed context limit: [\d,]+ \+ [\d,]+ > {_NUMBER}",
            rf"max_new_tokens`? must be <= {_NUMBER}",
            rf"exceeded model token limit: {_NUMBER}",
            rf"\bn_ctx[\"'`]?\s*[:=(]?\s*{_NUMBER}",
        )
    ),
    re.IGNORECASE,
)
_N_CTX = re.compile(rb'"n_ctx"\s*:\s*([0-9]{1,9})')
_SMALLEST, _LARGEST = 64, 100_000_000  # a number outside is none of a context
_ASKED = {"vision": "images", "tools": "tools", "json": "json", "prefill": "prefill"}
_REFUSALS = frozenset({Outcome.UNSUPPORTED, Outcome.CLIENT_FAULT})


@dataclass(slots=True)
class _Facts:
    """Each is believed until its time."""

    context: int = 0
    context_until: float = 0.0
    size: int = 0
    size_until: float = 0.0
    unable_until: dict[str, float] = field(default_factory=dict)


class Learnt:
    """What each backend's models were found unable to do. Of more than a thousand the one that was
    taught longest ago is forgotten. Times are seconds of any clock that only goes on.
    """

    def __init__(self) -> None:
        self._facts: dict[tuple[str, str], _Facts] = {}

    def note(self, backend: str, model: str, failure: Failure, needs: Needs, now: float) -> None:
        """An attempt of a request with these needs failed. Only a target's own refusal teaches anything,
        and only of what the request has asked for.
        """
        if failure.status is None or failure.status < 400:
            return
        if failure.outcome is Outcome.CONTEXT_TOO_LONG:
            context = _context_of(failure)
            facts = self._at(backend, model)
            if context is not None:
                facts.context, facts.context_until = context, now + CONTEXT_S
            elif needs.size > 0:
                known = facts.size if facts.size_until > now else needs.size
                facts.size, facts.size_until = min(known, needs.size), now + UNABLE_S
        elif failure.outcome in _REFUSALS:
            error = WireError(message=failure.message, code=failure.code, param=failure.param)
            what = unable(error)
            if what and getattr(needs, _ASKED[what]):
                self._at(backend, model).unable_until[what] = now + UNABLE_S

    def lacks_responses(self, backend: str, model: str, now: float) -> None:
        """It has no Responses API: it is asked as a chat instead."""
        self._at(backend, model).unable_until["responses"] = now + UNABLE_S

    def ability(self, backend: str, model: str, declared: Ability, now: float) -> Ability:
        """What is declared of a target, and where nothing is, what was learnt of it."""
        facts = self._facts.get((backend, model))
        if facts is None:
            return declared
        news: dict[str, bool | int] = {
            name: False
            for name, until in facts.unable_until.items()
            if until > now and getattr(declared, name) is None
        }
        if declared.context is None:
            if facts.context_until > now:
                news["context"] = facts.context
            if facts.size_until > now:
                news["size"] = facts.size
        return replace(declared, **news) if news else declared  # type: ignore[arg-type]

    def _at(self, backend: str, model: str) -> _Facts:
        key = (backend, model)
        facts = self._facts.pop(key, None) or _Facts()
        self._facts[key] = facts  # the last of all
        if len(self._facts) > KEYS:
            del self._facts[next(iter(self._facts))]
        return facts


def _context_of(failure: Failure) -> int | None:
    """The length of the context, where the refusal names it."""
    found = _CONTEXT.search(failure.message)
    if found is not None:
        number = int(re.sub(r"\D", "", next(group for group in found.groups() if group))[:12])
    else:
        said = _N_CTX.search(failure.body[:65536]) if failure.body else None
        if said is None:
            return None
        number = int(said[1])
    return number if _SMALLEST <= number <= _LARGEST else None
