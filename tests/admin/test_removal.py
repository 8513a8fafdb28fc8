"""Which models go, and the sentence for those that stay."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.admin.operations import Context, run
from gateway.config import Config, Local
from gateway.errors import MissingError, RefusedError
from gateway.local.shelf import Shelf
from tests.admin.conftest import Run


def model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "model.safetensors").write_bytes(b"\0" * 1500)
    return folder


@pytest.fixture
def models(context: Context) -> Path:
    return context.home / "models"


class Daemon:
    """A daemon that has models in these states."""

    def __init__(self, **states: tuple[Path, str]) -> None:
        self.looks = 0
        self._models = [{"name": n, "path": str(p), "state": s} for n, (p, s) in states.items()]

    def local_models(self) -> list[dict[str, Any]]:
        return self._models

    async def look(self) -> None:
        self.looks += 1


async def test_a_model_in_the_home_goes(do: Run, models: Path) -> None:
    folder = model(models / "org" / "tiny")
    model(models / "other")
    assert await do("models.rm", model="org/tiny") == {
        "model": "org/tiny",
        "path": str(folder),
        "size_bytes": 1500,
        "unfinished": False,
        "warnings": [],
    }
    assert [path.name for path in models.iterdir()] == ["other"]
    with pytest.raises(MissingError, match="no local model 'org/tiny'; `mlx-gateway models list` shows them"):
        await do("models.rm", model="org/tiny")


async def test_rules_that_name_it_are_told(do: Run, models: Path) -> None:
    model(models / "tiny")
    await do("rules.add", pattern="gpt-*", to=["local:tiny"])
    await do("rules.add", pattern="x", to=["local:other"])
    assert (await do("models.rm", model="tiny"))["warnings"] == ["rule 1 (gpt-*) still names local:tiny"]


async def test_what_a_stopped_pull_has_left_goes(context: Context, do: Run) -> None:
    with Shelf(context.home).workplace("org/tiny") as place:
        (place / "half").write_text("x")
    assert (await do("models.rm", model="org/tiny"))["unfinished"] is True
    assert not place.exists()


@pytest.mark.parametrize("name", ["../org", "/etc", "", "a\nb", "org/../../x", "x" * 300])
async def test_a_name_that_is_none(do: Run, name: str) -> None:
    with pytest.raises(RefusedError, match="the model name"):
        await do("models.rm", model=name)


@pytest.mark.parametrize("name", [".pulling", ".pulling/org--tiny", "org", "org/tiny/x", "."])
async def test_a_folder_that_is_no_model_stays(context: Context, do: Run, models: Path, name: str) -> None:
    model(models / "org" / "tiny")
    with Shelf(context.home).workplace("org/tiny"), pytest.raises(MissingError):
        await do("models.rm", model=name)
    assert (models / "org" / "tiny" / "config.json").exists()


async def test_demo_stays(do: Run) -> None:
    with pytest.raises(RefusedError, match="demo is part of the program"):
        await do("models.rm", model="demo")


async def test_models_of_others_stay(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = model(tmp_path / "mine" / "tiny")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    cached = model(tmp_path / "hub" / "models--org--cached" / "snapshots" / "abc")
    wide = replace(context, config=Config(local=Local(models_dirs=(str(tmp_path / "mine"),))))
    with pytest.raises(RefusedError, match=r"lies in .*mine/tiny, a folder of local\.models_dirs"):
        await run(wide, "models.rm", {"model": "tiny"})
    with pytest.raises(RefusedError, match=r"Hugging Face cache.*`hf cache rm model/org/cached`"):
        await run(wide, "models.rm", {"model": "org/cached"})
    assert mine.exists()
    assert cached.exists()


async def test_a_link_out_of_the_home_is_no_model(do: Run, models: Path, tmp_path: Path) -> None:
    outside = model(tmp_path / "outside")
    models.mkdir()
    (models / "linked").symlink_to(outside)
    with pytest.raises(MissingError):
        await do("models.rm", model="linked")
    assert (outside / "config.json").exists()


async def test_a_model_that_holds_others_stays(do: Run, models: Path) -> None:
    model(models / "family")
    model(models / "family" / "small")
    with pytest.raises(RefusedError, match="family holds other models: family/small; remove these first"):
        await do("models.rm", model="family")


@pytest.mark.parametrize("state", ["ready", "loading"])
async def test_a_model_in_memory_stays(context: Context, models: Path, state: str) -> None:
    folder = model(models / "tiny")
    live = replace(context, live=Daemon(tiny=(folder, state)))  # type: ignore[arg-type]
    with pytest.raises(RefusedError, match=r"tiny is in memory; .*`mlx-gateway models unload tiny` first"):
        await run(live, "models.rm", {"model": "tiny"})
    assert folder.exists()


async def test_a_daemon_looks_at_the_disk_when_it_is_gone(context: Context, models: Path) -> None:
    daemon = Daemon(tiny=(model(models / "tiny"), "cold"), other=(model(models / "other"), "ready"))
    await run(replace(context, live=daemon), "models.rm", {"model": "tiny"})  # type: ignore[arg-type]
    assert daemon.looks == 1


async def test_a_disk_that_says_no(
    context: Context, do: Run, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model(models / "tiny")

    def fails(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Shelf, "remove", fails)
    with pytest.raises(RefusedError, match="can't remove tiny: Permission denied"):
        await do("models.rm", model="tiny")
