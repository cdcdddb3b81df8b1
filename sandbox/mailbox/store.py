"""Where messages are kept: one SQLite file, so that a mailbox killed at any moment has what it acknowledged."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.mailbox.message import Envelope, Message, compose, parse

__all__ = ["Kept", "Received", "Store"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS messages (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    received_at TEXT NOT NULL,
    sender TEXT NOT NULL,
    recipients TEXT NOT NULL,
    subject TEXT NOT NULL,
    correlation_id TEXT NOT NULL,
    headers TEXT NOT NULL,
    text TEXT NOT NULL,
    html TEXT NOT NULL,
    raw BLOB NOT NULL
)
"""
_KEYS = """
CREATE TABLE IF NOT EXISTS keys (
    name TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, answer BLOB NOT NULL, at REAL NOT NULL
)
"""
# Nobody has read a message whose `headers` are empty. Until then `entry` may have what it is to be made of, not `raw`.
_ENTRY = "ALTER TABLE messages ADD COLUMN entry BLOB"
_COLUMNS = "id, received_at, sender, recipients, subject, correlation_id, headers, text, html"


@dataclass(frozen=True, slots=True)
class Received:
    """A message: its bytes or, when it was asked for over HTTP, what it is to be made of."""

    envelope: Envelope
    raw: bytes = b""
    entry: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """The answer to a request with an idempotency key; `at` is seconds since 1970."""

    name: str
    fingerprint: str
    answer: bytes
    at: float


class Store:
    """Used from one thread, the event loop's."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(file, isolation_level=None)
        # Written through to the operating system before `add` returns: enough against kill -9.
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        self._database.execute(_SCHEMA)
        self._database.execute(_KEYS)
        with suppress(sqlite3.OperationalError):  # it is there
            self._database.execute(_ENTRY)

    def close(self) -> None:
        """Ends the connection."""
        self._database.close()

    def add(self, received: Received) -> None:
        """Keeps a message."""
        envelope = received.envelope
        self._database.execute(
            f"INSERT INTO messages ({_COLUMNS}, raw, entry) VALUES (?, ?, ?, ?, ?, ?, '', '', '', ?, ?)",
            (
                envelope.id,
                envelope.received_at,
                envelope.sender,
                json.dumps(envelope.to),
                envelope.subject,
                envelope.correlation_id,
                received.raw,
                json.dumps(received.entry) if received.entry is not None else None,
            ),
        )

    def add_all(self, received: Sequence[Received], kept: Kept | None) -> None:
        """Keeps messages and the answer that was given for them: all of it or nothing."""
        self._database.execute("BEGIN")
        try:
            for each in received:
                self.add(each)
            if kept is not None:
                values = (kept.name, kept.fingerprint, kept.answer, kept.at)
                self._database.execute("INSERT OR REPLACE INTO keys VALUES (?, ?, ?, ?)", values)
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    def kept(self, name: str, since: float) -> Kept | None:
        """The answer to that key, if it was given since then."""
        row = self._database.execute("SELECT * FROM keys WHERE name = ? AND at >= ?", (name, since)).fetchone()
        return Kept(row[0], row[1], bytes(row[2]), row[3]) if row else None

    def find(self, *, to: str = "", subject: str = "", correlation_id: str = "", limit: int = -1) -> list[Message]:
        """Newest first. `to` is a whole address, `subject` a part of one; both in any case. Empty means any."""
        rows = self._database.execute(
            f"""
            SELECT {_COLUMNS} FROM messages
            WHERE (:to = '' OR EXISTS (SELECT 1 FROM json_each(recipients) WHERE lower(value) = lower(:to)))
              AND (:subject = '' OR instr(lower(subject), lower(:subject)) > 0)
              AND (:correlation_id = '' OR correlation_id = :correlation_id)
            ORDER BY number DESC LIMIT :limit
            """,
            {"to": to, "subject": subject, "correlation_id": correlation_id, "limit": limit},
        )
        return [self._message(row) for row in rows.fetchall()]

    def get(self, message_id: str) -> Message | None:
        """One message."""
        row = self._database.execute(f"SELECT {_COLUMNS} FROM messages WHERE id = ?", (message_id,)).fetchone()
        return self._message(row) if row else None

    def raw(self, message_id: str) -> bytes | None:
        """One message as it came over the wire."""
        self.get(message_id)
        row = self._database.execute("SELECT raw FROM messages WHERE id = ?", (message_id,)).fetchone()
        return bytes(row[0]) if row else None

    def clear(self) -> int:
        """Deletes all messages; how many there were."""
        return self._database.execute("DELETE FROM messages").rowcount

    def _message(self, row: tuple[str, ...]) -> Message:
        number, received_at, sender, to, subject, correlation_id, headers, text, html = row
        if not headers:
            headers, text, html = self._read(number)
        return Message(
            number, received_at, sender, json.loads(to), subject, correlation_id, json.loads(headers), text, html
        )

    def _read(self, message_id: str) -> tuple[str, str, str]:
        """Headers, text and HTML of a message nobody has read yet; the next reader finds them."""
        (raw, entry) = self._database.execute("SELECT raw, entry FROM messages WHERE id = ?", (message_id,)).fetchone()
        raw = bytes(raw) if entry is None else compose(json.loads(entry))
        headers, text, html = parse(raw)
        read = (json.dumps(headers), text, html)
        self._database.execute(
            "UPDATE messages SET headers = ?, text = ?, html = ?, raw = ?, entry = NULL WHERE id = ?",
            (*read, raw, message_id),
        )
        return read
