import pytest

from tests.cli.conftest import Run


def test_an_empty_list_says_what_to_do_next(either: Run):
    told = either("rules", "list")
    assert told.code == 0
    assert told.out == ""
    assert "no rules yet" in told.err
    assert "mlx-gateway rules add" in told.err
    assert either("rules", "list", "--json").json == []


def test_a_rule_is_added_shown_changed_switched_and_removed(either: Run):
    either("upstreams", "add", "openai", "--preset", "openai")
    told = either(
        "rules", "add", "gpt-4o*", "--to", "local:qwen3-8b", "--to", "openai:{model}", "--priority", "10",
        "--policy", "default", "--note", "the usual",
    )  # fmt: skip
    assert told.out == "added rule 1: gpt-4o* to local:qwen3-8b, then openai:{model}\n"
    rule = either("rules", "show", "gpt-4o*", "--json").json
    assert rule == {
        "id": 1,
        "pattern": "gpt-4o*",
        "priority": 10,
        "enabled": True,
        "targets": ["local:qwen3-8b", "openai:{model}"],
        "policy": "default",
        "note": "the usual",
    }
    assert either("rules", "show", "1", "--json").json == rule
    assert "target 2  openai:{model}" in either("rules", "show", "1").out

    assert either("rules", "set", "1", "--priority", "-5", "--to", "openai").code == 0
    rule = either("rules", "show", "1", "--json").json
    assert (rule["priority"], rule["targets"], rule["note"]) == (-5, ["openai"], "the usual")

    assert either("rules", "disable", "gpt-4o*").out.startswith("disabled rule 1")
    assert "off" in either("rules", "list").out
    assert either("rules", "enable", "1").out.startswith("enabled rule 1")
    assert either("rules", "remove", "1").out.startswith("removed rule 1")
    assert either("rules", "list", "--json").json == []


@pytest.mark.parametrize("pattern", ["-mini*", "*", "*-mini", "-h*", "-", "[ab]*", "@x"])
def test_patterns_that_look_like_options_or_globs_are_patterns(gw: Run, pattern: str):
    assert gw("rules", "add", pattern, "--to", "local:demo").code == 0
    assert gw("rules", "show", pattern, "--json").json["pattern"] == pattern
    assert gw("rules", "set", pattern, "--note", "-x").code == 0
    assert gw("rules", "show", pattern, "--json").json["note"] == "-x"
    assert gw("rules", "remove", pattern).code == 0


def test_two_dashes_go_before_a_pattern_that_begins_with_two(gw: Run):
    assert gw("rules", "add", "--to", "local:demo", "--", "--odd*").code == 0
    assert gw("rules", "list", "--json").json[0]["pattern"] == "--odd*"
    assert "no such option '--odd'" in gw("rules", "show", "--odd").error


def test_a_rule_is_refused_in_one_line_that_says_why(either: Run):
    assert "target 'local:' has a colon" in either("rules", "add", "a", "--to", "local:").error
    told = either("rules", "add", "a", "--to", "nobody:x")
    assert told.code == 1
    assert "nobody" in told.error
    told = either("rules", "show", "7")
    assert told.code == 1
    assert "there is no rule '7'" in told.error
    assert either("rules", "list", "--json").json == []


def test_a_slip_is_a_usage_error(gw: Run):
    for args in (["add", "a"], ["add", "--to", "local"], ["set", "1"], ["add", "a", "b", "--to", "local"]):
        told = gw("rules", *args)
        assert told.code == 2
        assert "see: mlx-gateway rules" in told.error
    assert "nothing to change" in gw("rules", "set", "1").error
    assert (
        "did you mean '--priority'"
        in gw("rules", "add", "a", "--to", "local", "--priorty", "1").error.lower()
    )


def test_check_finds_a_shadowed_rule_and_that_is_no_error(either: Run):
    assert either("rules", "check").out == "the rules are fine\n"
    either("rules", "add", "a*", "--to", "local:demo", "--priority", "9")
    told = either("rules", "add", "ab*", "--to", "local:demo")
    assert told.code == 0
    assert "warning: " in told.err
    told = either("rules", "check")
    assert told.code == 0
    assert "warning" in told.out
    assert [f["level"] for f in either("rules", "check", "--json").json["findings"]] == ["warning"]


def test_what_was_exported_can_be_imported_from_a_file_and_from_standard_input(either: Run, home):
    either("rules", "add", "gpt-4o*", "--to", "local:qwen3-8b", "--priority", "3")
    exported = either("rules", "export").out
    assert either("rules", "export", "--json").json == {"toml": exported}
    book = home / "rules.toml"
    book.write_text(exported)
    before = either("rules", "list", "--json").json

    assert either("rules", "import", book).out == "imported: 1 unchanged\n"
    told = either("rules", "import", "-", "--replace", stdin=exported.encode())
    assert told.out == "imported: 1 added, 1 removed\n"
    after = either("rules", "list", "--json").json
    assert [{**rule, "id": 0} for rule in after] == [{**rule, "id": 0} for rule in before]


def test_a_bad_book_changes_nothing(either: Run, home):
    either("rules", "add", "keep", "--to", "local:demo")
    book = home / "rules.toml"
    for text in (b"[[rules]\n", b"\xff\xfe", b'[[rules]]\npattern = "a"\nto = ["nobody:x"]\n'):
        book.write_bytes(text)
        told = either("rules", "import", book, "--replace")
        assert told.code == 1
        assert told.error
    assert "can't be read: No such file" in either("rules", "import", home / "none.toml").error
    assert [rule["pattern"] for rule in either("rules", "list", "--json").json] == ["keep"]


def test_a_list_for_a_program_has_one_rule_on_a_line(gw: Run):
    long = "local:" + "x" * 200
    gw("rules", "add", "a*", "--to", long, "--to", "local:b")
    lines = gw("rules", "list").out.splitlines()
    assert len(lines) == 3
    assert f"{long} → local:b" in lines[2]
    assert all(line == line.rstrip() for line in lines)
