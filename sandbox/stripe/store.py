"""The ledger's file: SQLite in WAL mode, one connection, one writer.

Every effect is written in one transaction together with its event and its idempotency record, so a kill at any moment
leaves either all of them or none. Calls are short and synchronous: while one runs no other does.
"""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.stripe.errors import Json, no_such
from sandbox.stripe.forms import Params

_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL,
    created INTEGER NOT NULL, body TEXT NOT NULL, note TEXT);
CREATE INDEX IF NOT EXISTS objects_kind ON objects (kind, seq);
CREATE INDEX IF NOT EXISTS objects_intent ON objects (json_extract(body, '$.payment_intent'));
CREATE TABLE IF NOT EXISTS idempotency (
    key TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, status INTEGER NOT NULL, body TEXT NOT NULL,
    request_id TEXT NOT NULL, created REAL NOT NULL);
CREATE INDEX IF NOT EXISTS idempotency_created ON idempotency (created);
CREATE TABLE IF NOT EXISTS outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT, event TEXT NOT NULL, type TEXT NOT NULL, intent TEXT,
    attempts INTEGER NOT NULL DEFAULT 0, due REAL NOT NULL, held_for TEXT, fault TEXT);
CREATE INDEX IF NOT EXISTS outbox_due ON outbox (due);
CREATE TABLE IF NOT EXISTS deliveries (
    id INTEGER PRIMARY KEY AUTOINCREMENT, event TEXT NOT NULL, type TEXT NOT NULL, intent TEXT,
    attempt INTEGER NOT NULL, status INTEGER, error TEXT, at REAL NOT NULL, fault TEXT);
CREATE INDEX IF NOT EXISTS deliveries_event ON deliveries (event);
CREATE TABLE IF NOT EXISTS faults (
    id INTEGER PRIMARY KEY AUTOINCREMENT, spec TEXT NOT NULL, remaining INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS timers (
    id INTEGER PRIMARY KEY AUTOINCREMENT, due REAL NOT NULL, action TEXT NOT NULL, object TEXT NOT NULL);
"""
_TABLES = ("objects", "idempotency", "outbox", "deliveries", "faults", "timers")


@dataclass(frozen=True, slots=True)
class Condition:
    """A piece of SQL, and the values for its placeholders."""

    sql: str
    values: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """What part of a list is asked for."""

    limit: int = 10
    starting_after: str | None = None
    ending_before: str | None = None

    @classmethod
    def of(cls, params: Params) -> "Page":
        """Read limit and cursors as Stripe does."""
        limit = params.integer("limit")
        if limit is not None and not 1 <= limit <= 100:
            params.refuse("limit", "Invalid limit: must be between 1 and 100", "parameter_invalid_integer")
        after, before = params.text("starting_after"), params.text("ending_before")
        if after and before:
            params.refuse("starting_after", "You cannot parameterize both starting_after and ending_before.")
        return cls(limit or 10, after, before)


class Store:
    """Objects by id, and the connection for the tables that go with them."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # One thread uses it at a time; a test may build the app in another thread than the one that serves it.
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        """Run one statement."""
        return self._db.execute(sql, values)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it, or none of it."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def mark(self) -> None:
        """Remember this point of the transaction."""
        self._db.execute("SAVEPOINT work")

    def undo(self) -> None:
        """Go back to the marked point."""
        self._db.execute("ROLLBACK TO work")

    def clear(self) -> None:
        """Forget everything; ids of outbox rows are not used again, so a late answer finds nothing."""
        with self.transaction():
            for table in _TABLES:
                self._db.execute(f"DELETE FROM {table}")

    def insert(self, item: Json, note: str | None = None) -> None:
        """Add an object; `note` is kept beside it and never answered."""
        self.execute(
            "INSERT INTO objects (id, kind, created, body, note) VALUES (?, ?, ?, ?, ?)",
            *(item["id"], item["object"], item["created"], json.dumps(item), note),
        )

    def save(self, item: Json) -> None:
        """Replace an object."""
        self.execute("UPDATE objects SET body = ? WHERE id = ?", json.dumps(item), item["id"])

    def get(self, kind: str, object_id: str) -> Json | None:
        """An object by kind and id."""
        row = self.execute("SELECT body FROM objects WHERE id = ? AND kind = ?", object_id, kind).fetchone()
        return None if row is None else _load(row)

    def find(self, object_id: str) -> Json | None:
        """An object of any kind, for expanding."""
        row = self.execute("SELECT body FROM objects WHERE id = ?", object_id).fetchone()
        return None if row is None else _load(row)

    def note(self, object_id: str) -> str | None:
        """What is kept beside an object."""
        row = self.execute("SELECT note FROM objects WHERE id = ?", object_id).fetchone()
        return None if row is None else row["note"]

    def every(self, kind: str, *conditions: Condition) -> list[Json]:
        """All objects that meet the conditions, oldest first."""
        where, values = _where(kind, conditions)
        return [_load(row) for row in self.execute(f"SELECT body FROM objects WHERE {where} ORDER BY seq", *values)]

    def page(self, kind: str, page: Page, conditions: Sequence[Condition] = ()) -> tuple[list[Json], bool]:
        """One page, newest first, and whether there is more in the direction of travel."""
        backwards = page.ending_before is not None
        cursor = self._cursor(kind, page)
        where, values = _where(kind, (*conditions, *cursor))
        order = "ASC" if backwards else "DESC"
        rows = self.execute(
            f"SELECT body FROM objects WHERE {where} ORDER BY seq {order} LIMIT ?", *values, page.limit + 1
        ).fetchall()
        items = [_load(row) for row in rows[: page.limit]]
        return (items[::-1] if backwards else items), len(rows) > page.limit

    def _cursor(self, kind: str, page: Page) -> tuple[Condition, ...]:
        given = page.starting_after or page.ending_before
        if given is None:
            return ()
        row = self.execute("SELECT seq FROM objects WHERE id = ? AND kind = ?", given, kind).fetchone()
        if row is None:
            raise no_such(kind, given, "starting_after" if page.starting_after else "ending_before")
        return (Condition("seq < ?" if page.starting_after else "seq > ?", (row["seq"],)),)


def field(path: str, value: Any) -> Condition:
    """A field of the object equals a value; `path` is ours, never the client's."""
    return Condition(f"json_extract(body, '$.{path}') IS ?", (value,))


def _where(kind: str, conditions: Sequence[Condition]) -> tuple[str, list[Any]]:
    values = [value for condition in conditions for value in condition.values]
    return " AND ".join(["kind = ?", *(condition.sql for condition in conditions)]), [kind, *values]


def _load(row: sqlite3.Row) -> Json:
    loaded: Json = json.loads(row["body"])
    return loaded
