import pytest

from tests.cli.conftest import Run


def test_the_built_in_policies_are_listed(either: Run):
    assert [policy["name"] for policy in either("policies", "list", "--json").json] == [
        "default",
        "local-only",
    ]
    out = either("policies", "list").out
    assert "all defaults" in out
    assert "stay_local=yes" in out


def test_knobs_are_set_and_go_back_to_their_defaults(either: Run):
    told = either("policies", "set", "fast", "--first-token-s", "4", "--attempts", "2", "--stay-local")
    assert told.out == "set policy fast: first_token_s=4  attempts=2  stay_local=yes\n"
    policy = either("policies", "show", "fast", "--json").json
    assert (policy["first_token_s"], policy["attempts"], policy["stay_local"]) == (4.0, 2, True)

    told = either(
        "policies", "set", "fast", "--first-token-s", "none", "--attempts", "default", "--no-stay-local"
    )
    assert told.out == "set policy fast: all defaults\n"
    shown = either("policies", "show", "fast").out
    assert "none (60 s for a stream" in shown
    assert either("policies", "remove", "fast").out == "removed policy fast\n"


def test_which_outcomes_move_on_is_a_list_with_commas(either: Run):
    either("policies", "add", "few", "--on", "slow, local-fault,overloaded")
    assert set(either("policies", "show", "few", "--json").json["on"]) == {
        "slow",
        "local_fault",
        "overloaded",
    }
    either("policies", "set", "few", "--on", "none")
    assert either("policies", "show", "few", "--json").json["on"] == []
    assert "on=none" in either("policies", "list").out
    either("policies", "set", "few", "--on", "all")
    assert len(either("policies", "show", "few", "--json").json["on"]) > 5
    assert (
        "'slwo' is no outcome; known: model_missing" in either("policies", "set", "few", "--on", "slwo").error
    )


@pytest.mark.parametrize(
    ("knob", "value", "words"),
    [
        ("--idle-s", "soon", "'soon' is no number"),
        ("--idle-s", "nan", "'nan' is no number"),
        ("--idle-s", "none", "'none' is no number"),
        ("--attempts", "2.5", "'2.5' is no whole number"),
        ("--mid-stream", "retry", "'retry' is none of error, continue"),
        ("--idle", "3", "did you mean '--idle-s'"),
    ],
)
def test_a_knob_that_can_t_be_read_is_a_usage_error(gw: Run, knob: str, value: str, words: str):
    told = gw("policies", "set", "p", knob, value)
    assert told.code == 2
    assert words in told.error.lower()


def test_a_knob_out_of_its_range_is_refused(either: Run):
    told = either("policies", "set", "p", "--attempts", "1000")
    assert told.code == 1
    assert "attempts must be between" in told.error
    assert "there is no policy 'p'" in either("policies", "show", "p").error


def test_a_policy_that_does_not_exist_is_only_added_once(either: Run):
    assert either("policies", "add", "p", "--idle-s", "3").code == 0
    assert "exists already" in either("policies", "add", "p").error
    assert "nothing to change" in either("policies", "set", "p").error
