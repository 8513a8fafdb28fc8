import subprocess
import sys
from pathlib import Path

import pytest

from gateway import daemon
from gateway.config import Config, Server
from tests.cli.conftest import Run


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Config, Path, Path | None]]:
    """What `serve` was called with; it ends at once with 0."""
    calls: list[tuple[Config, Path, Path | None]] = []

    def serve(config: Config, home: Path, *, config_path: Path | None) -> int:
        calls.append((config, home, config_path))
        return 0

    monkeypatch.setattr(daemon, "serve", serve)
    return calls


def test_the_daemon_gets_home_and_configuration(gw: Run, home: Path, served):
    assert gw("serve").code == 0
    (home / "gateway.toml").write_text("[server]\nport = 9000\ndrain_s = 3\n")
    assert gw("serve", "--port", "0", "--host", "::1").code == 0
    assert served == [
        (Config(), home, None),
        (Config(server=Server(host="::1", port=0, drain_s=3.0)), home, home / "gateway.toml"),
    ]


def test_with_json_the_log_is_json(gw: Run, served):
    gw("serve", "--json")
    assert served[0][0].telemetry.log_format == "json"


def test_the_exit_code_is_the_daemon_s(gw: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(daemon, "serve", lambda *_, **__: 7)
    assert gw("serve").code == 7


def test_a_new_home_is_private(gw: Run, tmp_path: Path, served):
    gw("serve", "--home", tmp_path / "new")
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[server]\nprot = 1", "unknown key in [server]: 'prot'; did you mean 'port'?"),
        ("[server]\nport = '1'", "server.port must be a whole number, not '1'"),
        ("[server", "not valid TOML"),
    ],
)
def test_a_bad_configuration_is_exit_78_and_one_line_with_file_and_key(gw: Run, home, served, text, words):
    path = home / "gateway.toml"
    path.write_text(text)
    told = gw("serve")
    assert told.code == 78
    assert told.error.startswith(f"{path}: ")
    assert words in told.error
    assert served == []


def test_a_bad_variable_or_a_missing_file_is_exit_78(gw: Run, home, served, monkeypatch):
    assert gw("serve", "--config", home / "none.toml").code == 78
    monkeypatch.setenv("MLX_GATEWAY_SERVER__PORT", "x")
    told = gw("serve")
    assert told.code == 78
    assert told.error.startswith("MLX_GATEWAY_SERVER__PORT must be a whole number")


def test_a_bad_option_is_exit_2(gw: Run, served):
    assert gw("serve", "--port", "70000").code == 2
    assert gw("serve", "--host", " ").code == 2
    assert served == []


def test_starting_imports_nothing_that_only_other_commands_need():
    """A start pays for what it serves with: not for tables, prompts, or MLX before a model is asked for."""
    script = """if True:
        import sys
        from gateway.cli.main import cli
        cli.get_command(None, "serve")
        late = ("rich", "mlx", "mlx_lm", "keyring", "prometheus_client", "gateway.cli.rules", "http.client")
        print([name for name in late if name in sys.modules])
        """
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
