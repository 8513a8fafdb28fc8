from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.cloud.credentials import Credentials
from gateway.errors import SecretError
from gateway.snapshot import AuthStyle, Credential
from tests.cloud.conftest import SECRET, Opened, credential_for, upstream_at

UPSTREAM = upstream_at("https://api.example/v1", auth=AuthStyle.BEARER)
CREDENTIAL = credential_for(UPSTREAM)


class Vault:
    """Counts how often something is opened."""

    def __init__(self, *secrets: str) -> None:
        self.secrets = list(secrets) or [SECRET]
        self.opened: list[Credential] = []

    def open(self, credential: Credential) -> Opened:
        self.opened.append(credential)
        return Opened(self.secrets[min(len(self.opened), len(self.secrets)) - 1])


@pytest.mark.parametrize(
    ("style", "line"),
    [
        (AuthStyle.BEARER, f"authorization: Bearer {SECRET}\r\n"),
        (AuthStyle.X_API_KEY, f"x-api-key: {SECRET}\r\n"),
        (AuthStyle.API_KEY, f"api-key: {SECRET}\r\n"),
        (AuthStyle.NONE, ""),
    ],
)
def test_each_upstream_is_shown_the_key_in_its_way(style: AuthStyle, line: str) -> None:
    upstream = replace(UPSTREAM, auth=style)
    assert Credentials(Vault().open).field(upstream, CREDENTIAL) == line.encode()


def test_a_key_is_opened_once_per_version() -> None:
    vault = Vault("old", "new")
    credentials = Credentials(vault.open)
    for _ in range(3):
        assert credentials.field(UPSTREAM, CREDENTIAL) == b"authorization: Bearer old\r\n"
    rotated = replace(CREDENTIAL, version=2, sealed=b"y")
    assert credentials.field(UPSTREAM, rotated) == b"authorization: Bearer new\r\n"
    assert len(vault.opened) == 2
    assert b"old" not in repr(vars(credentials)).encode(), "the old key is forgotten"


def test_a_reused_row_is_not_taken_for_the_one_before() -> None:
    vault = Vault("first", "second")
    credentials = Credentials(vault.open)
    credentials.field(UPSTREAM, CREDENTIAL)
    assert b"second" in credentials.field(UPSTREAM, replace(CREDENTIAL, sealed=b"other row"))


@pytest.mark.parametrize(
    "other",
    [replace(UPSTREAM, base_url="https://evil.example/v1"), replace(UPSTREAM, name="other")],
)
def test_a_key_goes_only_where_it_was_given_for(other: object) -> None:
    vault = Vault()
    with pytest.raises(SecretError, match="another address"):
        Credentials(vault.open).field(other, CREDENTIAL)  # type: ignore[arg-type]
    assert not vault.opened, "it is not even opened"


def test_no_key_where_one_is_wanted() -> None:
    with pytest.raises(SecretError, match="mlx-gateway credentials add lab"):
        Credentials(Vault().open).field(UPSTREAM, None)


@pytest.mark.parametrize("secret", ["", "a\r\nx-evil: 1", "schlüssel"])
def test_a_key_that_is_no_header_value_is_not_sent_and_not_told(secret: str) -> None:
    with pytest.raises(SecretError) as caught:
        Credentials(Vault(secret).open).field(UPSTREAM, CREDENTIAL)
    assert not secret or secret not in str(caught.value)


def test_few_are_kept_and_none_shows() -> None:
    credentials = Credentials(Vault().open)
    for number in range(1000):
        credentials.field(UPSTREAM, replace(CREDENTIAL, id=number))
    assert repr(credentials) == "<Credentials 256 opened>"
    credentials.forget()
    assert repr(credentials) == "<Credentials 0 opened>"
