"""The master key and the four places it may come from: chosen in the configuration, never guessed.

It is read once, when the store opens, on the database's thread. Where that fails the sentence is
kept and told to whoever needs a secret: the gateway goes on without its credentials.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import stat
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from gateway.config import Secrets
from gateway.errors import SecretError
from gateway.store.home import MASTER_KEY, put_in_place

SIZE = 32
VARIABLE = "MLX_GATEWAY_MASTER_KEY"
_SERVICE = "mlx-gateway"


class MasterKey:
    """The key that wraps all data keys, or the reason why there is none."""

    def __init__(self, settings: Secrets, home: Path, *, env: MutableMapping[str, str] | None = None) -> None:
        self._source = settings.source
        self._home = home.absolute()
        self._env = os.environ if env is None else env
        self._key: bytes | None = None
        self._problem = "the master key has not been read yet"
        self._absent = False  # looked for and not there, as opposed to there and unreadable

    def __repr__(self) -> str:
        return f"MasterKey(source={self._source!r}, {'ready' if self._key else 'missing'})"

    @property
    def source(self) -> str:
        return self._source

    @property
    def problem(self) -> str | None:
        """Why there is no key; None when there is one."""
        return None if self._key else self._problem

    def key(self) -> bytes:
        """The key. Raises SecretError with the reason and the remedy."""
        if self._key is None:
            raise SecretError(self._problem)
        return self._key

    def load(self) -> None:
        """Read the key from its source; afterwards either it or the problem is there. Blocks."""
        try:
            found = self._read()
        except SecretError as error:
            self._key, self._problem, self._absent = None, str(error), False
            return
        self._absent = found is None
        if found is not None:
            self._key = found
        elif self._source != "env" or self._key is None:  # the variable is gone after the first reading
            self._key, self._problem = None, self._missing()

    def make(self) -> None:
        """Make a key where the source can keep one and has none. Blocks; raises SecretError.

        Call it only while nothing is sealed: a new key in the place of a lost one would make what
        the lost one sealed look merely wrong.
        """
        if self._key is None:
            self.load()
        if self._key is None and self._absent:
            if self._source == "file":
                _write_file(self._home / MASTER_KEY)
            elif self._source == "keychain":
                _write_keychain(self._home)
            self.load()
        self.key()

    def _read(self) -> bytes | None:
        if self._source == "file":
            return _read_file(self._home / MASTER_KEY)
        if self._source == "keychain":
            text = _read_keychain(self._home)
            return None if text is None else _parse(text.encode(), "the keychain's entry mlx-gateway")
        if self._source == "systemd":
            return self._read_systemd()
        text = self._env.pop(VARIABLE, None)  # children and /proc show what stays
        return None if text is None else _parse(text.encode(), VARIABLE)

    def _read_systemd(self) -> bytes | None:
        folder = self._env.get("CREDENTIALS_DIRECTORY")
        if not folder:
            return None
        path = Path(folder) / MASTER_KEY
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SecretError(f"can't read the systemd credential {path}: {error.strerror}") from error
        return _parse(data, f"the systemd credential {path}")

    def _missing(self) -> str:
        return {
            "file": f"there is no master key in {self._home / MASTER_KEY}; put it back from your backup, "
            "or remove the credentials and add them again",
            "keychain": "the keychain has no entry mlx-gateway for this home; unlock the keychain, "
            "or remove the credentials and add them again",
            "systemd": "there is no systemd credential named master.key; add "
            "LoadCredential=master.key:/path/to/master.key to the unit",
            "env": f"{VARIABLE} is not set; set it to 32 random bytes in base64 (openssl rand -base64 32)",
        }[self._source]


def _parse(data: bytes, where: str) -> bytes:
    if len(data) == SIZE:
        return data
    text = data.strip()
    try:
        key = (
            bytes.fromhex(text.decode("ascii"))
            if len(text) == 2 * SIZE
            else base64.b64decode(text, validate=True)
        )
    except (ValueError, binascii.Error):
        key = b""
    if len(key) != SIZE:
        raise SecretError(f"{where} must hold 32 bytes in base64 or hex (openssl rand -base64 32 makes them)")
    return key


def _read_file(path: Path) -> bytes | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SecretError(f"can't read {path}: {error.strerror}") from error
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise SecretError(f"{path} must be a plain file")
        if status.st_mode & 0o077:
            raise SecretError(f"{path} can be read by others; run: chmod 600 '{path}'")
        data = os.read(fd, 4096)
    finally:
        os.close(fd)
    return _parse(data, str(path))


def _write_file(path: Path) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        fd = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, base64.b64encode(secrets.token_bytes(SIZE)) + b"\n")
            os.fsync(fd)
        finally:
            os.close(fd)
        put_in_place(part, path)  # whole or not there
        _sync_folder(path.parent)
    except FileExistsError:
        return
    except OSError as error:
        raise SecretError(f"can't make {path}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _read_keychain(home: Path) -> str | None:
    keyring, errors = _keyring()
    try:
        found: str | None = keyring.get_password(_SERVICE, str(home))
    except errors as error:
        raise SecretError(_no_keychain(error)) from error
    return found


def _write_keychain(home: Path) -> None:
    keyring, errors = _keyring()
    try:
        keyring.set_password(_SERVICE, str(home), base64.b64encode(secrets.token_bytes(SIZE)).decode())
    except errors as error:
        raise SecretError(_no_keychain(error)) from error


def _keyring() -> tuple[Any, type[Exception]]:
    # Late: it looks through every installed package for backends.
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError as error:
        raise SecretError(f"{_NO_KEYCHAIN} the package keyring is not installed; {_CHOOSE}") from error
    return keyring, KeyringError


def _no_keychain(error: Exception) -> str:
    return f"{_NO_KEYCHAIN} {type(error).__name__}; {_CHOOSE}"


_NO_KEYCHAIN = "secrets.source is keychain, but the keychain can't be used here:"
_CHOOSE = "unlock it, or choose file, systemd or env as secrets.source"
