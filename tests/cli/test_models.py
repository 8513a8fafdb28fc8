from tests.cli.conftest import Daemon, Run


def test_the_models_on_this_machine_are_listed_without_a_daemon(gw: Run, home):
    folder = home / "models" / "tiny"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "model.safetensors").write_bytes(b"\0" * 1500)
    (folder / "tokenizer.json").write_text("{}")
    names = [model["name"] for model in gw("models", "list", "--json").json]
    assert "tiny" in names
    assert "tiny" in gw("models", "list").out


def test_a_running_gateway_says_which_are_loaded(gw: Run, daemon: Daemon):
    out = gw("models", "list").out
    assert "demo" in out
    assert "loaded" in out
    assert "1.2 MB" in out


def test_what_a_model_is_has_a_line_for_every_fact(gw: Run, daemon: Daemon):
    out = gw("models", "show", "demo").out
    assert "LlamaForCausalLM" in out
    assert "template: tools" in out
    assert "738,176" in out
    assert "1.5 MB" in out
    assert "1,234.6 tokens/s" in out
    assert gw("models", "show", "demo", "--json").json["in_memory"]["batched"] is True


def test_a_model_that_nobody_knows_is_refused(gw: Run, daemon: Daemon):
    for verb in ("show", "load", "unload"):
        done = gw("models", verb, "nobody")
        assert done.code == 1
        assert "nobody" in done.err


def test_a_model_comes_and_goes_by_hand(gw: Run, daemon: Daemon):
    assert "demo is ready; it took 3 s" in gw("models", "load", "demo").out
    assert gw("models", "load", "demo", "--json").json["state"] == "ready"
    assert "not in memory any more" in gw("models", "unload", "demo").out
    daemon.live.works = False
    done = gw("models", "unload", "demo")
    assert (done.code, done.out) == (1, "")
    assert "in use" in done.err


def test_what_was_measured_is_told_in_tokens_a_second(gw: Run, daemon: Daemon):
    out = gw("models", "bench", "demo").out
    assert "2,048 tokens/s" in out
    assert "8 answers at once" in out
    assert gw("models", "bench", "demo", "--json").json["decode_tps"]["8"] == 480.0


def test_a_gateway_that_does_not_run_has_nothing_in_memory(gw: Run):
    for verb in ("load", "unload", "bench"):
        done = gw("models", verb, "demo")
        assert done.code == 1
        assert "not running" in done.err
