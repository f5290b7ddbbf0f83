"""Old files are brought forward whole or not at all, with a copy kept; newer ones are left alone."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.storage.kit import ask
from watchhamster.core.ports import StoreError
from watchhamster.storage.migrations import Migration, migrate


def _first(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE parent (id INTEGER PRIMARY KEY, name TEXT)")
    connection.execute(
        "CREATE TABLE child (id INTEGER PRIMARY KEY, parent INTEGER NOT NULL REFERENCES parent (id) ON DELETE CASCADE)"
    )


def _rebuild_parent(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE fresh (id INTEGER PRIMARY KEY, name TEXT NOT NULL, colour TEXT)")
    connection.execute("INSERT INTO fresh SELECT id, name, 'red' FROM parent")
    connection.execute("DROP TABLE parent")
    connection.execute("ALTER TABLE fresh RENAME TO parent")


def _lose_parents(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM parent")


def _crash(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE half_done (a)")
    raise RuntimeError("the power went")


def run(path: Path, *migrations: Migration) -> bool:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys=ON")
        return migrate(connection, path, migrations, path.with_name("copy.db"))


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file of version 1 with rows in it."""
    path = tmp_path / "old.db"
    assert run(path, _first)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO parent VALUES (1, 'a'), (2, 'b')")
        connection.execute("INSERT INTO child VALUES (10, 1), (11, 2), (12, 2)")
    return path


def test_rebuilding_a_parent_table_keeps_its_children(old: Path) -> None:
    assert run(old, _first, _rebuild_parent)
    assert ask(old, "SELECT * FROM parent") == [(1, "a", "red"), (2, "b", "red")]
    assert ask(old, "SELECT id FROM child") == [(10,), (11,), (12,)]
    assert ask(old, "PRAGMA user_version") == [(2,)]
    assert not run(old, _first, _rebuild_parent)  # once is enough


def test_the_old_file_is_kept_beside_the_new(old: Path) -> None:
    run(old, _first, _rebuild_parent)
    copy = old.with_name("copy.db")
    assert ask(copy, "PRAGMA user_version") == [(1,)]
    assert ask(copy, "SELECT * FROM parent") == [(1, "a"), (2, "b")]


def test_a_crash_in_between_leaves_the_old_version_and_can_be_tried_again(old: Path) -> None:
    before = ask(old, "SELECT sql FROM sqlite_schema")
    for _ in range(2):
        with pytest.raises(RuntimeError):
            run(old, _first, _rebuild_parent, _crash)
        assert ask(old, "SELECT sql FROM sqlite_schema") == before
        assert ask(old, "PRAGMA user_version") == [(1,)]
    assert run(old, _first, _rebuild_parent)


def test_children_without_parents_are_refused(old: Path) -> None:
    with pytest.raises(StoreError) as caught:
        run(old, _first, _lose_parents)
    assert caught.value.code == "migration_failed"
    assert ask(old, "SELECT count(*) FROM parent") == [(2,)]


def test_a_newer_file_is_refused(old: Path) -> None:
    run(old, _first, _rebuild_parent)
    old.with_name("copy.db").unlink()
    before = old.read_bytes()
    with pytest.raises(StoreError) as caught:
        run(old, _first)
    assert caught.value.code == "newer_database"
    assert old.read_bytes() == before and not old.with_name("copy.db").exists()
