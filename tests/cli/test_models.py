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
