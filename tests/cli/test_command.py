import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.command import arguments_last
from tests.cli.conftest import Run

OPTIONS = {"--to": True, "--priority": True, "--json": False, "-h": False}


@pytest.mark.parametrize(
    ("line", "sorted_line"),
    [
        ("a --to x", "--to x -- a"),
        ("-a* --to -x --json", "--to -x --json -- -a*"),
        ("--to=x -a", "--to=x -- -a"),
        ("--to x -- --a --json", "--to x -- --a --json"),
        ("-h", "-h --"),
        ("-h*", "-- -h*"),
        ("--unknown a", "--unknown -- a"),
        ("a --to", "--to -- a"),
        ("", "--"),
    ],
)
def test_options_come_first_and_what_only_looks_like_one_last(line: str, sorted_line: str):
    assert arguments_last(line.split(), OPTIONS) == sorted_line.split()


@given(st.lists(st.sampled_from(["a", "-a", "*", "--to", "--json", "-h", "--x=1", "--"])))
def test_no_word_is_lost_or_made_up(words: list[str]):
    found = arguments_last(words, OPTIONS)
    assert sorted(found) in (sorted([*words, "--"]), sorted(words))


@pytest.mark.parametrize(
    "line",
    ["--json rules list", "rules --json list", "rules list --json", "--json rules --json list --json"],
)
def test_json_is_understood_wherever_it_stands(gw: Run, line: str):
    assert gw(*line.split()).json == []


def test_the_home_is_understood_wherever_it_stands(gw: Run, tmp_path):
    for number, line in enumerate(("--home {} rules list", "rules --home {} list", "rules list --home={}")):
        home = tmp_path / str(number)
        assert gw(*line.format(home).split()).code == 0
        assert (home / "gateway.db").exists()


def test_an_empty_home_is_a_slip_and_not_the_usual_home(gw: Run):
    for option in ("--home", "--config"):
        told = gw("rules", "list", option, "")
        assert told.code == 2
        assert "expected a path, and it is empty" in told.error
