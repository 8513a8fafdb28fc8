"""Responses that were made here, asked for again; those that were not are somebody else's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from gateway.wire.translate.responses_history import Turn
from tests.house import House, client_key, running, snapshot, upstream
from tests.lab import Lab

MINE, YOURS = {"authorization": "Bearer mlxg_mine"}, {"authorization": "Bearer mlxg_yours"}
WAYS = [
    ("GET", "/v1/responses/{}"),
    ("DELETE", "/v1/responses/{}"),
    ("POST", "/v1/responses/{}/cancel"),
    ("GET", "/v1/responses/{}/input_items"),
]


def keep(house: House, number: int, *, previous: str | None = None, inputs: int = 1, client: str = "") -> str:
    name = f"resp_{number}"
    items = [{"type": "message", "id": f"msg_{number}_{i}", "role": "user"} for i in range(inputs)]
    said = [{"type": "message", "id": f"msg_{number}_said", "role": "assistant"}]
    turn = Turn(response_id=name, previous=previous, input_items=items, output_items=said)
    house.site.kept.keep(client, turn, {"id": name, "object": "response", "output": said})
    return name


async def said(house: House, method: str, path: str, **how: Any) -> tuple[int, dict[str, Any]]:
    async with house.http.request(method, path, **how) as reply:
        assert reply.headers["x-request-id"].startswith("req_")
        return reply.status, await reply.json()


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with running() as made:
        yield made


async def test_it_is_told_deleted_and_gone(house: House) -> None:
    name = keep(house, 1)
    status, told = await said(house, "GET", f"/v1/responses/{name}")
    assert (status, told["id"], told["output"][0]["id"]) == (200, name, "msg_1_said")
    status, told = await said(house, "DELETE", f"/v1/responses/{name}")
    assert (status, told) == (200, {"id": name, "object": "response.deleted", "deleted": True})
    for method, path in WAYS:
        status, told = await said(house, method, path.format(name))
        assert (status, told["error"]["type"]) == (404, "invalid_request_error")
        assert told["error"]["message"] == f"Response with id '{name}' not found."


async def test_what_is_complete_can_not_be_cancelled_or_streamed(house: House) -> None:
    name = keep(house, 1)
    status, told = await said(house, "POST", f"/v1/responses/{name}/cancel")
    assert (status, told["error"]["type"]) == (400, "invalid_request_error")
    assert "synchronous" in told["error"]["message"]
    status, told = await said(house, "GET", f"/v1/responses/{name}?stream=true")
    assert (status, told["error"]["param"]) == (400, "stream")
    assert (await said(house, "GET", f"/v1/responses/{name}?stream=maybe"))[0] == 400
    assert (await said(house, "GET", f"/v1/responses/{name}?stream=false"))[0] == 200


async def test_its_input_comes_in_pages(house: House) -> None:
    keep(house, 1, inputs=2)
    name = keep(house, 2, previous="resp_1", inputs=20)
    path = f"/v1/responses/{name}/input_items"
    whole = [f"msg_1_{i}" for i in range(2)] + ["msg_1_said"] + [f"msg_2_{i}" for i in range(20)]
    status, told = await said(house, "GET", path)
    assert (status, told["object"], told["has_more"]) == (200, "list", True)
    assert [item["id"] for item in told["data"]] == whole[:2:-1]
    assert (told["first_id"], told["last_id"]) == ("msg_2_19", "msg_2_0")
    found: list[str] = []
    query = {"limit": "7", "order": "asc"}
    while True:
        _, told = await said(house, "GET", path, params=query)
        found += [item["id"] for item in told["data"]]
        if not told["has_more"]:
            break
        query["after"] = told["last_id"]
    assert found == whole
    _, told = await said(house, "GET", path, params={"order": "asc", "after": whole[-1]})
    assert told == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("limit", "0"),
        ("limit", "101"),
        ("limit", "x"),
        ("limit", "\u0663"),
        ("order", "up"),
        ("after", "msg_no"),
    ],
)
async def test_a_page_that_there_is_not(house: House, field: str, value: str) -> None:
    name = keep(house, 1)
    status, told = await said(house, "GET", f"/v1/responses/{name}/input_items", params={field: value})
    assert (status, told["error"]["param"]) == (400, field)


async def test_a_response_is_its_keys_alone(house: House) -> None:
    mine, yours = client_key("mlxg_mine"), replace(client_key("mlxg_yours"), name="other")
    house.snapshot = snapshot(clients=[mine, yours])
    name = keep(house, 1, client=mine.name)
    for method, path in WAYS:
        assert (await said(house, method, path.format(name), headers=YOURS))[0] == 404
    assert (await said(house, "GET", f"/v1/responses/{name}", headers=MINE))[0] == 200


async def test_what_was_not_made_here_is_asked_for_at_the_default_upstream() -> None:
    async with Lab() as lab, running(default_upstream="a") as house:
        house.snapshot = snapshot(upstreams=[upstream("a", lab)])
        for method, path in WAYS:
            status, told = await said(house, method, path.format("resp_far") + "?limit=3")
            assert (status, told["object"]) == (200, "lab.echo")
        name = keep(house, 1)
        assert (await said(house, "GET", f"/v1/responses/{name}"))[1]["object"] == "response"
        came = [(seen.method, seen.target) for seen in lab.seen]
        assert came == [(method, path.format("resp_far") + "?limit=3") for method, path in WAYS]


async def test_other_methods_and_deeper_paths_go_on_as_ever() -> None:
    async with Lab() as lab, running(default_upstream="a") as house:
        house.snapshot = snapshot(upstreams=[upstream("a", lab)])
        name = keep(house, 1)
        for method, path in (("POST", f"/v1/responses/{name}"), ("GET", f"/v1/responses/{name}/more")):
            assert (await said(house, method, path))[1]["object"] == "lab.echo"
