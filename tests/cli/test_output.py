import pytest

from gateway.cli import output
from tests.cli.conftest import Run


def test_columns_stand_under_each_other_and_empty_ones_are_left_out(capsys):
    output.table(("A", "Empty", "N"), [("x", "", 1), ("longer", None, 200)])
    assert capsys.readouterr().out.splitlines() == [
        "A         N",
        "───────────",
        "x         1",
        "longer  200",
    ]


def test_what_a_terminal_would_obey_is_not_printed(gw: Run):
    evil = "\x1b[2Jred\x07\x9b31m\u202e"
    assert output.clean(evil) == "\ufffd[2Jred\ufffd\ufffd31m\ufffd"
    assert output.clean("two\nlines") == "two\nlines"


def test_markup_in_data_is_data(capsys):
    output.table(("A",), [("[bold]x[/bold]",), ("gpt-[45]*",)])
    out = capsys.readouterr().out
    assert "[bold]x[/bold]" in out
    assert "gpt-[45]*" in out


def test_steps_are_one_line_for_a_program(capsys):
    output.table(("A",), [(("one", "two"),), (("three",),)])
    assert "one → two" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 B"), (999, "999 B"), (1500, "2 KB"), (2_500_000, "2.5 MB"), (7e9, "7.0 GB"), (None, "")],
)
def test_sizes_are_in_people_s_units(count, words):
    assert output.size(count) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.5, "0.5 s"), (59, "59 s"), (61, "1 min 1 s"), (3725, "1 h 2 min"), (90000, "1 d 1 h")],
)
def test_durations_are_in_people_s_units(seconds, words):
    assert output.lasting(seconds) == words


def test_a_moment_is_shown_in_the_user_s_time(monkeypatch):
    assert output.when("2026-01-02T03:04:05Z").startswith("2026-01-0")
    assert output.when(None) == ""


def test_json_is_utf_8_one_value_and_nothing_else(gw: Run):
    gw("rules", "add", "a", "--to", "local:demo", "--note", "für später → 東京")
    told = gw("rules", "list", "--json")
    assert told.err == ""
    assert told.json[0]["note"] == "für später → 東京"
    assert "東京" in told.out
