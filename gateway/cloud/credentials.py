"""The field that shows an upstream our credential: opened at the last moment, for the right place only.

Opening costs two decryptions, so the finished field is remembered per credential until its version
or the upstream's style changes; an older version is forgotten at once. Opening is synchronous, so
concurrent first uses can't do it twice.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from gateway.errors import SecretError
from gateway.snapshot import AuthStyle, Credential, Upstream
from gateway.telemetry.redact import hide

_KEPT = 256


class SecretLike(Protocol):
    """A secret that shows itself only when asked by name."""

    def reveal(self) -> str: ...


class Credentials:
    """Makes authentication fields out of sealed credentials."""

    def __init__(self, unseal: Callable[[Credential], SecretLike]) -> None:
        self._unseal = unseal
        self._fields: OrderedDict[int, tuple[int, AuthStyle, bytes, bytes]] = OrderedDict()

    def field(self, upstream: Upstream, credential: Credential | None) -> bytes:
        """The field as it goes over the wire, with its line end; empty where none is wanted.

        Raises SecretError when the credential is missing, can't be opened, or was given for another
        upstream or URL than the one it would now be sent to.
        """
        if upstream.auth is AuthStyle.NONE:
            return b""
        if credential is None:
            raise SecretError(
                f"upstream {upstream.name} wants a credential and has none; "
                f"add one with `mlx-gateway credentials add {upstream.name}`"
            )
        if credential.upstream != upstream.name or credential.base_url != upstream.base_url:
            raise SecretError(
                f"credential {credential.name} was given for another address than upstream "
                f"{upstream.name} now has; enter it again"
            )
        known = self._fields.get(credential.id)
        if known is not None:
            version, style, sealed, line = known
            # Versions start again where a row was removed and its id used again: the record tells.
            if version == credential.version and style is upstream.auth and sealed == credential.sealed:
                return line
            del self._fields[credential.id]
        secret = self._unseal(credential).reveal()
        hide(secret)  # whatever it looks like, no log line will show it
        line = _line(upstream.auth, secret, credential)
        self._fields[credential.id] = (credential.version, upstream.auth, credential.sealed, line)
        if len(self._fields) > _KEPT:
            self._fields.popitem(last=False)
        return line

    def forget(self) -> None:
        """Drop every opened secret, for instance when the master key has changed."""
        self._fields.clear()

    def __repr__(self) -> str:
        return f"<Credentials {len(self._fields)} opened>"


def _line(style: AuthStyle, secret: str, credential: Credential) -> bytes:
    if not secret or not secret.isascii() or not secret.isprintable():
        raise SecretError(
            f"credential {credential.name} of upstream {credential.upstream} is empty or holds characters "
            "that no key has; enter it again"
        )
    match style:
        case AuthStyle.BEARER:
            return f"authorization: Bearer {secret}\r\n".encode("ascii")
        case AuthStyle.X_API_KEY:
            return f"x-api-key: {secret}\r\n".encode("ascii")
        case AuthStyle.API_KEY:
            return f"api-key: {secret}\r\n".encode("ascii")
        case AuthStyle.NONE:
            return b""
