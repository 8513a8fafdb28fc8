import pytest

from tests.cli.conftest import Run

CANARY = "sk-canary-0123456789abcdefXYZ9"


@pytest.fixture
def openai(either: Run) -> Run:
    """The command, with an upstream that takes credentials."""
    either("upstreams", "add", "openai", "--preset", "openai")
    return either


def test_a_secret_goes_in_by_standard_input_and_only_its_ends_come_out(openai: Run, home):
    told = openai("credentials", "add", "openai", stdin=f"{CANARY}\n".encode())
    assert told.code == 0
    assert told.out == "added credential openai/default: sk-...XYZ9\n"
    shown = openai("credentials", "show", "openai", "--json").json
    assert (shown["upstream"], shown["name"], shown["hint"]) == ("openai", "default", "sk-...XYZ9")
    listed = openai("credentials", "list")
    assert "sk-...XYZ9" in listed.out
    for noun in ("credentials list", "upstreams list", "db history"):
        told = openai(*noun.split(), "--json")
        assert "canary" not in told.out + told.err
    for path in home.rglob("*"):
        if path.is_file():
            assert CANARY.encode() not in path.read_bytes()


def test_a_secret_comes_from_a_variable(openai: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SOME_KEY", CANARY)
    told = openai("credentials", "add", "openai", "--name", "second", "--from-env", "SOME_KEY", stdin=b"no\n")
    assert told.out == "added credential openai/second: sk-...XYZ9\n"


def test_a_credential_is_replaced_switched_and_removed(openai: Run):
    openai("credentials", "add", "openai", stdin=CANARY.encode())
    assert openai("credentials", "set", "openai", "--disable", stdin=b"not read").code == 0
    shown = openai("credentials", "show", "openai", "--json").json
    assert (shown["enabled"], shown["version"]) == (False, 1)
    assert "off" in openai("credentials", "list").out
    assert openai("credentials", "set", "openai", "--enable").code == 0
    told = openai("credentials", "set", "openai", stdin=b"sk-another-0123456789abcdefABC1\r\n")
    assert told.out == "changed credential openai/default: sk-...ABC1\n"
    assert openai("credentials", "show", "openai", "--json").json["version"] == 2
    assert openai("credentials", "remove", "openai").out == "removed credential openai/default\n"
    assert openai("credentials", "list", "openai", "--json").json == []


def test_the_weight_of_a_credential_is_given_and_changed_without_its_secret(openai: Run):
    openai("credentials", "add", "openai", stdin=CANARY.encode())
    openai("credentials", "add", "openai", "--name", "b", "--weight", "7", stdin=CANARY.encode())
    assert [c["name"] for c in openai("credentials", "list", "--json").json] == ["b", "default"]
    assert openai("credentials", "set", "openai", "--weight", "8", stdin=b"not read").code == 0
    shown = openai("credentials", "list", "--json").json
    assert [(c["name"], c["weight"], c["version"]) for c in shown] == [("default", 8, 1), ("b", 7, 1)]
    assert "0 is not in the range" in openai("credentials", "set", "openai", "--weight", "0").error


@pytest.mark.parametrize(
    "args",
    [
        ["add", "openai", CANARY],
        ["add", "openai", "--secret", CANARY],
        ["add", "openai", f"--secret={CANARY}"],
        ["add", "openai", f"--{CANARY}"],
        ["add", "openai", f"-{CANARY}"],
        ["add", CANARY],
        ["add", CANARY, "--name", "x"],
        ["set", "openai", CANARY],
        ["set", CANARY],
        ["remove", "openai", CANARY],
        ["add", "openai", "--from-env", CANARY],
        ["set", "openai", "--from-env", CANARY],
    ],
)
def test_a_secret_on_the_command_line_is_refused_and_never_repeated(gw: Run, args: list[str]):
    gw("upstreams", "add", "openai", "--preset", "openai")
    told = gw("credentials", *args, stdin=b"sk-other-0123456789\n")
    assert told.code == 2
    assert "canary" not in told.err.lower()
    assert told.error
    assert gw("credentials", "list", "--json").json == []


@pytest.mark.parametrize(
    ("stdin", "words"),
    [
        (b"", "standard input holds no secret"),
        (b"\n", "standard input holds no secret"),
        (b"two\nlines\n", "one line of ASCII"),
        (b"a b \n", "one line of ASCII"),
        (b"\xff\xfe", "is not text"),
        ("schlüssel\n".encode(), "one line of ASCII"),
        (b"x" * 20_000, "that is no secret"),
    ],
)
def test_what_can_t_be_a_secret_is_refused(gw: Run, stdin: bytes, words: str):
    gw("upstreams", "add", "openai", "--preset", "openai")
    told = gw("credentials", "add", "openai", stdin=stdin)
    assert told.code == 2
    assert words in told.error


def test_an_upstream_that_does_not_exist_is_refused(either: Run):
    told = either("credentials", "add", "nobody", stdin=CANARY.encode())
    assert told.code == 1
    assert "there is no upstream 'nobody'" in told.error


def test_an_empty_list_says_what_to_do_next(openai: Run):
    assert "mlx-gateway credentials add openai --from-env" in openai("credentials", "list").err
