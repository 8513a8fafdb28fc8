"""Which folder is the home and which file the configuration: asked in a fixed order, never guessed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from gateway import config as configuration
from gateway.cli.command import common
from gateway.config import Config
from gateway.errors import ConfigError, RefusedError

NAME = "mlx-gateway"
SOCKET = "admin.sock"


def find_home(given: str | None, env: Mapping[str, str]) -> Path:
    """The home: --home, MLX_GATEWAY_HOME, systemd's $STATE_DIRECTORY, or the platform's data folder."""
    # systemd joins several state folders with colons; the first is ours.
    chosen = given or env.get("MLX_GATEWAY_HOME") or env.get("STATE_DIRECTORY", "").partition(":")[0]
    if not chosen:
        import platformdirs

        return platformdirs.user_data_path(NAME, appauthor=False)
    try:
        return Path(chosen).expanduser().absolute()
    except RuntimeError as error:  # ~somebody who does not exist
        raise ConfigError(f"the home {chosen!r} names a user who does not exist") from error


def make_home(home: Path) -> None:
    """Create the home, 0700. An empty one that is there already is made private as well."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = home.stat()
        ours = status.st_uid == os.geteuid() and status.st_mode & 0o077
        if ours and not any(home.iterdir()):
            home.chmod(0o700)
    except FileExistsError as error:
        raise ConfigError(f"the home {home} is a file; name a folder with --home") from error
    except OSError as error:
        raise ConfigError(
            f"the home {home} can't be used: {error.strerror}; name another with --home or MLX_GATEWAY_HOME"
        ) from error


def check_owner(home: Path) -> None:
    """Refuse root in the home of a service's user: what root wrote there, the service couldn't read."""
    database = home / "gateway.db"
    if os.geteuid() == 0 and database.exists() and database.stat().st_uid != 0:
        raise RefusedError(
            f"the home {home} belongs to another user: start the gateway, and the command speaks to it, "
            "or run the command as that user"
        )


def find_config(given: str | None, env: Mapping[str, str], home: Path) -> Path | None:
    """The configuration file: --config, MLX_GATEWAY_CONFIG, or gateway.toml in the home.

    A file that was named must be there; without the last one the defaults are meant.
    """
    for chosen, where in ((given, "--config"), (env.get("MLX_GATEWAY_CONFIG"), "MLX_GATEWAY_CONFIG")):
        if chosen:
            path = Path(chosen).expanduser().absolute()
            if not path.exists():
                raise ConfigError(f"{path}: there is no such file; correct {where} or leave it out")
            return path
    usual = home / "gateway.toml"
    return usual if usual.exists() else None


def the_home() -> Path:
    """The home that this command is about."""
    return find_home(common().home, os.environ)


def the_config(home: Path) -> tuple[Config, Path | None]:
    """The configuration that this command is about, and its file."""
    path = find_config(common().config, os.environ, home)
    return configuration.read(path, os.environ), path
