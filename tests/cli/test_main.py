import os
import subprocess
import sys

import click
import pytest

from gateway import __version__
from gateway.cli import main, session
from tests.cli.conftest import Run

VERBS = {
    "rules": "list show add set remove enable disable check import export",
    "policies": "list show add set remove",
    "upstreams": "list show add set remove test reset presets",
    "credentials": "list show add set remove",
    "clients": "list show add set remove",
    "models": "list show load unload bench pull rm",
    "db": "backup migrate history requests",
}


def commands() -> list[list[str]]:
    return [
        ["serve"],
        ["status"],
        ["explain"],
        *([n, v] for n, verbs in VERBS.items() for v in verbs.split()),
    ]


def test_the_nouns_and_verbs_are_those_of_the_design(gw: Run):
    assert set(main.NOUNS) == {*VERBS, "serve", "status", "explain"}
    context = click.Context(main.cli)
    for noun, verbs in VERBS.items():
        group = main.cli.get_command(context, noun)
        assert isinstance(group, click.Group)
        assert set(group.commands) == set(verbs.split())


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_explains_itself_and_takes_the_common_options(gw: Run, words: list[str]):
    told = gw(*words, "--help")
    assert told.code == 0
    assert told.err == ""
    assert f"Usage: mlx-gateway {' '.join(words)} [OPTIONS]" in told.out
    for option in ("--home DIR", "--config FILE", "--json", "-h, --help"):
        assert option in told.out
    assert max(map(len, told.out.splitlines())) <= 80


def test_help_names_every_noun_and_how_completion_is_set_up(gw: Run):
    out = gw("--help").out
    for noun, words in main.NOUNS.items():
        assert f"  {noun} " in out
        assert words in out
    assert "_MLX_GATEWAY_COMPLETE=zsh_source" in out
    assert max(map(len, out.splitlines())) <= 80


def test_nothing_at_all_shows_the_help_and_is_a_usage_error(gw: Run):
    for words in ((), ("rules",)):
        told = gw(*words)
        assert told.code == 2
        assert told.out == ""
        assert "Usage: mlx-gateway" in told.err


def test_a_word_that_is_no_command_gets_the_nearest(gw: Run):
    told = gw("rulse", "list")
    assert told.code == 2
    assert "did you mean 'rules'" in told.error.lower()
    assert "did you mean 'list'" in gw("rules", "lst").error.lower()


def test_the_version(gw: Run):
    assert gw("--version").out == f"{__version__}\n"


def test_a_bug_is_one_line_that_says_where_and_repeats_no_value(gw: Run, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object) -> None:
        raise KeyError("sk-canary")

    monkeypatch.setattr(session, "make_home", broken)
    told = gw("rules", "list")
    assert told.code == 1
    assert "internal error: KeyError at test_main.py:" in told.error
    assert "canary" not in told.err


@pytest.mark.parametrize("stop", [KeyboardInterrupt, click.Abort])
def test_stopping_a_command_is_no_traceback(
    gw: Run, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException]
):
    def interrupted(*_: object) -> None:
        raise stop

    monkeypatch.setattr(session, "make_home", interrupted)
    told = gw("rules", "list")
    assert told.code == 130
    assert told.err.strip() == "mlx-gateway: stopped"  # click ends the line that ^C was typed in


def test_a_reader_that_leaves_early_is_no_traceback(home):
    """`mlx-gateway rules export | head -1` closes the pipe while the command still writes."""
    command = subprocess.Popen(
        [sys.executable, "-m", "gateway", "upstreams", "presets", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert command.stdout is not None
    assert command.stderr is not None
    command.stdout.close()
    with command.stderr:
        assert command.stderr.read() == b""
    assert command.wait(timeout=30) == 1


def test_as_a_module_it_is_the_same_program(home):
    found = subprocess.run(
        [sys.executable, "-m", "gateway", "rules", "lst"], capture_output=True, text=True, check=False
    )
    assert found.returncode == 2
    assert found.stderr.startswith("mlx-gateway: no such command 'lst'")


def test_completion_knows_the_nouns_and_the_verbs(home):
    for words, expected in (("mlx-gateway ", "rules"), ("mlx-gateway rules ", "import")):
        environment = {
            **os.environ,
            "_MLX_GATEWAY_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split())),
        }
        found = subprocess.run(
            [sys.executable, "-m", "gateway"], env=environment, capture_output=True, text=True, check=False
        )
        assert f"plain,{expected}" in found.stdout
