"""Where messages are kept: one SQLite file, so that a mailbox killed at any moment has what it acknowledged."""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sandbox.mailbox.message import Message

__all__ = ["Kept", "Store"]

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
_COLUMNS = "id, received_at, sender, recipients, subject, correlation_id, headers, text, html"


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

    def close(self) -> None:
        """Ends the connection."""
        self._database.close()

    def add(self, message: Message, raw: bytes) -> None:
        """Keeps a message."""
        self._database.execute(
            f"INSERT INTO messages ({_COLUMNS}, raw) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                message.id,
                message.received_at,
                message.sender,
                json.dumps(message.to),
                message.subject,
                message.correlation_id,
                json.dumps(message.headers),
                message.text,
                message.html,
                raw,
            ),
        )

    def add_all(self, received: Sequence[tuple[Message, bytes]], kept: Kept | None) -> None:
        """Keeps messages and the answer that was given for them: all of it or nothing."""
        self._database.execute("BEGIN")
        try:
            for message, raw in received:
                self.add(message, raw)
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
        return [_message(row) for row in rows]

    def get(self, message_id: str) -> Message | None:
        """One message."""
        row = self._database.execute(f"SELECT {_COLUMNS} FROM messages WHERE id = ?", (message_id,)).fetchone()
        return _message(row) if row else None

    def raw(self, message_id: str) -> bytes | None:
        """One message as it came over the wire."""
        row = self._database.execute("SELECT raw FROM messages WHERE id = ?", (message_id,)).fetchone()
        return bytes(row[0]) if row else None

    def clear(self) -> int:
        """Deletes all messages; how many there were."""
        return self._database.execute("DELETE FROM messages").rowcount


def _message(row: tuple[str, ...]) -> Message:
    number, received_at, sender, to, subject, correlation_id, headers, text, html = row
    return Message(
        number, received_at, sender, json.loads(to), subject, correlation_id, json.loads(headers), text, html
    )
