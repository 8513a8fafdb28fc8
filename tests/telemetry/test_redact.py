from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.telemetry import redact as net
from gateway.telemetry.redact import hide, redact

CANARY = "CaNaRy0123456789abcdefghijklmnop"


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(net, "_opened", {})
    monkeypatch.setattr(net, "_known", ())


@pytest.mark.parametrize(
    "text",
    [
        f"sk-{CANARY}",
        f"sk-proj-{CANARY}",
        f"sk-ant-api03-{CANARY}",
        f"sk-or-v1-{CANARY}",
        f"mlxg_{CANARY}",
        f"gsk_{CANARY}",
        f"xai-{CANARY}",
        f"hf_{CANARY}",
        f"AIza{CANARY}xyz",
        f"Authorization: Bearer {CANARY}",
        f"authorization: Basic {CANARY}=",
        f"{{'Authorization': 'Bearer {CANARY}', 'a': 1}}",
        f"[('x-api-key', '{CANARY}')]",
        f"(b'api-key', b'{CANARY}')",
        f'{{"api_key": "{CANARY}"}}',
        f"api_key={CANARY}&x=1",
        f"x-goog-api-key: {CANARY}",
        f"Cookie: session={CANARY}; other={CANARY}",
        f"set-cookie: a={CANARY}",
        f"GET /v1/models?key={CANARY} 200",
        f"https://host/v1?a=b&token={CANARY}",
        f"postgresql://user:{CANARY}@host/db",
        f"password={CANARY}",
        f"bearer {CANARY}",
        f"eyJhbGciOiJBMjU2S1ci.{CANARY}.{CANARY}",
        f"two: sk-{CANARY}, mlxg_{CANARY}",
    ],
)
def test_what_looks_like_a_key_is_taken_out(text: str) -> None:
    assert CANARY not in redact(text)
    assert "***" in redact(text)
    assert CANARY not in redact(f"before {text} after")


@pytest.mark.parametrize(
    "text",
    [
        "listening on http://127.0.0.1:8484",
        "the API key of upstream openai was refused; enter it again",
        "credential openai/default shows as sk-...abcd",
        "POST /v1/chat/completions 200 model=gpt-4o-mini by=openai/gpt-4o",
        "tokens in=12 out=345",
        "models/mlx-community/Qwen3-8B-4bit: 4.3 GB",
        "task-123 finished, disk-based cache, risk-free",
        "add one with `mlx-gateway credentials add openai`",
    ],
)
def test_ordinary_lines_stay_as_they_are(text: str) -> None:
    assert redact(text) == text


def test_a_key_without_a_shape_is_known_once_it_was_opened() -> None:
    assert redact(f"odd {CANARY}") == f"odd {CANARY}"
    hide(CANARY)
    assert redact(f"odd {CANARY}, twice{CANARY}") == "odd ***, twice***"


def test_of_a_key_that_begins_with_another_nothing_is_left() -> None:
    hide("abcdefgh")
    hide("abcdefghijkl")
    assert redact("x abcdefghijkl y") == "x *** y"


def test_a_short_secret_does_not_eat_the_words() -> None:
    hide("a")
    hide("local")
    assert redact("a local model") == "a local model"


def test_only_so_many_are_remembered() -> None:
    for number in range(600):
        hide(f"secret-number-{number:03d}")
    assert len(net._known) == 512
    assert redact("secret-number-599") == "***"


@given(st.text())
def test_no_text_makes_it_fail(text: str) -> None:
    redact(text)


@given(
    st.text(alphabet=st.characters(codec="ascii"), max_size=40), st.sampled_from(["sk-", "mlxg_", "Bearer "])
)
def test_a_key_is_found_in_any_surroundings(around: str, prefix: str) -> None:
    assert CANARY not in redact(f"{around} {prefix}{CANARY} {around}")
