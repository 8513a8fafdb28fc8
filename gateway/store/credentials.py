"""Credentials: sealed when written, and the verbs that write them."""

from __future__ import annotations

from dataclasses import replace

from gateway.errors import MissingError, RefusedError
from gateway.snapshot import AuthStyle, Credential
from gateway.store import shown, upstreams
from gateway.store.change import Change
from gateway.store.models import CredentialRow
from gateway.store.names import check_name, check_new
from gateway.store.secrets import Secret, hint_of

_WEIGHT = (1, 1000)


def find(change: Change, upstream: str, name: str) -> Credential:
    """The credential; MissingError when the upstream has none of that name."""
    upstreams.find(change, upstream)
    held = change.before.credentials.get(upstream, ())
    for credential in held:
        if credential.name == name:
            return credential
    known = ", ".join(credential.name for credential in held) or "none yet"
    raise MissingError(f"the upstream {upstream!r} has no credential {name!r}; known: {known}")


def add(change: Change, upstream: str, name: str, secret: Secret, *, weight: int = 1) -> Credential:
    """Seal a secret for an upstream. The row comes first, because the seal is bound to its id."""
    owner = upstreams.find(change, upstream)
    if owner.auth is AuthStyle.NONE:
        raise RefusedError(
            f"the upstream {upstream!r} is shown no credential (auth is none); "
            f"if it wants one: mlx-gateway upstreams set {upstream} --auth bearer"
        )
    check_name(name, "credential")
    _check_weight(weight)
    held = change.before.credentials.get(upstream, ())
    check_new(name, [credential.name for credential in held], f"credential of {upstream}")
    _make_master_key(change)
    row = CredentialRow.create(
        upstream=upstream,
        name=name,
        version=1,
        hint=hint_of(secret),
        sealed=b"",
        enabled=True,
        weight=weight,
    )
    credential = Credential(
        id=row.id,
        upstream=upstream,
        name=name,
        version=1,
        base_url=owner.base_url,
        hint=hint_of(secret),
        sealed=b"",
        weight=weight,
    )
    return _write(change, _sealed(change, credential, secret), action="add")


def put(
    change: Change,
    upstream: str,
    name: str,
    *,
    secret: Secret | None = None,
    enabled: bool | None = None,
    weight: int | None = None,
) -> Credential:
    """Give a credential a new secret or weight, or switch it. A new secret is a new version, so that nothing
    remembered of the old one (a cached header, a refusal by the upstream) is held against it.
    """
    before = find(change, upstream, name)
    after = before if enabled is None else replace(before, enabled=enabled)
    if weight is not None:
        _check_weight(weight)
        after = replace(after, weight=weight)
    if secret is not None:
        _make_master_key(change)
        after = replace(after, version=after.version + 1, hint=hint_of(secret))
        after = _sealed(change, after, secret)
    return _write(change, after, action="set", before=before)


def remove(change: Change, upstream: str, name: str) -> Credential:
    """Remove a credential; what it was is overwritten in the file."""
    credential = find(change, upstream, name)
    CredentialRow.delete().where(CredentialRow.id == credential.id).execute()
    change.record("credentials", f"{upstream}/{name}", "remove", before=dict(shown.credential(credential)))
    return credential


def _check_weight(weight: int) -> None:
    low, high = _WEIGHT
    if not low <= weight <= high:
        raise RefusedError(f"the weight must be {low} to {high}, not {weight}")


def _make_master_key(change: Change) -> None:
    """On the very first secret a master key is made; never when there are secrets it can't open."""
    if not any(change.before.credentials.values()):
        change.vault.master.make()


def _sealed(change: Change, credential: Credential, secret: Secret) -> Credential:
    sealed = change.vault.seal(
        secret, row_id=credential.id, upstream=credential.upstream, base_url=credential.base_url
    )
    return replace(credential, sealed=sealed)


def _write(
    change: Change, credential: Credential, *, action: str, before: Credential | None = None
) -> Credential:
    CredentialRow.update(
        version=credential.version,
        hint=credential.hint,
        sealed=credential.sealed,
        enabled=credential.enabled,
        weight=credential.weight,
    ).where(CredentialRow.id == credential.id).execute()
    change.record(
        "credentials",
        f"{credential.upstream}/{credential.name}",
        action,
        before=None if before is None else dict(shown.credential(before)),
        after=dict(shown.credential(credential)),
    )
    return credential
