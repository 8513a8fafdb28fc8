from dataclasses import fields

from gateway.cli.knobs import KNOBS, MEANINGS
from gateway.failover.policy import Policy
from tests.cli.conftest import Run


def test_every_field_of_a_policy_is_an_option_with_a_meaning():
    assert {item.name for item in KNOBS} == {item.name for item in fields(Policy)} - {"name"}
    assert list(MEANINGS) == [item.name for item in KNOBS]


def test_the_help_names_every_knob_with_its_default(gw: Run):
    words = " ".join(gw("policies", "set", "--help").out.split())
    for item in KNOBS:
        assert f"--{item.name.replace('_', '-')}" in words
        assert MEANINGS[item.name] in words
    for default in (
        "Default: 90.",
        "Default: 3.",
        "Default: none (never).",
        "Default: error.",
        "Default: all.",
    ):
        assert default in words
