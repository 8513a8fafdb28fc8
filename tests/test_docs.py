"""The documents agree with the code: what they name exists, what they show runs."""

from __future__ import annotations

import json
import re
import shlex
import tempfile
import tomllib
from pathlib import Path

import aiohttp
import pytest

import gateway
from tests.scenarios.daemon import run_command, running

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
MAP = (ROOT / "gateway" / "ARCHITECTURE.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

BLOCKS = re.findall(r"^```\n(.*?)^```", README, flags=re.S | re.M)
COMMANDS = [
    line.partition("   #")[0].strip()
    for block in BLOCKS
    for line in block.splitlines()
    if line.startswith("mlx-gateway ")
]


def test_every_command_of_the_readme_runs() -> None:
    """In their order, in one home, as a reader would type them."""
    assert len(COMMANDS) >= 8
    with tempfile.TemporaryDirectory(prefix="mlxg-") as folder:
        for command in COMMANDS:
            done = run_command(Path(folder), *shlex.split(command)[1:], typed="sk-typed-0123456789\n")
            assert done.returncode == 0, (command, done.stderr)


async def test_every_curl_of_the_readme_is_answered() -> None:
    counted, called, told = [block for block in BLOCKS if block.startswith("curl ")]
    with tempfile.TemporaryDirectory(prefix="mlxg-") as folder:
        async with running(Path(folder) / "home") as daemon, daemon.http() as http:
            lines = (await _curl(http, counted)).split("\n\n")
            message = json.loads(await _curl(http, called))["choices"][0]["message"]
            answer = json.loads(await _curl(http, told))
    chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks) == "1 2 3 4 5 6 7 8 9 10"
    assert answer["content"][0]["text"] == "1 2 3 4 5 6 7 8 9 10"
    assert json.loads(message["tool_calls"][0]["function"]["arguments"]) == {"city": "Paris"}


async def _curl(http: aiohttp.ClientSession, block: str) -> str:
    """What the command of a block would print."""
    words = shlex.split(block.replace("\\\n", " "))
    url = next(word for word in words if word.startswith("http"))
    kind = words[words.index("-H") + 1].partition(": ")
    body = words[words.index("-d") + 1]
    async with http.post("/" + url.split("/", 3)[3], data=body, headers={kind[0]: kind[2]}) as reply:
        assert reply.status == 200
        return await reply.text()


def test_the_readme_names_the_make_targets_that_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`?make ([a-z]+)", README):
        assert re.search(rf"^{target}:", makefile, flags=re.M), target
    assert "make test" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "gateway/ARCHITECTURE.md"])
def test_files_that_documents_name_exist(document: str) -> None:
    text = (ROOT / document).read_text()
    named = re.findall(r"`((?:[a-z_]+/)+[a-z_.]*|[a-z_]+\.(?:py|md))`", text)
    named += re.findall(r"\]\(([^)#]+)\)", text)
    made_by_users = {"models/"}
    for name in set(named) - made_by_users:
        # The map of the code leaves the package's own name out.
        places = [(ROOT / document).parent / name, ROOT / "gateway" / name, ROOT / name]
        assert any(place.exists() for place in places), f"{document} names {name}"


def test_the_map_shows_the_layers_that_the_linter_holds() -> None:
    [shown] = re.findall(r"^`(__main__ > .*)`$", MAP, flags=re.M)
    [held] = [
        contract["layers"]
        for contract in PROJECT["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers"
    ]
    assert shown == " > ".join(layer.replace("gateway.", "") for layer in held)


def test_every_package_is_on_the_map() -> None:
    for path in (ROOT / "gateway").iterdir():
        if path.name.startswith(("_", ".")) or path.suffix == ".md":
            continue
        shown = path.name + "/" if path.is_dir() else path.name
        assert shown in MAP, f"gateway/ARCHITECTURE.md does not tell what {shown} is for"


def test_one_version_everywhere() -> None:
    version = gateway.__version__
    assert PROJECT["project"]["version"] == version
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()


def test_lock_files_hold_hashes_and_no_addresses() -> None:
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / name).read_text()
        assert "://" not in text
        pinned = re.findall(r"^[a-z0-9._-]+==[^ ]+.*\\\n    --hash=sha256:", text, flags=re.M)
        assert len(pinned) == len(re.findall(r"^[a-z0-9]", text, flags=re.M)) > 40


def test_no_file_grows_past_a_screenful_without_a_reason() -> None:
    """400 lines are a question; none is asked at present."""
    long = [path for path in (ROOT / "gateway").rglob("*.py") if len(path.read_text().splitlines()) > 400]
    assert not long
