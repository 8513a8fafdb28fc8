import os
import re
from pathlib import Path

import pytest

from gateway.cli.home import find_config, find_home, make_home
from gateway.errors import ConfigError
from tests.cli.conftest import Daemon, Run


def test_the_home_is_looked_for_in_a_fixed_order(tmp_path: Path):
    env = {"MLX_GATEWAY_HOME": "/from/env", "STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}
    assert find_home("/given", env) == Path("/given")
    assert find_home(None, env) == Path("/from/env")
    assert find_home(None, {**env, "MLX_GATEWAY_HOME": ""}) == Path("/var/lib/a")
    assert find_home(None, {}).name == "mlx-gateway"


def test_a_home_may_be_relative_or_begin_with_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ada")
    assert find_home("here", {}) == tmp_path / "here"
    assert find_home("~/here", {}) == Path("/home/ada/here")
    with pytest.raises(ConfigError, match="names a user who does not exist"):
        find_home("~no-such-user/here", {})


def test_a_home_is_made_for_its_owner_alone(tmp_path: Path):
    before = os.umask(0o022)
    try:
        make_home(tmp_path / "a" / "b")
    finally:
        os.umask(before)
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_an_empty_folder_becomes_private_and_a_used_one_is_left_alone(tmp_path: Path):
    for name in ("empty", "used"):
        (tmp_path / name).mkdir(mode=0o755)
    (tmp_path / "used" / "letter.txt").touch()
    make_home(tmp_path / "empty")
    make_home(tmp_path / "used")
    assert (tmp_path / "empty").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "used").stat().st_mode & 0o777 == 0o755


def test_a_home_that_can_t_be_is_a_bad_configuration(gw: Run, tmp_path: Path):
    file = tmp_path / "file"
    file.touch()
    told = gw("--home", file, "rules", "list")
    assert told.code == 78
    assert f"the home {file} is a file; name a folder with --home" in told.error
    told = gw("--home", file / "below", "rules", "list")
    assert told.code == 78
    assert "can't be used: Not a directory" in told.error


def test_the_configuration_is_looked_for_in_a_fixed_order(tmp_path: Path):
    usual, given, env = (tmp_path / name for name in ("gateway.toml", "given.toml", "env.toml"))
    variables = {"MLX_GATEWAY_CONFIG": str(env)}
    assert find_config(None, {}, tmp_path) is None
    for path in (usual, given, env):
        path.touch()
    assert find_config(None, {}, tmp_path) == usual
    assert find_config(None, variables, tmp_path) == env
    assert find_config(str(given), variables, tmp_path) == given


def test_a_configuration_that_was_named_must_be_there(tmp_path: Path):
    missing = tmp_path / "missing.toml"
    with pytest.raises(ConfigError, match=re.escape(f"{missing}: there is no such file; correct --config")):
        find_config(str(missing), {}, tmp_path)
    with pytest.raises(ConfigError, match="correct MLX_GATEWAY_CONFIG or leave it out"):
        find_config(None, {"MLX_GATEWAY_CONFIG": str(missing)}, tmp_path)


def test_root_does_not_write_into_the_home_of_a_service(gw: Run, home: Path, monkeypatch: pytest.MonkeyPatch):
    """With the service stopped, root ran `credentials add`: its new master.key was root's alone, and
    the service could not read it when it started again.
    """
    assert gw("rules", "list").code == 0
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    if os.getuid() == 0:
        os.chown(home / "gateway.db", 12345, 12345)
    told = gw("rules", "list")
    assert told.code == 1
    assert "belongs to another user: start the gateway" in told.error
    with Daemon(home):
        assert gw("rules", "list").code == 0
