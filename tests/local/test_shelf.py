"""Models come whole and leave whole, whatever stops it in between."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from gateway.errors import RefusedError
from gateway.local.shelf import Mark, Shelf

NAME = "org/tiny"
MARK = Mark(repo=NAME, revision="a" * 40, pulled_at="2026-01-02T03:04:05Z")


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def put(shelf: Shelf, text: str, name: str = NAME, mark: Mark = MARK) -> Path:
    with shelf.workplace(name) as place:
        (place / "config.json").write_text(text)
        return shelf.put(name, place, mark)


def hidden(shelf: Shelf) -> list[str]:
    return sorted(path.name for path in shelf.root.iterdir() if path.name.startswith("."))


def test_a_model_is_there_when_it_is_put_and_says_what_it_is(shelf: Shelf) -> None:
    assert shelf.mark(NAME) is None
    folder = put(shelf, "one")
    assert folder == shelf.root / "org" / "tiny" == shelf.folder(NAME)
    assert (folder / "config.json").read_text() == "one"
    assert shelf.mark(NAME) == MARK
    assert not shelf.has_unfinished(NAME)
    assert hidden(shelf) == [".pulling"]


def test_a_newer_one_takes_its_place(shelf: Shelf) -> None:
    put(shelf, "one")
    newer = Mark(repo=NAME, revision="b" * 40, pulled_at="")
    folder = put(shelf, "two", mark=newer)
    assert (folder / "config.json").read_text() == "two"
    assert shelf.mark(NAME) == newer
    assert hidden(shelf) == [".pulling"]


def test_the_old_one_stays_when_the_new_one_cannot_come(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = put(shelf, "one")
    rename = Path.rename

    def fails(path: Path, target: Path) -> Path:
        if path.parent.name == ".pulling":
            raise OSError("no")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(OSError, match="no"):
        put(shelf, "two")
    assert (folder / "config.json").read_text() == "one"
    assert shelf.has_unfinished(NAME)


def test_what_has_grown_is_there_the_next_time(shelf: Shelf) -> None:
    with shelf.workplace(NAME) as place:
        (place / "half").write_text("x")
    with shelf.workplace(NAME) as place:
        assert (place / "half").read_text() == "x"
        assert place.stat().st_mode & 0o777 == 0o700


def test_two_do_not_work_at_one_model(shelf: Shelf) -> None:
    with shelf.workplace(NAME), shelf.workplace("org/other"):
        with pytest.raises(RefusedError, match="org/tiny is being pulled by another command"):
            shelf.workplace(NAME).__enter__()
        with pytest.raises(RefusedError, match="being pulled"):
            shelf.discard(NAME)


def test_one_who_waited_for_a_folder_that_went_does_not_take_it(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It opened the place, then the other one finished: what it holds now is the model itself."""
    lock = fcntl.flock

    def finished_meanwhile(fd: int, how: int) -> None:
        (shelf.root / ".pulling" / "org--tiny").rename(shelf.root / "done")
        lock(fd, how)

    monkeypatch.setattr(fcntl, "flock", finished_meanwhile)
    with pytest.raises(RefusedError, match="being pulled"):
        shelf.workplace(NAME).__enter__()


def test_a_mark_that_is_none(shelf: Shelf) -> None:
    folder = put(shelf, "one")
    for text in ("", "{}", "[]", "\xff"):
        (folder / ".pulled.json").write_text(text)
        assert shelf.mark(NAME) is None


def test_a_model_goes_with_its_unfinished_update_and_its_empty_owner(shelf: Shelf) -> None:
    put(shelf, "one")
    put(shelf, "two", "org/other")
    with shelf.workplace(NAME):
        pass
    shelf.remove(NAME)
    assert not shelf.folder(NAME).exists()
    assert not shelf.has_unfinished(NAME)
    assert shelf.folder("org/other").exists()
    shelf.remove("org/other")
    assert [path.name for path in shelf.root.iterdir()] == [".pulling"]


def test_a_model_of_no_owner_goes(shelf: Shelf) -> None:
    (shelf.root / "tiny").mkdir(parents=True)
    shelf.remove("tiny")
    assert not list(shelf.root.iterdir())


def test_a_link_goes_and_what_it_leads_to_stays(shelf: Shelf) -> None:
    folder = put(shelf, "one")
    (shelf.root / "alias").symlink_to(folder)
    shelf.remove("alias")
    assert not os.path.lexists(shelf.root / "alias")
    assert (folder / "config.json").read_text() == "one"


def test_what_a_crash_has_left_is_cleared_away_unless_somebody_is_at_it(shelf: Shelf) -> None:
    put(shelf, "one")
    for name in (".removing-dead", ".removing-busy"):
        (shelf.root / name / "old").mkdir(parents=True)
    (shelf.root / ".removing-file").write_text("not ours")
    fd = os.open(shelf.root / ".removing-busy", os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        shelf.remove(NAME)
    finally:
        os.close(fd)
    assert hidden(shelf) == [".pulling", ".removing-busy", ".removing-file"]


def test_nothing_unfinished_is_nothing_to_discard(shelf: Shelf) -> None:
    shelf.discard(NAME)
    with shelf.workplace(NAME) as place:
        (place / "half").write_text("x")
    shelf.discard(NAME)
    assert hidden(shelf) == [".pulling"]
    assert not list((shelf.root / ".pulling").iterdir())
