from __future__ import annotations

import asyncio
import ssl
from typing import Any

import pytest

from gateway.backend import AttemptFailed
from gateway.cloud.destination import Destination
from gateway.failover.outcome import Outcome
from tests.cloud.conftest import Body, call_to, upstream_at


def destination(base_url: str = "https://api.example/v1", **more: Any) -> Destination:
    loop = asyncio.get_running_loop()
    return Destination(upstream_at(base_url, **more), loop=loop, tls=ssl.create_default_context)


def head(to: Destination, body: bytes | Body | None = b"{}", **call: Any) -> list[str]:
    wire = to.head(call_to(to.upstream, body, **call), b"authorization: Bearer k\r\n").decode("latin-1")
    assert wire.endswith("\r\n\r\n")
    return wire[:-4].split("\r\n")


@pytest.mark.parametrize(
    ("base_url", "path", "target"),
    [
        ("https://api.openai.com/v1", "/v1/chat/completions", "/v1/chat/completions"),
        ("https://openrouter.ai/api/v1", "/v1/chat/completions", "/api/v1/chat/completions"),
        (
            "https://host/openai/deployments/d",
            "/v1/chat/completions",
            "/openai/deployments/d/chat/completions",
        ),
        ("http://127.0.0.1:1234", "/v1/models", "/models"),
        ("https://host/v1", "/v1/files/a%2Fb%20c", "/v1/files/a%2Fb%20c"),
    ],
)
async def test_the_clients_path_follows_the_base(base_url: str, path: str, target: str) -> None:
    assert head(destination(base_url), path=path)[0] == f"POST {target} HTTP/1.1"


async def test_the_query_stays_as_it_came_and_the_fixed_one_follows() -> None:
    assert head(destination(), query="b=%2f&a=1&b")[0].split()[1].endswith("?b=%2f&a=1&b")
    azure = destination(query=(("api-version", "2024-10-21"),))
    assert head(azure)[0].split()[1].endswith("/completions?api-version=2024-10-21")
    assert head(azure, query="x=1")[0].split()[1].endswith("?x=1&api-version=2024-10-21")
    assert head(azure, query="api-version=mine")[0].split()[1].endswith("?api-version=mine")


async def test_what_is_always_there() -> None:
    lines = head(destination("https://api.example:8443/v1"))[1:]
    assert lines == [
        "host: api.example:8443",
        "accept-encoding: identity",
        "authorization: Bearer k",
        "content-type: application/json",
        "user-agent: mlx-gateway",
        "content-length: 2",
    ]


@pytest.mark.parametrize(
    ("method", "body", "line"),
    [
        ("POST", Body(announced=9), "content-length: 9"),
        ("POST", Body(), "transfer-encoding: chunked"),
        ("POST", None, "content-length: 0"),
        ("GET", None, None),
    ],
)
async def test_the_length_is_told(method: str, body: Body | None, line: str | None) -> None:
    lines = head(destination(), body, method=method)
    assert [text for text in lines if "length" in text or "transfer" in text] == ([line] if line else [])


@pytest.mark.parametrize(
    "path",
    [
        "/v1/../secret",
        "/v1/./x",
        "/v1/%2e%2e/secret",
        "/v1/a%2f..%2f..%2fsecret",
        "/v1/..%5csecret",
        "/v1/a b",
        "/v1/a\r\nx-evil: 1",
        "/v1/\xe9",
    ],
)
async def test_a_path_that_climbs_or_breaks_the_line_is_the_clients_fault(path: str) -> None:
    with pytest.raises(AttemptFailed) as caught:
        head(destination(), path=path)
    failure = caught.value.failure
    assert (failure.outcome, failure.status, failure.code) == (Outcome.CLIENT_FAULT, 400, "invalid_path")


@pytest.mark.parametrize("path", ["/v1/files/..a", "/v1/models/a.b", "/v1/x/.hidden"])
async def test_dots_in_names_are_fine(path: str) -> None:
    assert path in head(destination(), path=path)[0]


async def test_a_fixed_field_cannot_become_two() -> None:
    with pytest.raises(AttemptFailed, match="can't be sent"):
        head(destination(headers=(("x-a", "1\r\nx-b: 2"),)))
