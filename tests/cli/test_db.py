from tests.cli.conftest import Run


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
