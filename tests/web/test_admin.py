"""The operations over HTTP: the same verbs, the same refusals, one status each."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.admin.operations import OPERATIONS, Context
from gateway.config import Config, Local
from gateway.errors import ConfigError, MissingError, RefusedError, RequestError, SecretError, StoreError
from gateway.store.store import Store
from gateway.web.admin import _refused
from tests.house import House, running


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """With a real store behind it, as its owner sees it."""
    config = Config(local=Local(hub_cache=False))
    store = await Store.open(config, tmp_path / "home", wait_s=0.0, busy_s=0.1)
    context = Context(store=store, home=tmp_path / "home", config=config, actor="")
    try:
        async with running(owner=True, context=context) as made:
            yield made
    finally:
        await store.close()


async def do(house: House, path: str, **args: Any) -> tuple[int, Any]:
    async with house.http.post(f"/admin/api/{path}", json=args) as reply:
        return reply.status, await reply.json()


async def test_a_noun_alone_is_its_list(house: House) -> None:
    status, rule = await do(house, "rules/add", pattern="gpt-*", to=["local:demo"])
    assert (status, rule["pattern"]) == (200, "gpt-*")
    for path in ("rules", "rules/list"):
        async with house.http.get(f"/admin/api/{path}") as reply:
            assert [each["pattern"] for each in await reply.json()] == ["gpt-*"]
        async with house.http.post(f"/admin/api/{path}") as reply:
            assert len(await reply.json()) == 1


async def test_reading_takes_its_arguments_from_the_query(house: House) -> None:
    await do(house, "rules/add", pattern="gpt-*", to=["local:demo"])
    async with house.http.get("/admin/api/rules/show", params={"rule": "gpt-*"}) as reply:
        assert (await reply.json())["targets"] == ["local:demo"]
    async with house.http.get("/admin/api/explain", params={"model": "gpt-4o"}) as reply:
        assert reply.status == 200


async def test_changes_are_written_down_with_who_made_them(house: House) -> None:
    await do(house, "rules/add", pattern="gpt-*", to=["local:demo"])
    _, history = await do(house, "db/history")
    assert history[0]["actor"] == "owner"


@pytest.mark.parametrize(
    ("path", "args", "status", "kind"),
    [
        ("rules/show", {"rule": "none"}, 404, "missing"),
        ("rules/add", {"pattern": "", "to": ["local:demo"]}, 409, "refused"),
        ("rules/add", {"pattern": "x"}, 400, "usage"),
        ("rules/add", {"pattern": "x", "to": ["local:demo"], "colour": "red"}, 400, "usage"),
        ("status", {}, 409, "refused"),
    ],
)
async def test_refusals_have_one_status_each(
    house: House, path: str, args: dict[str, Any], status: int, kind: str
) -> None:
    got, said = await do(house, path, **args)
    assert (got, said["error"]["kind"]) == (status, kind)
    assert said["error"]["message"]


async def test_what_is_no_operation(house: House) -> None:
    for path in ("nonsense", "rules/nonsense", "nonsense/list", "rules%2Flist"):
        async with house.http.post(f"/admin/api/{path}") as reply:
            assert reply.status == 404
    async with house.http.post("/admin/api/rules/list/more") as reply:
        assert reply.status == 404


async def test_changing_needs_a_post(house: House) -> None:
    for name, operation in OPERATIONS.items():
        if not operation.reads:
            async with house.http.get("/admin/api/" + name.replace(".", "/")) as reply:
                assert reply.status == 405, name
    for method in ("PUT", "DELETE", "PATCH"):
        async with house.http.request(method, "/admin/api/rules/list") as reply:
            assert reply.status == 405


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"not json", "application/json", 400),
        (b"[1]", "application/json", 400),
        (b"null", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"{}", "text/plain", 415),
        (b"x" * (9 << 20), "application/json", 413),
    ],
    ids=["no json", "array", "null", "deep", "text", "large"],
)
async def test_arguments_that_are_none(house: House, body: bytes, kind: str, status: int) -> None:
    headers = {"content-type": kind}
    async with house.http.post("/admin/api/rules/list", data=io.BytesIO(body), headers=headers) as reply:
        assert reply.status == status
        assert "error" in await reply.json()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (MissingError("x"), 404),
        (RefusedError("x"), 409),
        (ConfigError("x"), 400),
        (StoreError("x", code="locked"), 503),
        (SecretError("x"), 500),
    ],
)
def test_each_refusal_has_its_status(error: Exception, status: int) -> None:
    assert _refused(error).status == status  # type: ignore[arg-type]


def test_a_wrong_request_is_left_to_the_door() -> None:
    with pytest.raises(RequestError):
        _refused(RequestError("x"))
