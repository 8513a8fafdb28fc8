import pytest

from tests.cli.conftest import Run


def test_a_key_is_shown_once_with_how_to_use_it(either: Run):
    told = either("clients", "add", "laptop")
    key = next(word for word in told.out.split() if word.startswith("mlxg_"))
    assert len(key) == 48
    assert f"export OPENAI_API_KEY={key}" in told.out
    assert "export OPENAI_BASE_URL=http://127.0.0.1:8484/v1" in told.out
    assert "export ANTHROPIC_BASE_URL=http://127.0.0.1:8484\n" in told.out
    for verb in ("list", "show laptop"):
        told = either("clients", *verb.split())
        assert "mlxg_" in told.out
        assert key not in told.out + either("clients", *verb.split(), "--json").out


def test_the_address_in_the_words_of_use_is_the_configured_one(gw: Run, home):
    (home / "gateway.toml").write_text('[server]\nhost = "::1"\nport = 9000')
    assert "OPENAI_BASE_URL=http://[::1]:9000/v1" in gw("clients", "add", "laptop").out


def test_with_json_the_key_is_a_field(either: Run):
    answer = either("clients", "add", "ci", "--admin", "--expires-days", "30", "--json").json
    assert answer["name"] == "ci"
    assert answer["key"].startswith("mlxg_")
    assert answer["admin"] is True
    assert answer["expires_at"]


def test_a_key_is_changed_and_removed(either: Run):
    either("clients", "add", "laptop", "--expires-days", "1.5")
    assert either("clients", "show", "laptop", "--json").json["expires_at"] is not None
    assert either("clients", "set", "laptop", "--expires-days", "never", "--admin", "--disable").code == 0
    client = either("clients", "show", "laptop", "--json").json
    assert (client["expires_at"], client["admin"], client["enabled"]) == (None, True, False)
    assert "off" in either("clients", "list").out
    assert either("clients", "set", "laptop", "--no-admin", "--enable", "--json").json["admin"] is False
    assert either("clients", "remove", "laptop").out == "removed client key laptop\n"
    told = either("clients", "list")
    assert told.out == ""
    assert "mlx-gateway clients add laptop" in told.err


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["set", "laptop"], 2, "nothing to change"),
        (["add", "x", "--expires-days", "soon"], 2, "expected a number of days, or never"),
        (["add", "x", "--expires-days", "nan"], 2, "expected a number of days, or never"),
        (["add", "x", "--expires-days", "-1"], 1, "expires_days must be more than 0"),
        (["add", "bad name"], 1, "can't be used"),
        (["show", "nobody"], 1, "there is no client key 'nobody'"),
    ],
)
def test_what_can_t_be_done_is_one_line(either: Run, args: list[str], code: int, words: str):
    told = either("clients", *args)
    assert told.code == code
    assert words in told.error
