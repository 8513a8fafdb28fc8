"""Fetching into a folder: whole files only, and never the same byte twice."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.cloud.hub import Hub as Client
from gateway.cloud.patience import Patience
from gateway.cloud.pull import Pull
from gateway.cloud.repository import chosen
from gateway.errors import RefusedError
from tests.hub import Fault, Hub

REPO = "org/tiny"
WEIGHTS = "model.safetensors"
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "sub/vocab.json": b"{}",
    "tokenizer.json": b"[]" * 3000,
    WEIGHTS: bytes(range(256)) * 1000,
}
SIZE = sum(map(len, FILES.values()))


class Watcher:
    """Writes down what it is told; `got` must come out at what is fetched."""

    def __init__(self) -> None:
        self.began: tuple[int, int, int] | None = None
        self.files: list[tuple[int, str]] = []
        self.notes: list[str] = []
        self.bytes = 0

    def begin(self, files: int, size_bytes: int, here_bytes: int) -> None:
        self.began = (files, size_bytes, here_bytes)
        self.bytes = here_bytes

    def file(self, number: int, path: str, size_bytes: int) -> None:
        self.files.append((number, path))

    def got(self, count: int) -> None:
        self.bytes += count

    def note(self, text: str) -> None:
        self.notes.append(text)


class Place:
    """A folder to pull into, and what the pulls there were told."""

    def __init__(self, hub: Hub, folder: Path) -> None:
        self.hub = hub
        self.folder = folder
        self.watcher = Watcher()
        self.slept: list[float] = []
        self.checked: list[bytes] = []
        folder.mkdir()

    def pull(self, *, installed: Path | None = None, check: Callable[[Path], None] | None = None) -> int:
        """One run of the command, as far as this part of it goes; returns the fetched bytes."""
        self.watcher = Watcher()
        self.slept.clear()
        self.hub.forget()
        with Client() as client:
            listing = client.repository(REPO, None)
            return Pull(
                hub=client,
                repository=listing,
                files=chosen(listing),
                folder=self.folder,
                installed=installed,
                check=check or (lambda path: self.checked.append(path.read_bytes())),
                watcher=self.watcher,
                patience=Patience(3, self.watcher.note, self.slept.append),
            ).run()

    def refused(self, **how: Any) -> str:
        with pytest.raises(RefusedError) as caught:
            self.pull(**how)
        return caught.value.message

    @property
    def contents(self) -> dict[str, bytes]:
        found = [path for path in self.folder.rglob("*") if path.is_file()]
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in found}

    @property
    def parts(self) -> list[int]:
        return [path.stat().st_size for path in self.folder.glob(".*.part")]


@pytest.fixture
def place(hub: Hub, tmp_path: Path) -> Place:
    return Place(hub, tmp_path / "place")


@pytest.fixture(scope="module")
def server() -> Iterator[Hub]:
    with Hub() as hub:
        yield hub


@pytest.fixture
def hub(server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    server.reset()
    server.use(monkeypatch, tmp_path)
    server.publish(REPO, FILES)
    return server


def test_everything_comes_and_nothing_else_is_left(place: Place) -> None:
    assert place.pull() == SIZE
    assert place.contents == FILES
    assert place.watcher.began == (4, SIZE, 0)
    assert place.watcher.bytes == SIZE
    assert place.watcher.files == [
        (1, "config.json"),
        (2, "sub/vocab.json"),
        (3, "tokenizer.json"),
        (4, WEIGHTS),
    ]
    assert place.checked == [FILES["config.json"]]


def test_a_config_of_no_use_ends_it_before_the_weights(hub: Hub, place: Place) -> None:
    def refuse(_: Path) -> None:
        raise RefusedError("no model")

    assert place.refused(check=refuse) == "no model"
    assert [asked.path.rpartition("/")[2] for asked in hub.fetched()] == ["config.json"]
    place.pull()
    assert place.checked == [FILES["config.json"]]  # also when it had come before


def test_a_cut_is_repaired_from_where_it_was(hub: Hub, place: Place) -> None:
    hub.fault(WEIGHTS, Fault(cut=100_000), Fault(cut=50_000))
    assert place.pull() == SIZE
    assert hub.ranges(WEIGHTS) == [None, "bytes=100000-", "bytes=150000-"]
    assert place.contents == FILES
    assert place.slept == [0.5, 0.5]  # each of them had brought something
    assert "trying again in 0.5 s" in place.watcher.notes[0]


def test_a_hub_that_stays_away_is_given_up_and_the_next_run_goes_on(hub: Hub, place: Place) -> None:
    hub.fault(WEIGHTS, Fault(cut=100_000), Fault(500, times=9))
    assert place.refused().endswith("what came is kept, the same command goes on from there")
    assert place.slept == [0.5, 1.0]
    assert place.parts == [100_000]
    hub.mend()
    assert place.pull() == len(FILES[WEIGHTS]) - 100_000
    assert place.watcher.began == (4, SIZE, SIZE - 156_000)
    assert len(hub.fetched()) == 1
    assert hub.ranges(WEIGHTS) == ["bytes=100000-"]
    assert place.contents == FILES


def test_an_end_that_no_length_gives_away(hub: Hub, place: Place) -> None:
    """A reply that is complete by its own account, but shorter than the listing says."""
    hub.fault(WEIGHTS, Fault(content=FILES[WEIGHTS][:1000]))
    assert place.pull() == SIZE
    assert "ended model.safetensors after 1000 of 256000 bytes" in place.watcher.notes[0]


def test_once_busy_is_no_failure(hub: Hub, place: Place) -> None:
    hub.fault("tokenizer.json", Fault(500), Fault(429, {"retry-after": "3"}))
    assert place.pull() == SIZE
    assert place.slept == [0.5, 3.0]


def test_a_hub_that_sends_no_parts_begins_anew(hub: Hub, place: Place) -> None:
    hub.fault(WEIGHTS, Fault(cut=100_000), Fault(whole=True))
    assert place.pull() == SIZE + 100_000
    assert place.contents == FILES
    assert place.watcher.bytes == SIZE


@pytest.mark.parametrize("wrong", [FILES[WEIGHTS][::-1], FILES[WEIGHTS] + b"more"])
def test_other_bytes_than_the_hub_lists_are_removed(hub: Hub, place: Place, wrong: bytes) -> None:
    hub.fault(WEIGHTS, Fault(content=wrong))
    message = place.refused()
    assert "its SHA-256 differs; it was removed" in message or "is longer than the 256000 bytes" in message
    assert place.parts == []
    assert WEIGHTS not in place.contents
    assert place.pull() == len(FILES[WEIGHTS])


def test_parts_of_one_commit_are_not_continued_with_another(hub: Hub, place: Place) -> None:
    hub.fault(WEIGHTS, Fault(cut=100_000), Fault(500, times=9))
    place.refused()
    hub.mend()
    other = {**FILES, WEIGHTS: FILES[WEIGHTS][::-1]}
    hub.publish(REPO, other)
    place.pull()
    assert hub.ranges(WEIGHTS) == [None]
    assert place.contents == other


def test_a_stopped_pull_keeps_of_another_commit_what_is_the_same(hub: Hub, place: Place) -> None:
    """Only files with a hash can be known again; the small ones come anew."""
    files = {**FILES, "model-2.safetensors": b"2" * 5000}
    hub.publish(REPO, files)
    hub.fault(WEIGHTS, Fault(cut=100_000), Fault(500, times=9))
    place.refused()
    hub.mend()
    newer = {**files, "tokenizer.json": b"{}", "README.md": b"newer"}
    del newer["sub/vocab.json"]
    hub.publish(REPO, newer)
    place.pull()
    names = [asked.path.rpartition("/")[2] for asked in hub.fetched()]
    assert names == ["config.json", "README.md", "tokenizer.json", WEIGHTS]
    assert hub.ranges(WEIGHTS) == ["bytes=100000-"]
    assert place.contents == newer


@pytest.mark.parametrize("links", [True, False])
def test_what_has_not_changed_since_the_installed_commit_is_not_fetched(
    hub: Hub, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    place.pull()
    old = tmp_path / "old"
    place.folder.rename(old)
    place.folder.mkdir()
    if not links:
        monkeypatch.setattr(os, "link", _no_links)
    hub.publish(REPO, {**FILES, "tokenizer.json": b"new"})
    place.pull(installed=old)
    assert WEIGHTS not in [asked.path.rpartition("/")[2] for asked in hub.fetched()]
    assert place.contents == {**FILES, "tokenizer.json": b"new"}
    assert (old / "tokenizer.json").read_bytes() == FILES["tokenizer.json"]


def _no_links(*_: object) -> None:
    raise OSError("not on this file system")


def test_weights_that_were_changed_by_hand_are_fetched(hub: Hub, place: Place, tmp_path: Path) -> None:
    place.pull()
    old = tmp_path / "old"
    place.folder.rename(old)
    place.folder.mkdir()
    (old / WEIGHTS).write_bytes(FILES[WEIGHTS][::-1])
    assert place.pull(installed=old) == SIZE


def test_a_part_that_is_too_long_is_no_part(hub: Hub, place: Place) -> None:
    hub.fault(WEIGHTS, Fault(cut=100_000), Fault(500, times=9))
    place.refused()
    hub.mend()
    [part] = place.folder.glob(".*.part")
    part.write_bytes(b"x" * 300_000)
    assert place.pull() == len(FILES[WEIGHTS])
    assert place.contents == FILES


def test_a_part_that_was_whole_is_only_checked(hub: Hub, place: Place) -> None:
    """Killed between the last byte and the look at the hash."""
    hub.fault(WEIGHTS, Fault(cut=100_000), Fault(500, times=9))
    place.refused()
    hub.mend()
    [part] = place.folder.glob(".*.part")
    part.write_bytes(FILES[WEIGHTS])
    assert place.pull() == 0
    assert hub.fetched() == []
    assert place.contents == FILES


def test_an_empty_file_is_a_file(hub: Hub, place: Place) -> None:
    hub.publish(REPO, {**FILES, "README.md": b""})
    place.pull()
    assert place.contents["README.md"] == b""


def test_a_disk_that_is_too_small_is_told_before_the_first_byte(
    hub: Hub, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.publish(REPO, FILES, listed={WEIGHTS: {"size": 9 * 10**15}})
    message = place.refused()
    assert "org/tiny needs 9000000.00 GB more and " in message
    assert hub.fetched() == []
    hub.publish(REPO, FILES)
    usage = shutil.disk_usage(place.folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=SIZE))
    assert place.pull() == SIZE
