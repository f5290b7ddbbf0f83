"""Bringing an SQLite file up to the version this program knows.

A file's version is its `PRAGMA user_version`: how many of the numbered functions have run on it. They run inside one
`BEGIN IMMEDIATE`, so a crash leaves the old version whole. Foreign keys are off meanwhile (rebuilding a parent table
with them on silently deletes its children) and are checked before the commit.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from watchhamster.core.ports import StoreError
from watchhamster.core.text import Text

Migration = Callable[[sqlite3.Connection], None]
"""Brings a file from the version before it to its own; it neither begins nor commits."""


def version_of(connection: sqlite3.Connection) -> int:
    """How many migrations have run on a file."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def refuse_newer(path: Path, found: int, known: int) -> None:
    """Raise `StoreError` (`newer_database`) for a file that a later version of this program wrote."""
    if found > known:
        raise StoreError(
            "newer_database",
            Text(
                "{path} was made by a newer WatchHamster (its version is {found}, this program knows {known}).",
                {"path": str(path), "found": found, "known": known},
            ),
            Text("Update WatchHamster, or choose another home with --home. The file was not touched."),
            path=str(path),
        )


def migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[Migration], copy: Path) -> bool:
    """Run what is missing, after keeping a copy of a file that holds something at `copy`. True if anything ran.

    `connection` must be in autocommit (`isolation_level=None`). Raises `StoreError` (`newer_database`,
    `migration_failed`); the file is then as it was.
    """
    found = version_of(connection)
    refuse_newer(path, found, len(migrations))
    if found == len(migrations):
        return False
    if found:
        copy.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(copy)) as target:
            connection.backup(target)
    connection.execute("PRAGMA foreign_keys=OFF")
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have been quicker between the first look and the lock.
        for run in migrations[version_of(connection) :]:
            run(connection)
        broken = connection.execute("PRAGMA foreign_key_check").fetchone()
        if broken is not None:
            raise StoreError(
                "migration_failed",
                Text(
                    "Upgrading {path} would leave a row of {table} without its parent.",
                    {"path": str(path), "table": broken[0]},
                ),
                Text("The file is unchanged. Please report this together with the file's version."),
                path=str(path),
            )
        connection.execute(f"PRAGMA user_version={len(migrations)}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        connection.execute("PRAGMA foreign_keys=ON")
    return True
