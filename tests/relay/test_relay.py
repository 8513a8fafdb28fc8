"""Every request is answered with the configuration it started with, and told of when it is over."""

from __future__ import annotations

import asyncio
import io
import tempfile

import pytest

from tests.house import chat, rule, running, snapshot, upstream
from tests.relay.puppet import Answer, Puppet, local_stream


async def test_the_disk_is_looked_at_again_before_a_name_is_unknown() -> None:
    class New(Puppet):
        async def look(self) -> None:
            await super().look()
            self.names.add("m")

    pool = New(local_stream(), names=[])
    async with running(local=pool) as house:
        house.snapshot = snapshot(rules=[rule("m", "local")])
        for _ in range(2):
            async with house.http.post("/v1/chat/completions", json=chat("m", stream=True)) as reply:
                assert reply.status == 200
                await reply.read()
    assert pool.looked == 1


async def test_a_request_keeps_the_rules_it_started_with() -> None:
    gate = asyncio.Event()
    puppet = Puppet(Answer(head=[gate]))
    async with running(cloud=puppet) as house:
        house.snapshot = snapshot(rules=[rule("m", "a:one")], upstreams=[upstream("a")])

        async def ask() -> str:
            async with house.http.post("/v1/chat/completions", json=chat("m", stream=True)) as reply:
                await reply.read()
                return reply.headers["x-gateway-served-by"]

        first = asyncio.create_task(ask())
        await puppet.called()
        house.snapshot = snapshot()
        gate.set()
        assert await first == "a/one"


async def test_idle_waits_for_what_is_being_answered() -> None:
    gate = asyncio.Event()
    puppet = Puppet(Answer(head=[gate]))
    async with running(cloud=puppet) as house:
        house.snapshot = snapshot(rules=[rule("m", "a")], upstreams=[upstream("a")])
        await house.relay.idle(0.0)
        asking = asyncio.create_task(house.http.post("/v1/chat/completions", json=chat("m")))
        await puppet.called()
        assert house.relay.in_flight == 1
        await house.relay.idle(0.02)
        assert house.relay.in_flight == 1
        waiting = asyncio.create_task(house.relay.idle(5.0))
        gate.set()
        await waiting
        assert house.relay.in_flight == 0
        (await asking).release()


def form(model: str) -> io.BytesIO:
    """File first, so that it has to be held until the model is known."""
    field = f'name="model"\r\n\r\n{model}' if model else 'name="other"\r\n\r\nx'
    return io.BytesIO(
        b'--B\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'
        + b"x" * 3_000_000
        + f"\r\n--B\r\ncontent-disposition: form-data; {field}\r\n--B--\r\n".encode()
    )


MULTIPART = {"content-type": "multipart/form-data; boundary=B"}


@pytest.mark.parametrize("model", ["m", "", "unknown", "../etc"])
async def test_no_upload_leaves_its_temporary_file_behind(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload without a model, and without anybody to take it, stayed open until the garbage went."""
    made = []
    real = tempfile.TemporaryFile

    def spy(*args: object, **kwargs: object) -> object:
        made.append(real(*args, **kwargs))  # type: ignore[call-overload]
        return made[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", spy)
    async with running(cloud=Puppet(Answer([b"{}"], kind="application/json"))) as house:
        house.snapshot = snapshot(rules=[rule("m", "a")], upstreams=[upstream("a")])
        async with house.http.post("/v1/audio/transcriptions", data=form(model), headers=MULTIPART) as reply:
            await reply.read()
            assert reply.status == (200 if model == "m" else 404 if model == "unknown" else 400)
    assert len(made) == 1
    assert made[0].closed
