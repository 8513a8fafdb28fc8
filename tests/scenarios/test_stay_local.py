"""No byte of a request under a local-only policy leaves the machine: seen from inside the daemon, where
every connection and every name that is looked up is written down, and from an upstream that waits.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.lab import Lab
from tests.scenarios.daemon import Daemon, running

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = {"content-type": "application/json"}
CHAT = "/v1/chat/completions"
ASKED = {"messages": [{"role": "user", "content": "a secret"}], "max_tokens": 2, "temperature": 0}
PATHS: dict[str, dict[str, Any]] = {
    CHAT: ASKED,
    "/v1/completions": {"prompt": "a secret", "max_tokens": 2},
    "/v1/embeddings": {"input": "a secret"},
    "/v1/responses": {"input": "a secret"},
    "/v1/messages": ASKED,
    "/v1/messages/count_tokens": {"messages": ASKED["messages"]},
    "/v1/foo": {"anything": "a secret"},
}
WHOLE_ONLY = ("/v1/embeddings", "/v1/messages/count_tokens")
REQUESTS = [
    (path, asked | ({"stream": True} if stream else {}))
    for path, asked in PATHS.items()
    for stream in (False, True)
    if not (stream and path in WHOLE_ONLY)
]
# What the gateway does of itself: it finds out what 127.0.0.1 is when it begins to listen.
HARMLESS = ("socket.getaddrinfo '127.0.0.1'",)


class Audited:
    """A gateway whose ways out are written to a file."""

    def __init__(self, daemon: Daemon, log: Path) -> None:
        self.daemon = daemon
        self._log = log

    def ways_out(self) -> list[str]:
        """Everything so far but what stays on this machine by its nature."""
        return [
            line
            for line in self._log.read_text().splitlines()
            if line not in HARMLESS and not line.startswith("socket.connect '/")  # a Unix socket
        ]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def audited() -> AsyncIterator[Audited]:
    with tempfile.TemporaryDirectory(prefix="mlxg-") as folder:
        home, log = Path(folder) / "home", Path(folder) / "ways-out"
        broken = home / "models" / "broken"
        broken.mkdir(parents=True)
        home.chmod(0o700)
        (broken / "config.json").write_text('{"model_type": "llama"}')
        (broken / "model.safetensors").write_bytes(b"no weights")
        path = os.pathsep.join([str(Path(__file__).parent / "audit"), str(Path(__file__).parents[2])])
        env = {"AUDIT_LOG": str(log), "PYTHONPATH": path}
        async with running(home, "[local]\nhub_cache = false\n", env=env) as daemon:
            yield Audited(daemon, log)


@pytest_asyncio.fixture(loop_scope="module")
async def clouds(audited: Audited, lab: Lab) -> list[str]:
    """An upstream that waits, one with a name, and one somewhere in the network."""
    daemon = audited.daemon
    names = [await daemon.upstream(lab), f"named{lab.port}", f"box{lab.port}"]
    for name, base_url in zip(names[1:], ("https://cloud.invalid/v1", "http://10.9.8.7/v1"), strict=True):
        await daemon.admin("upstreams.add", name=name, dialect="openai", base_url=base_url, auth="none")
    return names


def is_typed(path: str, body: Any) -> bool:
    """Is it the error of a local-only policy, in the dialect of the path?"""
    anthropic = path.startswith("/v1/messages")
    if anthropic and body.get("type") != "error":
        return False
    error = body["error"]
    return "keeps requests on this machine" in error["message"] and (
        anthropic or error["code"] == "local_only"
    )


@pytest.mark.parametrize("target", ["not-on-this-disk", "broken"])
async def test_what_local_can_not_answer_goes_nowhere(
    audited: Audited, lab: Lab, clouds: list[str], target: str
) -> None:
    model = await audited.daemon.rule(f"local:{target}", *clouds, policy="local-only")
    async with audited.daemon.http() as http:
        for path, asked in REQUESTS:
            for base in ("", *(f"/upstreams/{name}" for name in clouds)):
                data = json.dumps({"model": model} | asked)
                async with http.post(base + path, data=data, headers=JSON) as reply:
                    told = await reply.json()
                    assert reply.status == 503, (base + path, told)
                    assert reply.headers["x-gateway-locality"] == "local-only"
                    assert is_typed(path, told), told
    assert audited.ways_out() == []
    assert lab.accepted == 0


async def test_what_local_answers_goes_nowhere_else(audited: Audited, lab: Lab, clouds: list[str]) -> None:
    model = await audited.daemon.rule("local:demo", *clouds, policy="local-only")
    answered = set()
    async with audited.daemon.http() as http:
        for path, asked in REQUESTS:
            data = json.dumps({"model": model} | asked)
            async with http.post(path, data=data, headers=JSON) as reply:
                body = await reply.read()
                assert reply.headers["x-gateway-locality"] == "local-only"
                told = json.loads(body) if reply.status != 200 else None
                # That the demo makes no embeddings is the client's to mend.
                assert told is None or reply.status == 400 or is_typed(path, told), (path, told)
                if reply.status == 200:
                    answered.add(path)
                    assert reply.headers["x-gateway-served-by"] == "local/demo"
    assert answered >= {CHAT, "/v1/completions"}
    assert audited.ways_out() == []
    assert lab.accepted == 0


async def test_an_upload_stays_here_too(audited: Audited, lab: Lab, clouds: list[str]) -> None:
    model = await audited.daemon.rule("local:demo", *clouds, policy="local-only")
    form = (
        f'--B\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\na secret\r\n--B\r\n'
        f'content-disposition: form-data; name="model"\r\n\r\n{model}\r\n--B--\r\n'
    )
    async with audited.daemon.http() as http:
        for base in ("", f"/upstreams/{clouds[0]}"):
            headers = {"content-type": "multipart/form-data; boundary=B"}
            path = f"{base}/v1/audio/transcriptions"
            async with http.post(path, data=form.encode(), headers=headers) as reply:
                assert reply.status == 503
                assert reply.headers["x-gateway-locality"] == "local-only"
    assert audited.ways_out() == []
    assert lab.accepted == 0


async def test_the_audit_sees_what_leaves(audited: Audited, lab: Lab, clouds: list[str]) -> None:
    """The proof of the proof, and the last in this file: the same rule without the policy goes out."""
    model = await audited.daemon.rule("local:not-on-this-disk", clouds[1], clouds[0])
    async with audited.daemon.http() as http:
        data = json.dumps({"model": model} | ASKED)
        async with http.post(CHAT, data=data, headers=JSON) as reply:
            assert reply.status == 200
            assert "x-gateway-locality" not in reply.headers
    ways_out = audited.ways_out()
    assert f"socket.connect ('127.0.0.1', {lab.port})" in ways_out
    assert "socket.getaddrinfo 'cloud.invalid'" in ways_out
