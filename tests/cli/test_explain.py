from tests.cli.conftest import Daemon, Run


def test_it_says_which_rule_won_and_why_and_what_is_skipped(either: Run):
    either("upstreams", "add", "openai", "--preset", "openai")
    either("rules", "add", "gpt-*", "--to", "local:qwen3-8b", "--to", "openai")
    either("rules", "add", "gpt-4o*", "--to", "local:demo", "--to", "openai:{model}")
    either("rules", "add", "claude-*", "--to", "local:demo")
    out = either("explain", "gpt-4o-mini").out
    assert "gpt-4o-mini meets rule 2: gpt-4o*" in out
    assert "Its policy is default." in out
    lines = [line.split() for line in out.splitlines()]
    assert ["1", "local/demo"] in lines
    assert ["-", "openai/gpt-4o-mini"] in lines
    assert "skipped: the upstream has no credential; mlx-gateway credentials add openai" in out
    rules = [line.split()[:2] for line in out.splitlines()[-3:]]
    assert rules == [["2", "gpt-4o*"], ["1", "gpt-*"], ["3", "claude-*"]]


def test_json_is_the_whole_of_it(either: Run):
    answer = either("explain", "anything", "--json").json
    assert answer["model"] == "anything"
    assert answer["rule"] is None
    assert answer["targets"][0]["target"] == "local/anything"


def test_a_name_without_a_rule_goes_to_the_default_target(either: Run):
    assert "meets no rule, and goes to the default target" in either("explain", "anything").out


def test_a_rule_that_stays_local_says_so(either: Run):
    either("rules", "add", "private/*", "--to", "local:{1}", "--policy", "local-only")
    assert "Its policy is local-only, and stays on this machine." in either("explain", "private/x").out


def test_a_running_gateway_tells_its_plan_for_each_dialect(gw: Run, daemon: Daemon):
    chat = {
        "try": [{"target": "openai/a", "credential": "default"}],
        "skip": [{"target": "local/a", "reason": "full"}],
    }
    daemon.live.plans = {"/v1/chat/completions": chat, "/v1/messages": chat}
    out = gw("explain", "a").out
    steps = ["  1  openai/a  with credential default", "  -  local/a", "     skipped: full"]
    assert "\n".join(["What would be tried now, in this order:", *steps]) in out
    daemon.live.plans["/v1/messages"] = {"try": [{"target": "local/a", "credential": None}], "skip": []}
    out = gw("explain", "a").out
    assert "for /v1/chat/completions, in this order:\n  1  openai/a" in out
    assert "for /v1/messages, in this order:\n  1  local/a\n" in out


def test_a_name_that_can_be_no_model_is_refused(either: Run):
    told = either("explain", "../etc/passwd")
    assert told.code in (1, 2)
    assert told.error
