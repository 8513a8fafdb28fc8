"""`models pull` as a person runs it: a process of its own, and a hub on loopback."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Daemon, Run
from tests.hub import Fault, Hub
from tests.local.models import make_model
from tests.scenarios.daemon import command, environment, run_command

REPO = "tiny-org/tiny"
WEIGHTS = "model.safetensors"
HALF = 60_000


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A model that MLX could load, with what a repository has besides."""
    folder = make_model(tmp_path_factory.mktemp("models") / "tiny")
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    return {
        **found,
        "README.md": b"# tiny",
        "modeling_tiny.py": b"raise SystemExit",
        "pytorch_model.bin": b"x",
    }


@pytest.fixture(scope="module")
def server() -> Iterator[Hub]:
    with Hub() as hub:
        yield hub


@pytest.fixture
def hub(server: Hub, files: dict[str, bytes], home: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A hub with one model, for commands of their own and for those in this process."""
    server.reset()
    server.use(monkeypatch, home)
    server.publish(REPO, files)
    return server


def begin(home: Path, *words: str) -> subprocess.Popen[str]:
    """Start a pull and wait until it says that more than half of it is here."""
    process = subprocess.Popen(
        command(home, "models", "pull", REPO, *words),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        # A shell's background job ignores an interrupt, and all that it starts does too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("50 %"):
            return process
    raise AssertionError("it ended before half of it was here")


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def taken(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in files.items() if not name.endswith((".py", ".bin"))}


def test_a_model_comes_with_its_texts_and_without_its_code(
    hub: Hub, gw: Run, home: Path, files: dict[str, bytes]
) -> None:
    sha = hub.publish(REPO, files)
    told = run_command(home, "models", "pull", REPO)
    assert told.returncode == 0
    assert told.stdout == f"pulled {REPO} at {sha[:12]}: 5 files, 123 KB\n"
    folder = home / "models" / REPO
    found = content(folder)
    mark = json.loads(found.pop(".pulled.json"))
    assert found == taken(files)
    assert (mark["repo"], mark["revision"], mark["pulled_at"][-1]) == (REPO, sha, "Z")
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (folder, folder.parent)} == {0o700}
    lines = told.stderr.splitlines()
    assert lines[:3] == [
        f"pulling {REPO} at {sha[:12]} from 127.0.0.1:{hub.port}",
        "5 files, 123 KB",
        "1/5 config.json (307 B)",
    ]
    assert lines[-1] == "100 %: 123 KB of 123 KB"
    assert REPO in [model["name"] for model in gw("models", "list", "--json").json]

    hub.forget()
    again = gw("models", "pull", REPO)
    assert (again.code, again.err) == (0, "")
    assert again.out == f"{REPO} at {sha[:12]} is here already; nothing to download\n"
    assert hub.fetched() == []


def test_json_is_one_value_and_nothing_else(hub: Hub, gw: Run, home: Path, files: dict[str, bytes]) -> None:
    sha = hub.publish(REPO, files)
    told = gw("models", "pull", REPO, "--json")
    assert (told.code, told.err) == (0, "")
    size = sum(map(len, taken(files).values()))
    assert told.json == {
        "model": REPO,
        "repo": REPO,
        "revision": sha,
        "path": str(home / "models" / REPO),
        "size_bytes": size,
        "files": 5,
        "downloaded_bytes": size,
    }


def test_the_commit_is_fixed_while_main_moves(hub: Hub, gw: Run, home: Path, files: dict[str, bytes]) -> None:
    """Between the listing and the first file the branch gets a new commit."""
    first = hub.publish(REPO, files)
    hub.after_listing = lambda: hub.publish(REPO, {**files, "README.md": b"# other"})
    assert gw("models", "pull", REPO, "--json").json["revision"] == first
    assert all(f"/resolve/{first}/" in asked.path for asked in hub.fetched())
    assert (home / "models" / REPO / "README.md").read_bytes() == b"# tiny"


def test_a_newer_commit_takes_the_place_of_the_older(
    hub: Hub, gw: Run, home: Path, files: dict[str, bytes]
) -> None:
    old = hub.publish(REPO, files, branch="v1")
    gw("models", "pull", REPO)
    (home / "models" / REPO / "own.txt").write_text("of the older one")
    new = hub.publish(REPO, {**files, "README.md": b"# newer"})
    told = gw("models", "pull", REPO, "--json").json
    assert told["revision"] == new
    assert told["downloaded_bytes"] < 6000  # the weights are the same
    assert content(home / "models" / REPO).keys() == {*taken(files), ".pulled.json"}
    assert (home / "models" / REPO / "README.md").read_bytes() == b"# newer"
    for revision in ("v1", old):
        assert gw("models", "pull", REPO, "--revision", revision, "--json").json["revision"] == old


def test_a_model_that_lost_a_file_is_made_whole(
    hub: Hub, gw: Run, home: Path, files: dict[str, bytes]
) -> None:
    gw("models", "pull", REPO)
    (home / "models" / REPO / "tokenizer.json").unlink()
    assert gw("models", "pull", REPO).code == 0
    assert (home / "models" / REPO / "tokenizer.json").read_bytes() == files["tokenizer.json"]


def test_what_was_not_pulled_is_replaced_by_force_only(hub: Hub, gw: Run, home: Path) -> None:
    folder = make_model(home / "models" / REPO)
    (folder / "mine.txt").write_text("by hand")
    assert (
        "is there and was not pulled; remove it, or replace it with --force"
        in gw("models", "pull", REPO).error
    )
    assert hub.asked == []
    assert (folder / "mine.txt").exists()
    assert gw("models", "pull", REPO, "--force").code == 0
    assert not (folder / "mine.txt").exists()
    hub.forget()
    assert gw("models", "pull", REPO, "--force").code == 0
    assert len(hub.fetched()) == 5


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_pull_that_was_stopped_goes_on(
    hub: Hub, gw: Run, home: Path, files: dict[str, bytes], number: signal.Signals
) -> None:
    hub.fault(WEIGHTS, Fault(hold=HALF))
    process = begin(home)
    assert "being pulled by another command" in gw("models", "pull", REPO).error
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL)
    if number == signal.SIGINT:
        assert "\nwhat came is kept; the same command goes on from there\n" in err
        assert err.endswith("\nmlx-gateway: stopped\n")
    assert REPO not in [model["name"] for model in gw("models", "list", "--json").json]
    [part] = (home / "models" / ".pulling" / "tiny-org--tiny").glob(".*.part")
    here = part.stat().st_size
    assert HALF * 0.9 < here <= HALF
    hub.forget()
    told = gw("models", "pull", REPO, "--json").json
    assert told["downloaded_bytes"] == len(files[WEIGHTS]) - here
    assert [asked.path.rpartition("/")[2] for asked in hub.fetched()] == [WEIGHTS]
    assert hub.ranges(WEIGHTS) == [f"bytes={here}-"]
    assert (home / "models" / REPO / WEIGHTS).read_bytes() == files[WEIGHTS]
    assert not part.exists()


def test_a_connection_that_breaks_is_no_matter_for_the_user(
    hub: Hub, gw: Run, home: Path, files: dict[str, bytes]
) -> None:
    hub.fault(WEIGHTS, Fault(cut=HALF))
    told = gw("models", "pull", REPO)
    assert told.code == 0
    assert f"the connection to 127.0.0.1:{hub.port} was lost; trying again in 0.5 s" in told.err
    assert (home / "models" / REPO / WEIGHTS).read_bytes() == files[WEIGHTS]


def test_other_bytes_than_listed_are_refused_and_removed(
    hub: Hub, gw: Run, home: Path, files: dict[str, bytes]
) -> None:
    hub.fault(WEIGHTS, Fault(content=files[WEIGHTS][::-1]))
    told = gw("models", "pull", REPO, "--json")
    assert "its SHA-256 differs; it was removed" in told.error
    assert not (home / "models" / "tiny-org").exists()
    assert gw("models", "pull", REPO, "--json").json["downloaded_bytes"] == len(files[WEIGHTS])


def test_a_gated_model_comes_with_a_token(
    hub: Hub, gw: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.gated.add(REPO)
    told = gw("models", "pull", REPO, "--json")
    assert (
        f"{REPO} is gated: accept its terms at {hub.url}/{REPO}, then give a token with HF_TOKEN"
        in told.error
    )
    monkeypatch.setenv("HF_TOKEN", "hf_may_read")
    assert gw("models", "pull", REPO).code == 0
    assert {asked.token for asked in hub.asked if asked.path.startswith("/store/")} == {None}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({WEIGHTS: None}, "has no safetensors"),
        ({WEIGHTS: None, "model.gguf": b"x"}, "holds GGUF weights"),
        ({"config.json": None}, "has no config.json"),
        ({"config.json": b'{"model_type": "../x"}'}, "config.json without a model_type"),
        ({"config.json": b"[]"}, "config.json without a model_type"),
        ({"config.json": b"\xff"}, "config.json without a model_type"),
        ({"../../x.json": b"{}"}, "could lead out of the model's folder; nothing was downloaded"),
        ({"/x.json": b"{}"}, "could lead out"),
        ({"a\\..\\x.json": b"{}"}, "could lead out"),
    ],
)
def test_what_is_no_model_for_this_program_is_refused(
    hub: Hub, gw: Run, home: Path, files: dict[str, bytes], change: dict[str, Any], why: str
) -> None:
    there = {name: data for name, data in {**files, **change}.items() if data is not None}
    hub.publish("tiny-org/bad", there)
    told = gw("models", "pull", "tiny-org/bad", "--json")
    assert (told.code, why in told.error) == (1, True)
    assert not list(home.rglob("*.safetensors"))
    assert not (home / "models" / "tiny-org").exists()


def test_what_the_hub_does_not_have_is_refused(hub: Hub, gw: Run) -> None:
    assert "there is no model tiny-org/none" in gw("models", "pull", "tiny-org/none").error
    assert gw("models", "pull", REPO, "--revision", "v9").error == f"{REPO} has no revision 'v9'"


def test_a_hub_that_is_away(gw: Run, home: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.cli.pull._LISTING_TRIES", 1)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    told = gw("models", "pull", REPO, "--json")
    assert told.error == "can't reach 127.0.0.1:9; is this machine online?"


@pytest.mark.parametrize(
    "words",
    [
        ("tiny",),
        ("../x",),
        ("a/b/c",),
        ("",),
        (),
        (REPO, "--revision", ""),
        (REPO, "--revision", "a\nb"),
        (REPO, "x"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(hub: Hub, gw: Run, words: tuple[str, ...]) -> None:
    assert gw("models", "pull", *words).code == 2
    assert hub.asked == []


def test_a_folder_that_cannot_be_written_is_told(hub: Hub, gw: Run, home: Path) -> None:
    (home / "models").write_text("a file")
    assert f"can't write {REPO}: " in gw("models", "pull", REPO, "--json").error


def test_a_daemon_is_told_and_says_what_it_has_in_memory(
    hub: Hub, gw: Run, home: Path, daemon: Daemon
) -> None:
    told = gw("models", "pull", REPO)
    assert daemon.asked == ["models.list"]
    assert daemon.live.looks == 1
    assert "in memory" not in told.err
    daemon.live.models = [{"name": REPO, "path": str(home / "models" / REPO), "state": "ready"}]
    told = gw("models", "pull", REPO, "--force")
    assert f"`mlx-gateway models unload {REPO}`, and the next request loads the new one" in told.err
