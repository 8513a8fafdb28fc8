"""Backups: whole, private, never in the place of something else."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from gateway.errors import RefusedError, StoreError
from gateway.store.backup import Backup, copy_database
from gateway.store.store import Store
from tests.store.conftest import Opener
from tests.store.make import add_credential, add_rule, add_upstream


async def back_up(store: Store, target: Path) -> Backup:
    return await store.database.run(lambda: copy_database(store.database.handle, target))


async def test_a_backup_of_a_running_store_is_a_store(opened: Opener, home: Path, tmp_path: Path) -> None:
    store = await opened()
    await add_upstream(store)
    await add_credential(store)
    await add_rule(store)
    made = await back_up(store, tmp_path / "copy.db")
    assert made.path == tmp_path / "copy.db"
    assert made.size_bytes == made.path.stat().st_size
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.db", "home"]
    (tmp_path / "new").mkdir()
    shutil.copy(made.path, tmp_path / "new" / "gateway.db")
    shutil.copy(home / "master.key", tmp_path / "new" / "master.key")
    other = await opened(tmp_path / "new")
    assert other.snapshot.rules.rules == store.snapshot.rules.rules
    credential = other.snapshot.credentials["openai"][0]
    assert other.vault.open(credential) == store.vault.open(store.snapshot.credentials["openai"][0])


async def test_a_file_that_exists_is_never_overwritten(store: Store, tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("dear")
    with pytest.raises(RefusedError, match="exists; name a file that doesn't"):
        await back_up(store, tmp_path / "letter")
    assert (tmp_path / "letter").read_text() == "dear"


async def test_a_folder_gets_a_file_of_its_own_name(store: Store, tmp_path: Path) -> None:
    made = await back_up(store, tmp_path)
    assert made.path.parent == tmp_path
    assert made.path.name.startswith("gateway-")


async def test_a_place_that_cannot_be_written_to(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"can't (write the backup|make)"):
        await back_up(store, tmp_path / "nowhere" / "copy.db")
    await add_rule(store)


async def test_a_stick_without_hard_links_gets_its_backup_too(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(1, "operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    made = await back_up(store, tmp_path / "copy.db")
    assert made.size_bytes > 0
    with pytest.raises(RefusedError, match="exists"):
        await back_up(store, tmp_path / "copy.db")
