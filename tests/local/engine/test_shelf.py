"""The disk tier: what was computed before a restart is found after it, and nothing else is."""

from __future__ import annotations

import base64
import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.local.engine import layers, shelf
from gateway.local.engine.prefix import PrefixCache
from gateway.local.engine.shelf import Shelf
from gateway.local.prefixes import pack
from tests.local.engine import tiny

OnMlx = Callable[[Callable[[], Any]], Any]

KEY = "/models/llama|1234|../../etc"
BASE = tiny.prompt(3, 100)
TOLD = [*BASE, 5, 6, 7]


def opened(folder: Path, *, max_bytes: int = 1 << 30, disk_bytes: int = 1 << 30) -> PrefixCache:
    return PrefixCache(max_bytes=max_bytes, folder=folder, disk_bytes=disk_bytes)


def filed(folder: Path, kind: str = "llama", tokens: list[int] = BASE, key: str = KEY) -> Path:
    """Leave one entry on the shelf, as a process that ends does."""
    before = set(folder.glob("*"))
    prefixes = opened(folder)
    prefixes.keep(key, tokens, tiny.filled(tiny.model(kind), tokens))
    prefixes.close()
    (path,) = set(folder.glob("*")) - before
    return path


@pytest.mark.parametrize("kind", tiny.ALL)
@pytest.mark.parametrize("length", [40, 100])
def test_every_kind_of_cache_survives_a_restart(
    on_mlx: OnMlx, tmp_path: Path, kind: str, length: int
) -> None:
    """40 tokens are below the least that is written, so they are brought there by hand."""

    def work() -> None:
        made, told = tiny.model(kind), [*tiny.prompt(3, length), 5, 6, 7]
        cache = tiny.filled(made, told[:length])
        layers.cut(cache, length)
        assert Shelf(tmp_path, 1 << 30).put(KEY, pack(told[:length]), cache)
        after = opened(tmp_path)
        held, covered = after.fetch(KEY, told)
        assert covered == length and held is not None
        assert tiny.warm(made, told, held, covered) == tiny.cold(made, told)
        assert (after.restored, after.hits, after.nbytes > 0) == (1, 1, True)
        shorter = told[: length - 9]
        held, covered = after.fetch(KEY, shorter)
        if length <= tiny.TRIMMABLE.get(kind, 0):
            assert held is not None and covered == length - 10
            assert tiny.warm(made, shorter, held, covered) == tiny.cold(made, shorter)
        else:
            assert held is None
        assert after.restored == 1

    on_mlx(work)


def test_what_leaves_memory_comes_back_from_disk(on_mlx: OnMlx, tmp_path: Path) -> None:
    def work() -> None:
        made = tiny.model("llama")
        others = [tiny.prompt(n, 100) for n in (4, 5, 6)]
        prefixes = opened(tmp_path)
        for tokens in (BASE, *others, tiny.prompt(7, 50)):
            prefixes.keep(KEY, tokens, tiny.filled(made, tokens))
        prefixes.shrink(0)
        assert (prefixes.nbytes, prefixes.spilled) == (0, 4)  # the short one is not worth a file
        held, covered = prefixes.fetch(KEY, TOLD)
        assert covered == 100 and held is not None
        assert tiny.warm(made, TOLD, held, covered) == tiny.cold(made, TOLD)
        prefixes.forget(KEY)
        assert (prefixes.nbytes, prefixes.spilled) == (0, 4)  # it is on disk already
        prefixes.max_bytes = 1000  # no room in memory for even one
        assert prefixes.fetch(KEY, TOLD)[1] == 100 and prefixes.nbytes == 0
        assert prefixes.fetch("another key", TOLD) == (None, 0)
        longer = [*BASE, *others[0]]
        prefixes.keep(KEY, longer, tiny.filled(made, longer))
        assert (prefixes.spilled, len(list(tmp_path.iterdir()))) == (5, 4)  # in the place of its beginning

    on_mlx(work)


def test_files_are_private_and_named_by_hashes(on_mlx: OnMlx, tmp_path: Path) -> None:
    def work() -> None:
        folder = tmp_path / "a" / "prompts"
        path = filed(folder)
        assert folder.stat().st_mode & 0o777 == 0o700
        assert path.stat().st_mode & 0o777 == 0o600
        assert shelf._NAME.fullmatch(path.name) and "models" not in path.name

    on_mlx(work)


def _cut_off(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def _other_tokens(path: Path) -> None:
    """Somebody gives the cache of one text out for that of another."""
    mine, other = (base64.b64encode(pack(tiny.prompt(n, 100))) for n in (3, 4))
    path.write_bytes(path.read_bytes().replace(mine, other))


def _other_version(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"prompt cache 1,", b"prompt cache 0,"))


def _other_header(path: Path) -> None:
    head = json.dumps({"__metadata__": {"0.tokens": 3}, "x": {"data_offsets": [0, 0]}}).encode()
    path.write_bytes(len(head).to_bytes(8, "little") + head)


def _flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "empty": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(b"\x10\0\0\0\0\0\0\0{not json at all" * 9),
    "huge header": lambda path: path.write_bytes(b"\xff" * 64),
    "deep header": lambda path: path.write_bytes((90_000).to_bytes(8, "little") + b"[" * 90_000),
    "cut": _cut_off,
    "other header": _other_header,
    "other tokens": _other_tokens,
    "other version": _other_version,
    "one bit": _flipped,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_removed_and_never_used(
    on_mlx: OnMlx, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    def work() -> None:
        path = filed(tmp_path)
        DAMAGES[damage](path)
        (tmp_path / "a user's file.safetensors").write_text("not ours")
        prefixes = opened(tmp_path)
        assert prefixes.fetch(KEY, TOLD) == (None, 0) and prefixes.restored == 0
        assert [p.name for p in tmp_path.iterdir()] == ["a user's file.safetensors"]

    on_mlx(work)
    assert "is removed" in caplog.text and caplog.records[0].levelno == logging.WARNING


def test_a_file_under_another_model_is_not_used(on_mlx: OnMlx, tmp_path: Path) -> None:
    def work() -> None:
        path = filed(tmp_path)
        other = shelf._name("another key", path.stem.split("-")[1])
        shutil.copy(path, tmp_path / other)
        prefixes = opened(tmp_path)
        assert prefixes.fetch("another key", TOLD) == (None, 0)
        assert list(tmp_path.iterdir()) == [path]
        assert prefixes.fetch(KEY, TOLD)[1] == 100

    on_mlx(work)


def test_a_file_that_holds_less_than_it_says_is_not_used(on_mlx: OnMlx, tmp_path: Path) -> None:
    """The last line: hash and header are right, but the layers disagree with the tokens."""

    def work() -> None:
        shorter = tiny.filled(tiny.model("llama"), BASE[:99])
        assert Shelf(tmp_path, 1 << 30).put(KEY, pack(BASE), shorter)
        assert opened(tmp_path).fetch(KEY, TOLD) == (None, 0)
        assert list(tmp_path.iterdir()) == []

    on_mlx(work)


def test_a_file_that_promises_to_be_cut_and_can_not_is_not_used(
    on_mlx: OnMlx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A state has no length: were it given for a shorter prompt, no later check would see it."""

    def work() -> None:
        with monkeypatch.context() as lie:
            lie.setattr(layers, "trimmable", lambda _: True)
            assert Shelf(tmp_path, 1 << 30).put(KEY, pack(BASE), tiny.filled(tiny.model("mamba2"), BASE))
        assert opened(tmp_path).fetch(KEY, BASE[:70]) == (None, 0)
        assert list(tmp_path.iterdir()) == []
        with monkeypatch.context() as lie:  # the same in memory
            lie.setattr(layers, "trimmable", lambda _: True)
            prefixes = opened(tmp_path)
            prefixes.keep(KEY, BASE, tiny.filled(tiny.model("gemma3_text"), BASE))
        assert prefixes.fetch(KEY, BASE[:70]) == (None, 0)

    on_mlx(work)


def test_the_disk_is_bounded_and_the_least_recently_used_go_first(on_mlx: OnMlx, tmp_path: Path) -> None:
    def work() -> None:
        texts = [tiny.prompt(n, 100) for n in range(4)]
        paths = [filed(tmp_path, tokens=text, key=f"model {n}") for n, text in enumerate(texts)]
        for age, path in enumerate(paths):
            os.utime(path, (1000 - age * 100, 1000 - age * 100))  # the last is the oldest
        size = paths[0].stat().st_size
        prefixes = opened(tmp_path, disk_bytes=3 * size + 70_000)
        assert set(tmp_path.iterdir()) == set(paths[:3])
        assert prefixes.fetch("model 2", [*texts[2], 1])[1] == 100  # touches it
        prefixes.keep("model 9", BASE, tiny.filled(tiny.model("llama"), BASE))
        prefixes.close()
        assert set(tmp_path.iterdir()) >= {paths[0], paths[2]} and paths[1] not in tmp_path.iterdir()
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 3 * size + 70_000
        assert prefixes.spilled == 1
        tight = opened(tmp_path, disk_bytes=size)  # no room for a file and its header: no write is tried
        tight.keep("model 8", texts[0], tiny.filled(tiny.model("llama"), texts[0]))
        tight.close()
        assert tight.spilled == 0 and len(list(tmp_path.iterdir())) == 1

    on_mlx(work)


def test_two_processes_may_share_the_folder(on_mlx: OnMlx, tmp_path: Path) -> None:
    def work() -> None:
        one, other = opened(tmp_path), opened(tmp_path)
        assert one.fetch(KEY, TOLD) == other.fetch(KEY, TOLD) == (None, 0)
        for prefixes in (one, other):
            prefixes.keep(KEY, BASE, tiny.filled(tiny.model("llama"), BASE))
            prefixes.shrink(0)
        (path,) = tmp_path.iterdir()  # the same content has the same name
        path.unlink()
        assert one.fetch(KEY, TOLD) == (None, 0)
        left = tmp_path / f"{path.name[:25]}unfinished-{'0' * 16}.safetensors"
        left.touch()
        opened(tmp_path)
        assert left.exists()  # somebody may be writing it
        os.utime(left, (1, 1))
        opened(tmp_path)
        assert not left.exists()

    on_mlx(work)


def test_a_disk_that_fails_costs_nothing_but_the_file(
    on_mlx: OnMlx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work() -> None:
        def full(*_: object) -> None:
            raise RuntimeError("[save_safetensors] no space left on device")

        made = tiny.model("llama")
        prefixes = opened(tmp_path / "x")
        prefixes.keep(KEY, BASE, tiny.filled(made, BASE))
        monkeypatch.setattr(shelf, "save_prompt_cache", full)
        prefixes.close()
        assert prefixes.spilled == 0 and list((tmp_path / "x").iterdir()) == []
        (tmp_path / "file").touch()
        none = opened(tmp_path / "file")  # no folder can be made there
        none.keep(KEY, BASE, tiny.filled(made, BASE))
        assert none.fetch(KEY, TOLD)[1] == 100
        none.close()

    on_mlx(work)
