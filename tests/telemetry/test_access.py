from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from gateway.failover.outcome import Outcome
from gateway.telemetry.access import access
from gateway.telemetry.finished import Finished
from gateway.wire.usage import Usage
from tests.telemetry.conftest import Lines

Begin = Callable[..., Lines]

DONE = Finished(
    request_id="r1",
    method="POST",
    path="/v1/chat/completions",
    status=200,
    seconds=0.8124,
    stream=True,
    client="laptop",
    model="gpt-4o-mini",
    rule="gpt-4o*",
    served_by="openai/gpt-4o",
    trace="local/qwen3-8b=overloaded;dur=3, openai/gpt-4o=ok;dur=812",
    attempts=(("local/qwen3-8b", Outcome.OVERLOADED), ("openai/gpt-4o", Outcome.OK)),
    first_content_s=0.12,
    usage=Usage(12, 345, 7),
)


def test_one_line_tells_a_request(begin: Begin) -> None:
    lines = begin()
    access(DONE)
    assert lines()[0][9:] == (
        "info  POST /v1/chat/completions 200 ms=812 ttft_ms=120 model=gpt-4o-mini rule=gpt-4o* "
        'by=openai/gpt-4o attempts="local/qwen3-8b=overloaded;dur=3, openai/gpt-4o=ok;dur=812" '
        "in=12 out=345 cached=7 client=laptop id=r1"
    )


def test_json_has_the_same(begin: Begin) -> None:
    lines = begin(log_format="json")
    access(DONE._replace(broken="slow"))
    whole = json.loads(lines()[0])
    assert whole["message"] == "POST /v1/chat/completions 200"
    assert (whole["ms"], whole["by"], whole["out"], whole["broken"]) == (812, "openai/gpt-4o", 345, "slow")


def test_what_is_not_known_is_left_out(begin: Begin) -> None:
    lines = begin()
    access(Finished(request_id="r2", method="GET", path="/v1/models", status=401, seconds=0.0))
    assert lines()[0][9:] == "info  GET /v1/models 401 ms=0 id=r2"


def test_a_key_in_a_place_for_names_is_not_written(begin: Begin) -> None:
    lines = begin()
    access(DONE._replace(model="sk-canary0123456789", path="/v1/x/mlxg_canary0123456789"))
    assert "canary" not in lines()[0]


@pytest.mark.parametrize("settings", [{"access_log": False}, {"log_level": "warning"}])
def test_it_can_be_switched_off(begin: Begin, settings: dict[str, object]) -> None:
    lines = begin(**settings)
    access(DONE)
    assert lines() == []
