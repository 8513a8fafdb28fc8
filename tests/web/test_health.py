"""Liveness, readiness and the metrics page."""

from __future__ import annotations

from tests.house import client_key, running, snapshot


async def test_alive_is_open_and_says_nothing_else() -> None:
    async with running(keyless=False) as house:
        house.snapshot = snapshot(clients=[client_key("mlxg_x")])
        async with house.http.get("/healthz") as reply:
            assert (reply.status, await reply.json()) == (200, {"status": "ok"})


async def test_ready_until_it_is_not() -> None:
    async with running() as house:
        async with house.http.get("/readyz") as reply:
            assert (reply.status, await reply.json()) == (200, {"status": "ready"})
        house.not_ready = "the gateway is stopping"
        async with house.http.get("/readyz") as reply:
            assert reply.status == 503
            assert (await reply.json())["missing"] == "the gateway is stopping"
        async with house.http.get("/healthz") as reply:
            assert reply.status == 200


async def test_metrics_are_prometheus_text() -> None:
    async with running() as house, house.http.get("/metrics") as reply:
        assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert "mlx_gateway_requests_in_flight" in await reply.text()
