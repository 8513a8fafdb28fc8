"""The operation that says where a request would go, without sending it."""

from __future__ import annotations

import re
from typing import Any

from gateway.admin.context import Args, Context, Table
from gateway.errors import RefusedError, RequestError
from gateway.routing.explain import explain as explain_rules
from gateway.routing.name import is_name, wrong_with
from gateway.routing.rule import LOCAL
from gateway.routing.table import Aim
from gateway.snapshot import AuthStyle, Snapshot
from gateway.store import shown

TABLE = Table("explain")


class Explain(Args):
    """The model name that a request would carry, and what else is known of it."""

    model: str
    body: dict[str, Any] | None = None
    path: str = ""


@TABLE.verb("", Explain, reads=True)
async def run(context: Context, args: Explain) -> object:
    """Say which rule a model name resolves to and what would be tried, in order."""
    if not is_name(args.model):
        raise RefusedError(wrong_with(args.model))
    if args.path and not re.fullmatch(r"/v1(/[A-Za-z0-9._-]+)+", args.path):
        raise RefusedError(f"path must be one as /v1/chat/completions, not {args.path[:80]!r}")
    if context.live is not None:
        try:
            return await context.live.explain(args.model, args.body, args.path)
        except RequestError as error:
            raise RefusedError(f"this body can't be sent: {error.message}") from error
    return explain(context.store.snapshot, args.model)


def explain(snapshot: Snapshot, model: str) -> dict[str, Any]:
    """What the configuration alone says of a name; a running daemon adds what it knows of health."""
    explained = explain_rules(snapshot.rules, model)
    route = explained.route
    policy = snapshot.policies[route.policy_name]
    return {
        "model": model,
        "summary": explained.summary,
        "generation": snapshot.generation,
        "rule": None if route.rule is None else shown.rule(route.rule),
        "policy": shown.policy(policy),
        "locality": "local-only" if policy.stay_local else "anywhere",
        "targets": [_target(snapshot, aim, stay_local=policy.stay_local) for aim in route.aims],
        "considered": [
            {
                "rule": judged.rule.id,
                "pattern": judged.rule.pattern,
                "priority": judged.rule.priority,
                "standing": str(judged.standing),
                "reason": judged.reason,
            }
            for judged in explained.judged
        ],
    }


def _target(snapshot: Snapshot, aim: Aim, *, stay_local: bool) -> dict[str, Any]:
    reason = _unusable(snapshot, aim, stay_local=stay_local)
    return {
        "target": aim.label,
        "backend": aim.backend,
        "model": aim.model,
        "usable": reason is None,
        "reason": reason,
    }


def _unusable(snapshot: Snapshot, aim: Aim, *, stay_local: bool) -> str | None:
    if aim.backend == LOCAL:
        return None
    if stay_local:
        return "the policy keeps requests on this machine"
    upstream = snapshot.upstreams.get(aim.backend)
    if upstream is None:
        return "there is no such upstream"
    if not upstream.enabled:
        return "the upstream is disabled"
    held = snapshot.credentials.get(aim.backend, ())
    if upstream.auth is not AuthStyle.NONE and not any(credential.enabled for credential in held):
        return f"the upstream has no credential; mlx-gateway credentials add {aim.backend}"
    return None
