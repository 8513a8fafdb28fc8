import asyncio
from pathlib import Path

import pytest

from gateway.config import Config
from gateway.store.ledger import Ledger
from gateway.store.store import Store
from gateway.telemetry.finished import Finished
from gateway.wire.usage import Usage
from tests.cli.conftest import Daemon, Run

ONE = Finished(
    request_id="r1",
    method="POST",
    path="/v1/chat/completions",
    status=200,
    seconds=2.345,
    stream=True,
    client="laptop",
    model="gpt-4o-mini",
    rule="gpt-4o*",
    served_by="openai/gpt-4o",
    trace="local/qwen3-8b=overloaded;dur=3, openai/gpt-4o=ok;dur=812",
    first_content_s=0.12,
    usage=Usage(12, 345, 7),
)


def test_a_backup_is_written_to_a_path_seen_from_here(either: Run, home, monkeypatch):
    either("clients", "add", "laptop")
    folder = home / "copies"
    folder.mkdir()
    monkeypatch.chdir(folder)
    told = either("db", "backup", "copy.db")
    assert told.code == 0
    assert told.out.startswith(f"wrote {folder / 'copy.db'} (")
    assert "warning: the master key is not in it" in told.err
    copy = folder / "copy.db"
    assert copy.read_bytes().startswith(b"SQLite format 3")
    assert copy.stat().st_mode & 0o077 == 0
    told = either("db", "backup", "copy.db")
    assert told.code == 1
    assert "exists; name a file that doesn't" in told.error
    assert [path.name for path in folder.iterdir()] == ["copy.db"]


def test_migrate_says_which_schema_the_database_has(either: Run):
    assert either("db", "migrate", "--json").json["schema"] >= 1
    assert "the database has schema" in either("db", "migrate").out


def test_the_history_tells_who_changed_what_the_newest_first(either: Run):
    assert "nothing was changed yet" in either("db", "history").err
    either("clients", "add", "laptop")
    either("clients", "remove", "laptop")
    lines = either("db", "history").out.splitlines()
    assert "clients remove" in lines[2]
    assert "clients add" in lines[3]
    assert len(either("db", "history", "--limit", "1", "--json").json) == 1
    assert either("db", "history", "--limit", "0").code == 2


def note(home: Path, *all_done: Finished) -> None:
    """What a daemon that has ended again left in the ledger."""

    async def write() -> None:
        store = await Store.open(Config(), home)
        ledger = Ledger(store, Config().store)
        for done in all_done:
            ledger.note(done)
        await ledger.close()
        await store.close()

    asyncio.run(write())


@pytest.fixture(params=["alone", "with a daemon"])
def told(request: pytest.FixtureRequest, gw: Run, home: Path) -> Run:
    """Runs commands after two requests; alone and with a daemon."""
    refused = ONE._replace(
        model="tiny", client="phone", status=503, served_by="", trace="local/tiny=slow;dur=9"
    )
    note(home, ONE, refused._replace(usage=None, first_content_s=None, seconds=0.01))
    if request.param == "alone":
        return gw

    def run(*args: object) -> object:
        with Daemon(home):
            return gw(*args)

    return run


def test_requests_tell_who_asked_and_who_answered_the_newest_first(told: Run) -> None:
    head, _, second, first = told("db", "requests").out.splitlines()
    assert " ".join(head.split()) == "When Client Model Answered by Status Time First In Out Trouble"
    assert second.split()[2:] == ["phone", "tiny", "503", "10", "ms", "local/tiny", "slow"]
    assert " ".join(first.split()[2:]) == (
        "laptop gpt-4o-mini openai/gpt-4o 200 2.3 s 120 ms 12 345 local/qwen3-8b overloaded"
    )


def test_requests_of_one_client_or_model(told: Run) -> None:
    [one] = told("db", "requests", "--client", "laptop", "--json").json
    assert one["attempts"] == ONE.trace
    assert (one["input_tokens"], one["output_tokens"], one["cached_tokens"]) == (12, 345, 7)
    assert [one["model"] for one in told("db", "requests", "--limit", "1", "--json").json] == ["tiny"]
    found = told("db", "requests", "--model", "gpt-4o")
    assert (found.code, found.out) == (0, "")
    assert "no such request was kept" in found.err
    assert told("db", "requests", "--limit", "0").code == 2
