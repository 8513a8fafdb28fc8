import pytest

from gateway.failover.breaker import Key
from tests.cli.conftest import Daemon, Run
from tests.failover.play import failure


def test_an_empty_list_says_what_to_do_next(either: Run):
    told = either("upstreams", "list")
    assert told.out == ""
    assert "mlx-gateway upstreams add openai --preset openai" in told.err


def test_a_preset_is_all_that_a_well_known_api_takes(either: Run):
    told = either("upstreams", "add", "openai", "--preset", "openai")
    assert told.out == "added upstream openai: openai at https://api.openai.com/v1\n"
    assert "mlx-gateway credentials add openai" in told.err
    told = either("upstreams", "add", "lab", "--preset", "ollama")
    assert "credentials add" not in told.err
    assert "api.openai.com" in either("upstreams", "list").out


def test_an_upstream_of_one_s_own_has_all_its_settings(either: Run):
    told = either(
        "upstreams", "add", "mine", "--dialect", "anthropic", "--base-url", "https://host.example.com/v1/",
        "--auth", "bearer", "--header", "x-team=blue = 1", "--query", "api-version=2", "--connect-s", "2.5",
        "--no-list-models", "--note", "ours",
    )  # fmt: skip
    assert told.code == 0
    shown = either("upstreams", "show", "mine", "--json").json
    assert shown["base_url"] == "https://host.example.com/v1"
    assert shown["dialect"] == "anthropic"
    assert shown["auth"] == "bearer"
    assert shown["headers"] == {"x-team": "blue = 1"}
    assert shown["query"] == {"api-version": "2"}
    assert shown["connect_s"] == 2.5
    assert shown["list_models"] is False
    assert shown["note"] == "ours"
    assert "x-team: blue = 1" in either("upstreams", "show", "mine").out

    assert either("upstreams", "set", "mine", "--disable", "--list-models", "--connect-s", "3").code == 0
    shown = either("upstreams", "show", "mine", "--json").json
    assert (shown["enabled"], shown["list_models"], shown["connect_s"]) == (False, True, 3.0)
    assert "off" in either("upstreams", "list").out
    assert either("upstreams", "remove", "mine").out == "removed upstream mine\n"
    assert either("upstreams", "list", "--json").json == []


def test_abilities_are_said_shown_and_cleared(either: Run):
    told = either(
        "upstreams", "add", "openai", "--preset", "openai", "--spread", "weight",
        "--ability", "qwen3:8b*: context=16385, vision=no", "--ability", "tools=YES,json=no, prefill=no,responses=no",
    )  # fmt: skip
    assert told.code == 0
    shown = either("upstreams", "show", "openai", "--json").json
    assert shown["spread"] == "weight"
    unsaid = dict.fromkeys(("context", "vision", "tools", "json", "prefill", "responses"))
    assert shown["abilities"] == [
        unsaid | {"pattern": "qwen3:8b*", "context": 16385, "vision": False},
        unsaid | {"pattern": "*", "tools": True, "json": False, "prefill": False, "responses": False},
    ]
    out = either("upstreams", "show", "openai").out
    assert "qwen3:8b*: context=16385, vision=no\n" in out
    assert " tools=yes, json=no, prefill=no, responses=no\n" in out
    assert either("upstreams", "set", "openai", "--ability", "").code == 0
    assert either("upstreams", "show", "openai", "--json").json["abilities"] == []


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["add", "x"], "give --base-url, or --preset"),
        (["add", "x", "--base-url"], "requires an argument"),
        (["add", "x", "--base-url", "https://h/v1", "--dialect", "gemini"], "'gemini' is not one of"),
        (["add", "x", "--base-url", "https://h/v1", "--connect-s", "soon"], "not a valid float"),
        (["set", "x"], "nothing to change"),
        (["set", "x", "--spread", "thin"], "'thin' is not one of"),
        (
            ["set", "x", "--ability", "qwen3:8b"],
            "'8b' is not understood; expected [PATTERN:] context=TOKENS,",
        ),
        (["set", "x", "--ability", "context=many"], "context must be a number of tokens, not 'many'"),
        (["set", "x", "--ability", "a*: tools=1"], "tools must be yes or no, not '1'"),
        (["set", "x", "--ability", "tools=yes, tools=no"], "tools is said twice"),
        (["set", "x", "--ability", ": tools=yes"], "no pattern before the colon"),
    ],
)
def test_a_slip_is_a_usage_error(gw: Run, args: list[str], words: str):
    told = gw("upstreams", *args)
    assert told.code == 2
    assert words in told.error


def test_what_an_upstream_can_t_be_is_refused_with_the_reason(either: Run):
    for args, words in (
        (["--base-url", "ftp://host"], "https://"),
        (["--base-url", "http://api.example.com/v1"], "clear text"),
        (["--preset", "nosuch"], "known: openai, anthropic"),
        (
            ["--base-url", "https://h/v1", "--header", "authorization=Bearer x"],
            "a key goes into a credential",
        ),
    ):
        told = either("upstreams", "add", "x", *args)
        assert told.code == 1
        assert words in told.error


def test_a_pair_that_can_t_be_read_is_not_repeated(gw: Run):
    told = gw("upstreams", "add", "x", "--base-url", "https://h/v1", "--header", "sk-canary-0123456789")
    assert told.code == 2
    assert "expected NAME=VALUE" in told.error
    assert "canary" not in told.err


def test_the_presets_are_listed_with_where_their_key_usually_is(either: Run):
    names = [preset["name"] for preset in either("upstreams", "presets", "--json").json]
    assert {"openai", "anthropic", "openrouter", "azure", "ollama", "vllm"} <= set(names)
    out = either("upstreams", "presets").out
    assert "OPENAI_API_KEY" in out
    assert "give --base-url" in out


def test_test_asks_the_running_gateway(gw: Run, daemon: Daemon):
    gw("upstreams", "add", "openai", "--preset", "openai")
    assert gw("upstreams", "test", "openai").out == "openai works: it lists 2 models (12 ms)\n"
    daemon.live.works = False
    told = gw("upstreams", "test", "openai")
    assert told.code == 1
    assert "openai failed after 1 ms (auth): key refused" in told.error
    told = gw("upstreams", "test", "openai", "--json")
    assert told.code == 1
    assert told.json["outcome"] == "auth"


def test_test_without_a_gateway_says_how_to_start_it(gw: Run):
    gw("upstreams", "add", "openai", "--preset", "openai")
    assert "start it with `mlx-gateway serve`" in gw("upstreams", "test", "openai").error


def test_what_is_left_alone_is_shown_and_cleared(gw: Run, daemon: Daemon):
    gw("upstreams", "add", "openai", "--preset", "openai")
    for name in ("default", "spare"):
        gw("credentials", "add", "openai", "--name", name, stdin=b"sk-0123456789abcdefXYZ9")
    breakers = daemon.live.breakers
    breakers.record(Key("openai", 1, "gpt", 1), failure("auth"), 0.0)
    breakers.record(Key("openai", 2, "gpt", 1), failure("billing"), 0.0)
    breakers.record(Key("openai", 2, "gpt", 1), failure("rate_limited", retry_after_s=90.0), 0.0)
    lines = [" ".join(line.split()) for line in gw("upstreams", "show", "openai").out.splitlines()]
    assert "default sk-...XYZ9 1 1 dead" in lines
    assert "spare sk-...XYZ9 1 1 unpaid, 5 min 0 s" in lines
    assert any(line.startswith("all default dead auth good its credential was refused") for line in lines)
    assert any(line.startswith("gpt spare cooling rate_limited 1 min 30 s") for line in lines)
    listed = [" ".join(line.split()) for line in gw("credentials", "list").out.splitlines()]
    assert "openai default sk-...XYZ9 1 1 dead" in listed
    assert "standing dead" in " ".join(gw("credentials", "show", "openai").out.split())
    assert gw("upstreams", "reset", "openai", "--credential", "spare").out.splitlines() == [
        "cleared credential openai/spare: it was unpaid (billing)",
        "cleared openai/gpt with credential spare: it was cooling (rate_limited)",
    ]
    assert [c["credential"] for c in gw("upstreams", "reset", "openai", "--json").json["cleared"]] == [
        "default"
    ]
    assert (
        gw("upstreams", "reset", "openai").out == "there was nothing against openai; it is asked as usual\n"
    )
    assert "there is no upstream 'opnai'" in gw("upstreams", "reset", "opnai").error
