"""Which models are found on disk, and what is never listed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.config import Local
from gateway.local.catalog import DEMO, Catalog, hub_cache, is_usable
from tests.local.models import make_model


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


def names(home: Path, config: Local | None = None) -> set[str]:
    return set(Catalog(config or Local(), home).refresh()) - {DEMO}


def test_models_are_found_one_and_two_levels_deep(tmp_path: Path) -> None:
    make_model(tmp_path / "models" / "one")
    make_model(tmp_path / "models" / "org" / "two")
    make_model(tmp_path / "models" / "a" / "b" / "three")
    make_model(tmp_path / "more" / "four")
    config = Local(models_dirs=(str(tmp_path / "more"), str(tmp_path / "nowhere")))
    assert names(tmp_path, config) == {"one", "org/two", "four"}


def test_what_is_known_of_a_model(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "models" / "one", context=123)
    catalog = Catalog(Local(), tmp_path)
    model = catalog.refresh()["one"]
    assert model.path == str(folder)
    assert model.context == 123
    assert model.size_bytes == (folder / "model.safetensors").stat().st_size
    assert not catalog.stale
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    assert catalog.refresh()["one"] == model
    catalog.expire()
    assert catalog.refresh()["one"].fingerprint != model.fingerprint


@pytest.mark.parametrize(
    ("config", "context"),
    [
        ({"text_config": {"max_position_embeddings": 9}}, 9),
        ({"n_positions": 7}, 7),
        ({"text_config": 5}, 0),
        ({"max_position_embeddings": "many"}, 0),
        ({"max_position_embeddings": True}, 0),
    ],
)
def test_the_context_is_read_where_it_may_stand(
    tmp_path: Path, config: dict[str, object], context: int
) -> None:
    folder = make_model(tmp_path / "models" / "one")
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **config}))
    assert Catalog(Local(), tmp_path).refresh()["one"].context == context


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"model_type": 5}',
        '{"model_type": "../evil"}',
        '{"model_type": "Llama"}',
        "[" * 9999,
    ],
)
def test_a_folder_with_an_odd_config_is_no_model(tmp_path: Path, text: str) -> None:
    folder = make_model(tmp_path / "models" / "one")
    (folder / "config.json").write_text(text)
    assert names(tmp_path) == set()


def test_a_folder_without_config_or_weights_is_no_model(tmp_path: Path) -> None:
    (make_model(tmp_path / "models" / "one") / "config.json").unlink()
    (make_model(tmp_path / "models" / "two") / "model.safetensors").unlink()
    folder = make_model(tmp_path / "models" / "three")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert names(tmp_path) == set()


def test_names_that_no_request_could_carry_are_not_listed(tmp_path: Path) -> None:
    for name in (".hidden", "with space", "ümlaut", "-dash"):
        make_model(tmp_path / "models" / name)
    assert names(tmp_path) == set()


def test_nothing_may_lead_out_of_its_root(tmp_path: Path) -> None:
    outside = make_model(tmp_path / "outside")
    inside = make_model(tmp_path / "models" / "good")
    (tmp_path / "models" / "linked").symlink_to(outside)
    (tmp_path / "models" / "alias").symlink_to(inside)
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        folder = make_model(tmp_path / "models" / f"by-{name}")
        (folder / name).unlink()
        (folder / name).symlink_to(outside / name)
    assert names(tmp_path) == {"good", "alias"}


def snapshot(hub: Path, repo: str, revision: str, *, main: bool) -> Path:
    """A model as huggingface_hub keeps it: links into blobs."""
    base = hub / f"models--{repo}"
    folder = base / "snapshots" / revision
    made = make_model(base / "blobs" / revision)
    folder.mkdir(parents=True)
    for file in made.iterdir():
        (folder / file.name).symlink_to(f"../../blobs/{revision}/{file.name}")
    if main:
        (base / "refs").mkdir()
        (base / "refs" / "main").write_text(revision)
    return folder


def test_snapshots_of_the_hub_cache_are_found_by_their_repository(tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    snapshot(hub, "org--name", "aaa", main=True)
    snapshot(hub, "org--name", "bbb", main=False)
    snapshot(hub, "plain", "ccc", main=False)
    snapshot(hub, "a--b--c", "ddd", main=True)
    (hub / "datasets--org--x" / "snapshots" / "eee").mkdir(parents=True)
    (hub / "models--org--empty").mkdir()
    found = Catalog(Local(), tmp_path).refresh()
    assert set(found) - {DEMO} == {"org/name", "plain"}
    assert found["org/name"].path.endswith("/aaa")
    assert names(tmp_path, Local(hub_cache=False)) == set()


def test_a_snapshot_that_leads_out_of_the_cache_is_not_listed(tmp_path: Path) -> None:
    folder = snapshot(tmp_path / "hub", "org--name", "aaa", main=True)
    outside = make_model(tmp_path / "outside")
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to(outside / "config.json")
    assert names(tmp_path) == set()


def test_own_folders_come_before_the_hub_cache(tmp_path: Path) -> None:
    snapshot(tmp_path / "hub", "org--name", "aaa", main=True)
    own = make_model(tmp_path / "models" / "org" / "name")
    make_model(tmp_path / "models" / DEMO)
    found = Catalog(Local(), tmp_path).refresh()
    assert found["org/name"].path == str(own)


def test_where_the_hub_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert hub_cache() == tmp_path / "hub"
    monkeypatch.delenv("HF_HUB_CACHE")
    monkeypatch.setenv("HF_HOME", "/x")
    assert hub_cache() == Path("/x/hub")
    monkeypatch.delenv("HF_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", "/y")
    assert hub_cache() == Path("/y/huggingface/hub")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert hub_cache() == Path("~/.cache/huggingface/hub").expanduser()


@pytest.mark.parametrize(
    ("text", "usable"),
    [
        (b'{"model_type": "llama"}', True),
        (b'{"model_type": "../x"}', False),
        (b'{"model_type": 5}', False),
        (b"[]", False),
        (b"\xff", False),
        (b"[" * 100_000, False),
        (b'{"model_type": "llama"}' + b" " * (4 << 20), False),
    ],
)
def test_a_config_is_judged_before_its_weights_are_there(tmp_path: Path, text: bytes, usable: bool) -> None:
    (tmp_path / "config.json").write_bytes(text)
    assert is_usable(tmp_path / "config.json") == usable
    assert not is_usable(tmp_path / "none.json")


def test_a_scan_that_had_begun_before_the_disk_changed_is_not_the_last_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that was put there while somebody read the disk stayed unknown for a second: its `expire` was lost."""
    catalog = Catalog(Local(), tmp_path)
    scan = catalog._scan

    def slow() -> object:
        found = scan()
        make_model(tmp_path / "models" / "new")
        catalog.expire()
        return found

    monkeypatch.setattr(catalog, "_scan", slow)
    assert "new" not in catalog.refresh()
    monkeypatch.undo()
    assert "new" in catalog.refresh()
