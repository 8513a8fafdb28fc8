"""The files under systemd/: what a supervisor does with them is as much a promise as the code."""

import plistlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.config import Config

UNIT = Path(__file__).parent.parent / "systemd" / "gateway.service"
AGENT = UNIT.with_name("gateway.plist")

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")


def unit_keys() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        if match := re.match(r"([A-Za-z]+)=(.*)", line):
            found.setdefault(match[1], []).append(match[2])
    return found


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", "--no-pager", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@needs_systemd
def test_the_sandbox_scores_at_most_two():
    found = analyze("security", "--offline=true", "--threshold=20", str(UNIT))
    assert "Overall exposure level" in found.stdout, found.stderr
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", found.stdout)
    assert exposure
    assert float(exposure[1]) <= 2.0
    assert found.returncode == 0


@needs_systemd
def test_systemd_knows_every_key_of_the_unit(tmp_path):
    copy = tmp_path / "mlx-gateway.service"
    copy.write_text(re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={sys.executable}", UNIT.read_text()))
    found = analyze("verify", str(copy))
    assert [line for line in found.stderr.splitlines() if "mlx-gateway" in line] == []
    assert found.returncode == 0


def test_a_bad_configuration_is_not_started_again_and_again():
    keys = unit_keys()
    assert keys["Restart"] == ["on-failure"]
    assert keys["RestartPreventExitStatus"] == ["78"]


def test_the_drain_and_closing_fit_before_the_supervisor_kills():
    drain = Config().server.drain_s
    assert int(unit_keys()["TimeoutStopSec"][0]) > 2 * drain
    assert plistlib.loads(AGENT.read_bytes())["ExitTimeOut"] > 2 * drain


def test_the_unit_reports_readiness_reloads_and_leaves_no_core():
    keys = unit_keys()
    assert keys["Type"] == ["notify"]
    assert int(keys["WatchdogSec"][0]) > 0
    assert keys["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert keys["LimitCORE"] == ["0"]
    assert keys["StateDirectory"] == ["mlx-gateway"]
    assert keys["UMask"] == ["0077"]
    assert not any(value.startswith("MLX_GATEWAY_MASTER_KEY") for value in keys["Environment"])


def test_the_agent_is_a_plist_that_launchd_understands():
    agent = plistlib.loads(AGENT.read_bytes())
    assert agent["Label"] == "local.mlx-gateway"
    assert agent["ProgramArguments"][1:] == ["serve"]
    assert agent["KeepAlive"] == {"SuccessfulExit": False}
    assert agent["RunAtLoad"] is True
    assert agent["Umask"] == 0o077
    assert agent["SoftResourceLimits"]["Core"] == agent["HardResourceLimits"]["Core"] == 0
    assert agent["SoftResourceLimits"]["NumberOfFiles"] >= 4096
    assert agent["ProcessType"] == "Interactive"
    assert agent["ThrottleInterval"] >= 10


def test_the_command_in_the_agent_s_comment_leaves_no_placeholder(tmp_path):
    """The sed line is what a person copies; here it runs as it stands, and the result is a plist."""
    line = re.search(r"sed (?:.*\\\n)?.*", AGENT.read_text())
    assert line
    command = line[0].split("\\\n")[0].replace("systemd/gateway.plist", f"'{AGENT}'")
    environment = {"HOME": "/Users/ada", "PATH": "/usr/bin:/bin"}
    found = subprocess.run(
        ["/bin/sh", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    agent = plistlib.loads(found.stdout.encode())
    assert agent["ProgramArguments"][0] == f"{tmp_path}/.venv/bin/mlx-gateway"
    assert agent["StandardErrorPath"] == "/Users/ada/Library/Logs/mlx-gateway.log"
    assert "YOU" not in str(agent)
