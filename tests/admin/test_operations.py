"""The table of operations: who gets in, with which arguments, and what comes out."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.admin.operations import OPERATIONS, Context, run
from gateway.errors import ConfigError, MissingError, RefusedError
from gateway.store.ledger import Ledger
from gateway.telemetry.finished import Finished
from gateway.wire.usage import Usage
from tests.admin.conftest import Run

CANARY = "sk-proj-CANARY-7f3a9c51d2e84b06-feathers"
VERBS = {
    "rules": "list show add set enable disable remove check import export",
    "policies": "list show add set remove",
    "upstreams": "list show add set remove test reset presets",
    "credentials": "list show add set remove",
    "clients": "list show add set remove",
    "models": "list show load unload bench rm",
    "db": "backup migrate history requests",
}


def test_the_operations_that_there_are() -> None:
    named = {f"{noun}.{verb}" for noun, verbs in VERBS.items() for verb in verbs.split()}
    assert set(OPERATIONS) == named | {"explain", "status"}
    for operation in OPERATIONS.values():
        assert operation.help.endswith("."), operation.name


def test_what_reads_and_what_writes() -> None:
    reading = {name.rpartition(".")[2] for name, operation in OPERATIONS.items() if operation.reads}
    assert reading == {
        "list", "show", "check", "export", "test", "presets", "explain", "status", "history",
        "requests",
    }  # fmt: skip


async def test_an_unknown_operation_names_the_nearest(do: Run) -> None:
    with pytest.raises(MissingError, match=r"no operation 'rules\.lst'; did you mean rules\.list"):
        await do("rules.lst")


@pytest.mark.parametrize(
    ("operation", "args", "why"),
    [
        ("rules.add", {"pattern": "x"}, "rules.add: to is missing"),
        ("rules.add", {"pattern": "x", "too": []}, "'too' is unknown; did you mean 'to'?"),
        ("rules.add", {"pattern": "x", "to": "local"}, "to must be a list, not a string"),
        ("rules.add", {"pattern": "x", "to": ["a", 5]}, r"to\[1\] must be a string, not a whole number"),
        (
            "rules.add",
            {"pattern": "x", "to": [], "priority": "9"},
            "priority must be a whole number, not a string",
        ),
        (
            "rules.add",
            {"pattern": "x", "to": [], "priority": True},
            "priority must be a whole number, not true",
        ),
        ("rules.add", {"pattern": "x", "to": [], "priority": 10**400}, "at most 1000000"),
        ("rules.add", {"pattern": "x", "to": [], "enabled": 1}, "enabled must be true or false"),
        ("rules.show", {"rule": None}, "rule must be a whole number or a string, not null"),
        ("rules.show", {"rule": -1}, "rule must be a whole number of at least 0"),
        ("rules.list", {"verbose": True}, "'verbose' is unknown"),
        ("upstreams.add", {"name": "x", "headers": {"a": 1}}, "must be a string"),
        ("upstreams.add", {"name": "x", "connect_s": 10**400}, "connect_s"),
        ("policies.set", {"name": "x", "knobs": []}, "knobs must be a table, not a list"),
        ("db.history", {"limit": 0}, "limit must be a whole number of at least 1"),
    ],
)
async def test_wrong_arguments_are_told_in_words(
    do: Run, operation: str, args: dict[str, Any], why: str
) -> None:
    with pytest.raises(ConfigError, match=why):
        await do(operation, **args)


@pytest.mark.parametrize("raw", [None, [], "x", 5])
async def test_arguments_that_are_no_object(context: Context, raw: object) -> None:
    with pytest.raises(ConfigError, match="the arguments must be a table"):
        await run(context, "rules.list", raw)


async def test_every_result_is_json(do: Run, tmp_path: Path) -> None:
    await do("upstreams.add", name="openai", preset="openai")
    await do("credentials.add", upstream="openai", secret=CANARY)
    await do("rules.add", pattern="gpt-*", to=["local:tiny", "openai"])
    await do("clients.add", name="laptop", expires_days=1)
    named = {"rule": 1, "name": "openai", "upstream": "openai", "model": "gpt-4o", "limit": 5}
    for name, operation in OPERATIONS.items():
        if not operation.reads or name in ("status", "upstreams.test"):
            continue
        wanted = {
            "policies.show": {"name": "default"},
            "clients.show": {"name": "laptop"},
            "models.show": {"model": "demo"},
        }.get(name)
        if wanted is None:
            wanted = {key: named[key] for key in operation.args.__struct_fields__ if key in named}
        if name.startswith("credentials."):
            wanted = {"upstream": "openai"}
        result = await do(name, **wanted)
        assert isinstance(
            result, list if name.endswith((".list", ".history", ".presets", ".requests")) else dict
        ), name
        assert msgspec.json.decode(msgspec.json.encode(result)) == result, name


async def test_no_answer_error_log_or_history_shows_a_secret(
    do: Run, context: Context, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    shown: list[object] = []
    await do("upstreams.add", name="openai", preset="openai")
    shown.append(await do("credentials.add", upstream="openai", secret=CANARY))
    shown.append(await do("credentials.set", upstream="openai", secret=f"{CANARY}-2"))
    for wrong in (
        {"upstream": "nobody", "secret": CANARY},
        {"upstream": "openai", "secret": CANARY},
        {"upstream": "openai", "name": "b", "secret": f"{CANARY}\n{CANARY}"},
        {"upstream": "openai", "name": "b", "secret": [CANARY]},
        {"upstream": "openai", "name": "b", "secret": {CANARY: 1}},
        {"upstream": "openai", "name": "b", "secrets": CANARY},
    ):
        with pytest.raises((RefusedError, ConfigError)) as caught:
            await do("credentials.add", **wrong)
        shown.append(repr(caught.value))
    shown += [await do(name) for name in ("credentials.list", "db.history", "upstreams.list")]
    shown.append(await do("rules.export"))
    shown.append(await do("credentials.remove", upstream="openai"))
    args = OPERATIONS["credentials.add"].args
    shown.append(repr(msgspec.convert({"upstream": "openai", "secret": CANARY}, args)))
    shown.append(repr(context))
    assert "CANARY" not in repr(shown)
    assert "CANARY" not in caplog.text


class FakeDaemon:
    """A daemon that knows one model and one upstream."""

    def status(self) -> dict[str, Any]:
        return {"up_s": 5.0}

    def local_models(self) -> list[dict[str, Any]]:
        return [{"name": "tiny", "state": "loaded"}]

    async def look(self) -> None:
        pass

    async def explain(self, model: str, body: dict[str, Any] | None, path: str) -> dict[str, Any]:
        return {"model": model, "live": True}

    async def test_upstream(self, name: str) -> dict[str, Any]:
        return {"name": name, "ok": True}


async def test_what_only_a_running_daemon_knows_comes_from_it(context: Context) -> None:
    live = replace(context, live=FakeDaemon())
    await run(live, "upstreams.add", {"name": "openai", "preset": "openai"})
    assert await run(live, "status", {}) == {"up_s": 5.0}
    assert await run(live, "models.list", {}) == [{"name": "tiny", "state": "loaded"}]
    assert await run(live, "explain", {"model": "gpt"}) == {"model": "gpt", "live": True}
    assert await run(live, "upstreams.test", {"name": "openai"}) == {"name": "openai", "ok": True}
    with pytest.raises(MissingError, match="known: openai"):
        await run(live, "upstreams.test", {"name": "groq"})
    with pytest.raises(RefusedError, match=r"holds '\.\.'"):
        await run(live, "explain", {"model": "../etc"})


@pytest.mark.parametrize(("operation", "args"), [("status", {}), ("upstreams.test", {"name": "openai"})])
async def test_without_a_daemon_it_says_how_to_start_one(
    do: Run, operation: str, args: dict[str, Any]
) -> None:
    await do("upstreams.add", name="openai", preset="openai")
    with pytest.raises(RefusedError, match="not running; start it with `mlx-gateway serve`"):
        await do(operation, **args)


async def test_without_a_daemon_models_are_those_on_the_disk(do: Run) -> None:
    models = await do("models.list")
    demo = next(model for model in models if model["name"] == "demo")
    assert demo["state"] == "on disk"
    assert demo["size_bytes"] > 0


async def test_history_is_newest_first_and_as_long_as_asked(do: Run) -> None:
    for number in range(3):
        await do("rules.add", pattern=f"model-{number}", to=["local:tiny"])
    entries = await do("db.history", limit=2)
    assert [(entry["actor"], entry["noun"], entry["name"], entry["action"]) for entry in entries] == [
        ("owner", "rules", "3 model-2", "add"),
        ("owner", "rules", "2 model-1", "add"),
    ]
    assert entries[0]["at"].endswith("Z")
    assert entries[0]["after"]["pattern"] == "model-2"


async def test_requests_are_newest_first_and_of_whom_was_asked(do: Run, context: Context) -> None:
    ledger = Ledger(context.store, context.config.store)
    for number in range(4):
        ledger.note(
            Finished(
                request_id=f"r{number}",
                method="POST",
                path="/v1/chat/completions",
                status=200,
                seconds=0.5,
                client=f"app{number % 2}",
                model="gpt-4o",
                usage=Usage(12, 345, 7),
            )
        )
    entries = await do("db.requests", limit=3)
    assert [entry["request_id"] for entry in entries] == ["r3", "r2", "r1"]
    assert entries[0]["at"].endswith("Z")
    assert (entries[0]["input_tokens"], entries[0]["output_tokens"], entries[0]["cached_tokens"]) == (
        12,
        345,
        7,
    )
    assert [entry["request_id"] for entry in await do("db.requests", client="app0")] == ["r2", "r0"]
    assert await do("db.requests", model="gpt-4") == []
    await ledger.close()


async def test_a_backup_is_named_by_an_absolute_path(do: Run, tmp_path: Path) -> None:
    made = await do("db.backup", path=str(tmp_path / "copy.db"))
    assert made["path"] == str(tmp_path / "copy.db")
    assert made["size_bytes"] == (tmp_path / "copy.db").stat().st_size
    assert "master key is not in it" in made["warnings"][0]
    for path in ("copy.db", "../copy.db", "", "/tmp/\0"):
        with pytest.raises(RefusedError, match="must be absolute"):
            await do("db.backup", path=path)


async def test_migrating_says_what_opening_did(do: Run) -> None:
    assert await do("db.migrate") == {
        "schema": 3,
        "applied": ["m0001_first_tables", "m0002_requests", "m0003_standings"],
    }
