"""`models rm` as a person runs it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gateway.local.shelf import Shelf
from tests.cli.conftest import Run
from tests.cli.test_progress import on_a_terminal
from tests.local.models import make_model


def test_a_model_goes_with_and_without_a_daemon(either: Run, home: Path) -> None:
    folder = make_model(home / "models" / "org" / "tiny")
    told = either("models", "rm", "org/tiny")
    assert (told.code, told.out, told.err) == (0, "removed model org/tiny (118 KB)\n", "")
    assert not folder.parent.exists()
    assert "no local model 'org/tiny'" in either("models", "rm", "org/tiny").error


def test_json_and_what_is_doubtful(either: Run, home: Path) -> None:
    make_model(home / "models" / "tiny")
    either("rules", "add", "gpt-*", "--to", "local:tiny")
    told = either("models", "rm", "tiny", "--json").json
    assert (told["model"], told["warnings"]) == ("tiny", ["rule 1 (gpt-*) still names local:tiny"])


def test_what_a_stopped_pull_has_left_goes(gw: Run, home: Path) -> None:
    with Shelf(home).workplace("org/tiny") as place:
        (place / "half").write_text("x")
    assert gw("models", "rm", "org/tiny").out == "removed the unfinished download of org/tiny\n"
    assert not place.exists()


@pytest.mark.parametrize(("name", "why"), [("demo", "part of the program"), ("../x", "holds '..'")])
def test_what_stays(either: Run, name: str, why: str) -> None:
    assert why in either("models", "rm", name).error


@pytest.mark.parametrize(("typed", "words", "goes"), [("n\n", (), False), ("", ("--yes",), True)])
def test_a_person_is_asked_first(home: Path, typed: str, words: tuple[str, ...], goes: bool) -> None:
    folder = make_model(home / "models" / "tiny")
    code, seen = on_a_terminal(sys.executable, "-m", "gateway", "models", "rm", "tiny", *words, typed=typed)
    assert ("delete the files of tiny? [y/N]" in seen) == (not words)
    assert (code, folder.exists()) == ((0, False) if goes else (130, True))
