"""Secrets at rest: sealed per row, opened at the last moment, never printed.

A record is `version 1 | id of the master key | nonce | wrapped data key | nonce | ciphertext`. Each
secret has a data key of its own, so the master key can change without re-encrypting and no key
ever seals much. Row, upstream and base URL are associated data: a record in another row, or a row
whose upstream points elsewhere now, can't be opened, so no key goes to a place it wasn't given for.
"""

from __future__ import annotations

import hmac
import json
import os
from typing import NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.errors import RefusedError, SecretError
from gateway.snapshot import Credential
from gateway.store.master import MasterKey

_VERSION = b"\x01"
_KEY_ID = 8
_NONCE = 12
_WRAPPED = 32 + 16
_HEAD = 1 + _KEY_ID + _NONCE + _WRAPPED + _NONCE
_STARS = "********"


class Secret:
    """Text that shows itself only when asked by name."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The secret itself. Whoever calls this sends it and forgets it."""
        return self._text

    def __repr__(self) -> str:
        return f"Secret({_STARS})"

    def __str__(self) -> str:
        return _STARS

    def __format__(self, spec: str) -> str:
        return _STARS

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._text.encode(), other._text.encode())

    __hash__ = None  # type: ignore[assignment]  # a secret is no key of a dict: it would be kept and printed

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")


class Vault:
    """Seals and opens the secrets of credentials with one master key."""

    def __init__(self, master: MasterKey) -> None:
        self._master = master

    @property
    def master(self) -> MasterKey:
        return self._master

    def seal(self, secret: Secret, *, row_id: int, upstream: str, base_url: str) -> bytes:
        """The record for the row. Raises SecretError when there is no usable master key."""
        key = self._master.key()
        bound = _bound_to(row_id, upstream, base_url)
        data_key = AESGCM.generate_key(bit_length=256)
        wrap_nonce, nonce = os.urandom(_NONCE), os.urandom(_NONCE)
        wrapped = AESGCM(key).encrypt(wrap_nonce, data_key, b"data key" + bound)
        sealed = AESGCM(data_key).encrypt(nonce, secret.reveal().encode(), bound)
        return b"".join((_VERSION, key_id(key), wrap_nonce, wrapped, nonce, sealed))

    def open(self, credential: Credential) -> Secret:
        """The secret of the credential. Raises SecretError, for this one alone, when it can't be opened."""
        who = f"the credential {credential.upstream}/{credential.name}"
        again = f"enter it again: mlx-gateway credentials set {credential.upstream} --name {credential.name}"
        record = credential.sealed
        if len(record) <= _HEAD or record[:1] != _VERSION:
            raise SecretError(f"{who} is not a sealed secret of this version; {again}")
        key = self._master.key()
        made_with, rest = record[1 : 1 + _KEY_ID], record[1 + _KEY_ID :]
        if not hmac.compare_digest(made_with, key_id(key)):
            raise SecretError(f"{who} was sealed with another master key; restore that key, or {again}")
        wrap_nonce, rest = rest[:_NONCE], rest[_NONCE:]
        wrapped, rest = rest[:_WRAPPED], rest[_WRAPPED:]
        nonce, sealed = rest[:_NONCE], rest[_NONCE:]
        bound = _bound_to(credential.id, credential.upstream, credential.base_url)
        try:
            data_key = AESGCM(key).decrypt(wrap_nonce, wrapped, b"data key" + bound)
            return Secret(AESGCM(data_key).decrypt(nonce, sealed, bound).decode())
        except (InvalidTag, UnicodeDecodeError) as error:
            raise SecretError(
                f"{who} can't be opened: its row or the base URL of its upstream is not the one it was "
                f"sealed for; {again}"
            ) from error


def key_id(key: bytes) -> bytes:
    """Tells master keys apart without telling anything about them."""
    return hmac.digest(key, b"mlx-gateway master key id", "sha256")[:_KEY_ID]


def check_secret(text: str) -> Secret:
    """Refuse what can't be an API key: it would end in a header of every request."""
    bare = text.strip()
    if not bare:
        raise RefusedError("the secret is empty; give the key that the provider shows")
    if "\n" in bare or "\r" in bare:
        raise RefusedError("the secret has several lines; give the key alone")
    if not bare.isascii() or not bare.isprintable() or " " in bare:
        raise RefusedError("the secret holds a space or a character that no API key has; give the key alone")
    if len(bare) > 8192:
        raise RefusedError(f"the secret has {len(bare)} characters; an API key has at most 8192")
    return Secret(bare)


def hint_of(secret: Secret) -> str:
    """What may be shown of a secret: `sk-...abcd`; of a short one nothing."""
    text = secret.reveal()
    if len(text) < 16:
        return "..."
    head, dash, _ = text[:6].partition("-")
    return f"{head + dash if dash else ''}...{text[-4:]}"


def _bound_to(row_id: int, upstream: str, base_url: str) -> bytes:
    return json.dumps(["credentials", row_id, "sealed", upstream, base_url]).encode()
