"""Secrets: they come out only as themselves, only from their own row, and show nowhere else."""

from __future__ import annotations

import logging
import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.config import Secrets
from gateway.errors import RefusedError, SecretError
from gateway.snapshot import Credential
from gateway.store import credentials, history
from gateway.store.master import MasterKey
from gateway.store.secrets import Secret, Vault, check_secret, hint_of
from gateway.store.store import Store
from tests.store.conftest import Opener
from tests.store.make import CANARY, add_credential, add_upstream, by_hand


def test_a_secret_is_stars_to_everything_that_prints() -> None:
    secret = Secret(CANARY)
    shown = [repr(secret), str(secret), f"{secret}", f"{secret:>40}", "%s" % secret, repr([secret])]  # noqa: UP031 - one of the ways
    assert all(CANARY not in text for text in shown)
    assert all("****" in text for text in shown)
    assert secret.reveal() == CANARY
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        hash(secret)
    assert secret == Secret(CANARY)
    assert secret != Secret("other")
    assert secret != CANARY


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("sk-proj-abcdefghijklmnop", "sk-...mnop"),
        ("sk-ant-api03-abcdefghijkl", "sk-...ijkl"),
        ("gsk_abcdefghijklmnopqrst", "...qrst"),
        ("0123456789abcdef0123", "...0123"),
        ("short-secret", "..."),
        ("x", "..."),
    ],
)
def test_a_hint_tells_keys_apart_and_gives_little_away(text: str, hint: str) -> None:
    assert hint_of(Secret(text)) == hint


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        (" \t\n", "empty"),
        ("sk-one\nsk-two", "several lines"),
        ("sk-one\r\nx", "several lines"),
        ("sk one", "space"),
        ("sk-\x00", "character"),
        ("sk-ü", "character"),
        ("x" * 8193, "8193 characters"),
    ],
)
def test_what_cannot_be_a_key_is_refused_without_showing_it(text: str, why: str) -> None:
    with pytest.raises(RefusedError, match=why) as caught:
        check_secret(text)
    assert "sk-" not in str(caught.value)


def test_the_line_end_of_a_pipe_does_not_belong_to_the_key() -> None:
    assert check_secret(f"{CANARY}\n").reveal() == CANARY


async def test_the_secret_that_went_in_comes_out(store: Store) -> None:
    await add_upstream(store)
    credential = await add_credential(store)
    assert store.vault.open(credential).reveal() == CANARY
    assert credential.hint == "sk-...hers"


async def test_the_plain_secret_is_nowhere_but_in_the_answer_to_reveal(
    opened: Opener, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    store = await opened()
    await add_upstream(store)
    await add_credential(store)
    await store.change(
        "test", lambda change: credentials.put(change, "openai", "default", secret=Secret(CANARY + "2"))
    )
    entries = await store.read(lambda: history.latest(50))
    await store.database.run(lambda: store.database.handle.execute_sql("PRAGMA wal_checkpoint(FULL)"))
    for path in home.rglob("*"):
        assert not path.is_file() or b"CANARY" not in path.read_bytes(), path
    await store.close()
    for text in (caplog.text, repr(store.snapshot), repr(entries), repr(store.vault), str(vars(store))):
        assert "CANARY" not in text
    for path in home.rglob("*"):
        assert not path.is_file() or b"CANARY" not in path.read_bytes(), path


async def test_a_removed_secret_leaves_no_sealed_trace_in_the_file(opened: Opener, home: Path) -> None:
    store = await opened()
    await add_upstream(store)
    credential = await add_credential(store)
    await store.change("test", lambda change: credentials.remove(change, "openai", "default"))
    await store.close()  # the journal is gone with it
    assert credential.sealed not in (home / "gateway.db").read_bytes()


async def test_sealed_secrets_swapped_between_rows_do_not_open(store: Store, home: Path) -> None:
    await add_upstream(store)
    first = await add_credential(store, name="first", secret="sk-first-0123456789")
    second = await add_credential(store, name="second", secret="sk-second-0123456789")
    third = await add_credential(store, name="third", secret="sk-third-0123456789")
    by_hand(
        home,
        "CREATE TEMP TABLE keep AS SELECT id, sealed FROM credentials",
        *(
            f"UPDATE credentials SET sealed = (SELECT sealed FROM keep WHERE id = {a}) WHERE id = {b}"
            for a, b in ((first.id, second.id), (second.id, first.id))
        ),
    )
    held = {credential.name: credential for credential in (await store.reload()).credentials["openai"]}
    for name in ("first", "second"):
        with pytest.raises(SecretError, match=f"openai/{name} can't be opened"):
            store.vault.open(held[name])
    assert store.vault.open(held["third"]).reveal() == store.vault.open(third).reveal()


async def test_a_secret_does_not_follow_its_upstream_to_another_url(store: Store, home: Path) -> None:
    await add_upstream(store)
    await add_upstream(store, "other", "https://other.example.com/v1")
    await add_credential(store)
    await add_credential(store, "other")
    by_hand(home, "UPDATE upstreams SET base_url = 'https://evil.example/v1' WHERE name = 'openai'")
    held = (await store.reload()).credentials
    with pytest.raises(SecretError, match="base URL of its upstream is not the one"):
        store.vault.open(held["openai"][0])
    assert store.vault.open(held["other"][0]).reveal() == CANARY


async def test_a_secret_moved_to_another_upstream_does_not_open(store: Store, home: Path) -> None:
    await add_upstream(store)
    await add_upstream(store, "twin")  # even one with the same URL
    await add_credential(store)
    by_hand(home, "UPDATE credentials SET upstream = 'twin'")
    with pytest.raises(SecretError):
        store.vault.open((await store.reload()).credentials["twin"][0])


async def test_with_another_master_key_nothing_opens_and_nothing_is_touched(
    opened: Opener, home: Path
) -> None:
    store = await opened()
    await add_upstream(store)
    await add_credential(store)
    await store.close()
    right = (home / "master.key").read_bytes()
    (home / "master.key").write_bytes(b"A" * 43 + b"=\n")
    store = await opened()
    with pytest.raises(SecretError, match="sealed with another master key"):
        store.vault.open(store.snapshot.credentials["openai"][0])
    (home / "master.key").write_bytes(right)
    await store.reload()
    assert store.vault.open(store.snapshot.credentials["openai"][0]).reveal() == CANARY


async def test_a_lost_master_key_is_never_replaced_while_secrets_are_sealed(
    opened: Opener, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = await opened()
    await add_upstream(store)
    await add_credential(store)
    await store.close()
    (home / "master.key").rename(home / "elsewhere")
    store = await opened()
    assert "no credential can be used: there is no master key" in caplog.text
    with pytest.raises(SecretError, match="put it back from your backup"):
        store.vault.open(store.snapshot.credentials["openai"][0])
    with pytest.raises(SecretError, match="put it back from your backup"):
        await add_credential(store, name="second")
    assert not (home / "master.key").exists()
    await store.change("test", lambda change: credentials.remove(change, "openai", "default"))
    assert store.vault.open(await add_credential(store)).reveal() == CANARY


@pytest.mark.parametrize("damage", [b"", b"\x01", b"\x02" + b"x" * 200, b"sk-plain-text-in-the-column" * 5])
def test_junk_in_the_column_is_refused(tmp_path: Path, damage: bytes) -> None:
    vault = _vault(tmp_path)
    with pytest.raises(SecretError, match="enter it again"):
        vault.open(replace(_credential(), sealed=damage))


def test_any_flipped_byte_is_noticed(tmp_path: Path) -> None:
    vault = _vault(tmp_path)
    credential = _credential()
    sealed = vault.seal(
        Secret("sk-0123456789abcdef"),
        row_id=credential.id,
        upstream=credential.upstream,
        base_url=credential.base_url,
    )
    assert vault.open(replace(credential, sealed=sealed)).reveal() == "sk-0123456789abcdef"
    for position in range(len(sealed)):
        flipped = bytearray(sealed)
        flipped[position] ^= 0x10
        with pytest.raises(SecretError):
            vault.open(replace(credential, sealed=bytes(flipped)))


def test_the_same_secret_is_sealed_differently_every_time(tmp_path: Path) -> None:
    vault = _vault(tmp_path)
    sealed = {
        vault.seal(Secret("sk-0123456789abcdef"), row_id=1, upstream="openai", base_url="https://a/v1")
        for _ in range(5)
    }
    assert len(sealed) == 5


def _vault(home: Path) -> Vault:
    master = MasterKey(Secrets(), home)
    master.make()
    return Vault(master)


def _credential() -> Credential:
    return Credential(
        id=7, upstream="openai", name="default", version=1, base_url="https://a/v1", hint="", sealed=b""
    )
