"""The master key's four sources, and how each says that it has none."""

from __future__ import annotations

import base64
import os
import stat
import sys
from pathlib import Path

import pytest

from gateway.config import Secrets
from gateway.errors import SecretError
from gateway.store.master import VARIABLE, MasterKey

KEY = bytes(range(32))


def test_a_file_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    master = MasterKey(Secrets(), tmp_path)
    master.load()
    assert master.problem is not None
    assert "there is no master key" in master.problem
    master.make()
    key = master.key()
    path = tmp_path / "master.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert base64.b64decode(path.read_bytes()) == key
    again = MasterKey(Secrets(), tmp_path)
    again.make()
    assert again.key() == key
    assert [entry.name for entry in tmp_path.iterdir()] == ["master.key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666])
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = _write(tmp_path, base64.b64encode(KEY))
    path.chmod(mode)
    assert _problem(MasterKey(Secrets(), tmp_path)).endswith(f"run: chmod 600 '{path}'")


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    _write(tmp_path, base64.b64encode(KEY)).rename(tmp_path / "real")
    (tmp_path / "master.key").symlink_to(tmp_path / "real")
    assert "can't read" in _problem(MasterKey(Secrets(), tmp_path))


def test_a_folder_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "master.key").mkdir(mode=0o700)
    assert "must be a plain file" in _problem(MasterKey(Secrets(), tmp_path))


@pytest.mark.parametrize(
    "text", [KEY, base64.b64encode(KEY), base64.b64encode(KEY) + b"\n", KEY.hex().encode()]
)
def test_the_ways_to_write_a_key(tmp_path: Path, text: bytes) -> None:
    _write(tmp_path, text)
    master = MasterKey(Secrets(), tmp_path)
    master.load()
    assert master.key() == KEY


@pytest.mark.parametrize("text", [b"", b"hunter2", base64.b64encode(KEY[:31]), b"\xff" * 33, b"z" * 64])
def test_what_is_no_key_is_refused_without_showing_it(tmp_path: Path, text: bytes) -> None:
    _write(tmp_path, text)
    problem = _problem(MasterKey(Secrets(), tmp_path))
    assert "must hold 32 bytes in base64 or hex" in problem
    assert "hunter2" not in problem


def test_the_variable_is_gone_after_reading_and_stays_known(tmp_path: Path) -> None:
    env = {VARIABLE: KEY.hex()}
    master = MasterKey(Secrets(source="env"), tmp_path, env=env)
    master.load()
    assert env == {}
    assert master.key() == KEY
    master.load()  # a reload can't read it again
    assert master.key() == KEY
    assert list(tmp_path.iterdir()) == []


def test_the_variable_is_taken_from_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, KEY.hex())
    master = MasterKey(Secrets(source="env"), tmp_path)
    master.load()
    assert master.key() == KEY
    assert VARIABLE not in os.environ


def test_a_variable_that_is_not_set_is_asked_for(tmp_path: Path) -> None:
    master = MasterKey(Secrets(source="env"), tmp_path, env={})
    with pytest.raises(SecretError, match=f"{VARIABLE} is not set"):
        master.make()


def test_a_systemd_credential(tmp_path: Path) -> None:
    _write(tmp_path, KEY.hex().encode())
    master = MasterKey(
        Secrets(source="systemd"), tmp_path / "home", env={"CREDENTIALS_DIRECTORY": str(tmp_path)}
    )
    master.load()
    assert master.key() == KEY


@pytest.mark.parametrize("folder", [None, "empty"])
def test_a_missing_systemd_credential_is_asked_for(tmp_path: Path, folder: str | None) -> None:
    env = {} if folder is None else {"CREDENTIALS_DIRECTORY": str(tmp_path / folder)}
    master = MasterKey(Secrets(source="systemd"), tmp_path, env=env)
    with pytest.raises(SecretError, match=r"LoadCredential=master\.key"):
        master.make()


@pytest.mark.skipif(sys.platform == "darwin", reason="there is a keychain")
def test_where_there_is_no_keychain_it_says_what_else_there_is(tmp_path: Path) -> None:
    master = MasterKey(Secrets(source="keychain"), tmp_path)
    assert "keychain can't be used here" in _problem(master)
    with pytest.raises(SecretError, match="choose file, systemd or env"):
        master.make()


def test_a_keychain_keeps_one_key_for_each_home(tmp_path: Path) -> None:
    keyring = pytest.importorskip("keyring")
    kept: dict[tuple[str, str], str] = {}

    class InMemory(keyring.backend.KeyringBackend):
        priority = 1

        def get_password(self, service: str, username: str) -> str | None:
            return kept.get((service, username))

        def set_password(self, service: str, username: str, password: str) -> None:
            assert (service, username) not in kept, "a key was overwritten"
            kept[service, username] = password

    usual = keyring.get_keyring()
    keyring.set_keyring(InMemory())
    try:
        first = MasterKey(Secrets(source="keychain"), tmp_path / "one")
        first.load()
        assert first.problem is not None
        assert "no entry mlx-gateway for this home" in first.problem
        first.make()
        again = MasterKey(Secrets(source="keychain"), tmp_path / "one")
        again.make()  # without having looked before
        assert again.key() == first.key()
        second = MasterKey(Secrets(source="keychain"), tmp_path / "two")
        second.make()
        assert second.key() != first.key()
    finally:
        keyring.set_keyring(usual)
    assert list(tmp_path.iterdir()) == []


def test_an_unreadable_key_is_not_replaced_by_a_new_one(tmp_path: Path) -> None:
    path = _write(tmp_path, b"not a key")
    master = MasterKey(Secrets(), tmp_path)
    with pytest.raises(SecretError, match="must hold 32 bytes"):
        master.make()
    assert path.read_bytes() == b"not a key"


def test_a_key_shows_itself_to_nobody(tmp_path: Path) -> None:
    _write(tmp_path, KEY.hex().encode())
    master = MasterKey(Secrets(), tmp_path)
    master.load()
    assert KEY.hex() not in repr(master)
    assert repr(master) == "MasterKey(source='file', ready)"


def _write(folder: Path, data: bytes) -> Path:
    path = folder / "master.key"
    path.write_bytes(data)
    path.chmod(0o600)
    return path


def _problem(master: MasterKey) -> str:
    master.load()
    with pytest.raises(SecretError):
        master.key()
    assert master.problem is not None
    return master.problem
