"""A program: takes the network from a gateway and gives it back, inside a network namespace of its own.

It is started by `test_offline` with `unshare -rnm`, so that it may change routes and hosts, and it ends
with an AssertionError if anything is not as it should be.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import aiohttp

from tests.lab import Lab
from tests.scenarios.daemon import Daemon, running

ADDRESS = "10.9.0.1"
CHAT = "/v1/chat/completions"


class Cloud(Lab):
    """A lab that is not on this machine, as far as routes are concerned."""

    host = ADDRESS


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


async def served(http: aiohttp.ClientSession, model: str) -> tuple[str, list[str], float]:
    """Who answered, what was tried, and how long it took."""
    began = time.monotonic()
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
    async with http.post(CHAT, json=body) as reply:
        assert reply.status == 200, await reply.text()
        await reply.read()
        tried = reply.headers["x-gateway-attempts"].split(", ")
        return reply.headers["x-gateway-served-by"], tried, time.monotonic() - began


async def offline(daemon: Daemon, http: aiohttp.ClientSession) -> bool:
    said = (await daemon.admin("status"))["offline"] is not None
    async with http.get("/metrics") as page:
        assert f"mlx_gateway_offline {float(said)}\n" in await page.text()
    return said


async def left_out(daemon: Daemon, model: str) -> list[str]:
    """Why targets of a model are skipped, as `explain` has it."""
    plan = (await daemon.admin("explain", model=model))["plans"][CHAT]
    return [each["reason"] for each in plan["skip"]]


async def story(daemon: Daemon, cloud: Lab, near: Lab) -> None:
    models = {}
    other = await daemon.upstream(near)
    for name, host in (("literal", ADDRESS), ("named", "cloud.lan")):
        base_url = f"http://{host}:{cloud.port}/v1"
        await daemon.admin("upstreams.add", name=name, dialect="openai", base_url=base_url, auth="none")
        models[name] = await daemon.rule(name, other)
    async with daemon.http() as http:
        for _ in range(2):
            for name, model in models.items():
                assert (await served(http, model))[0] == f"{name}/{model}"
        ip("addr", "del", f"{ADDRESS}/32", "dev", "lo")
        for model in models.values():
            while not await left_out(daemon, model):  # a route is asked for once a second
                await asyncio.sleep(0.02)
        for _ in range(6):
            for name, model in models.items():
                who, tried, took = await served(http, model)
                assert who == f"{other}/{model}"
                assert tried[0] == f"{name}/{model}=connect_fault;dur=0;skipped", tried
                assert took < 1.0, took
        assert await offline(daemon, http)
        assert "this machine is offline" in (await left_out(daemon, models["named"]))[0]
        ip("addr", "add", f"{ADDRESS}/32", "dev", "lo")
        back = time.monotonic()
        for name, model in models.items():
            while (await served(http, model))[0] != f"{name}/{model}":
                assert time.monotonic() - back < 2.0, "it must be back within 2 s"
        assert not await offline(daemon, http)
    await daemon.said("offline: .*no route")
    await daemon.said("online again")


async def main(home: Path) -> None:
    ip("link", "set", "lo", "up")
    ip("addr", "add", f"{ADDRESS}/32", "dev", "lo")
    hosts = home.parent / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{ADDRESS} cloud.lan\n")
    subprocess.run(["mount", "--bind", hosts, "/etc/hosts"], check=True)
    async with Cloud() as cloud, Lab() as near, running(home, "[local]\nenabled = false\n") as daemon:
        async with asyncio.timeout(30):
            await story(daemon, cloud, near)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
