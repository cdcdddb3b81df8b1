"""Idempotency-Key: the same request, however often it is sent, happens once and gets one answer.

The edge parses the header, or over gRPC the metadata of that name; the service claims the key in its first
transaction, fences every later phase by a lease token and stores the answer in its last. What happened is therefore
known exactly to the transaction that did it: a crash between two phases leaves a recovery point to resume from.

Source: draft-ietf-httpapi-idempotency-key-header; phases and recovery points after Brandur Leach,
"Implementing Stripe-like Idempotency Keys in Postgres".
"""

import re
import uuid
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

import orjson

from reliability.errors import (
    ControlFlow,
    IdempotencyInProgress,
    IdempotencyKeyInvalid,
    IdempotencyKeyReused,
    LeaseLost,
)

if TYPE_CHECKING:
    from reliability.postgres import Connection

__all__ = [
    "MESSAGE",
    "RETENTION_HOURS",
    "STARTED",
    "Claim",
    "Key",
    "Replay",
    "claim",
    "claiming",
    "current",
    "fresh",
    "parse",
    "purge",
    "storing",
    "used",
]

STARTED: Final = "started"
"""The recovery point of a key that was just claimed."""
MESSAGE: Final = "application/grpc+proto"
"""The content type of an answer that is a message: replayed over gRPC, byte for byte."""
RETENTION_HOURS: Final = 24.0
"""How long an answer is kept unless the claim says otherwise."""
_VISIBLE = re.compile(r"[\x21-\x7e]{1,255}")


@runtime_checkable
class _Message(Protocol):
    """What every protobuf message is."""

    def SerializeToString(self) -> bytes: ...  # noqa: N802


@runtime_checkable
class _Model(Protocol):
    """What every pydantic model is."""

    def model_dump_json(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Key:
    """A client's key, the route or RPC it was used on, and the fingerprint of what was asked."""

    route: str
    value: str
    fingerprint: str


class Replay(ControlFlow):
    """The request was answered before; here is that answer."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        super().__init__(f"replay of a {status}")
        self.status, self.headers, self.body = status, headers, body


current: ContextVar[Key | None] = ContextVar("idempotency_key", default=None)
"""The key of this request, as the edge has checked it; None without one."""


def parse(header: str) -> str:
    """The key in an Idempotency-Key header: a quoted string by the draft, bare by everybody's habit.

    Raises `IdempotencyKeyInvalid`.
    """
    value = header.strip()
    if len(value) > 1 and value.startswith('"') and value.endswith('"'):
        value = value[1:-1]
    if not _VISIBLE.fullmatch(value):
        raise IdempotencyKeyInvalid
    return value


_CLAIM = """
INSERT INTO idempotency_keys AS k (scope, key, fingerprint, lease, lease_until, expires_at)
VALUES ($1, $2, $3, $4, now() + $5 * interval '1 second', now() + $6::float8 * interval '1 hour')
    ON CONFLICT (scope, key) DO UPDATE
       SET fingerprint = excluded.fingerprint, lease = excluded.lease, lease_until = excluded.lease_until,
           expires_at = excluded.expires_at,
           status = NULL, headers = NULL, body = NULL, recovery_point = DEFAULT, data = DEFAULT
     WHERE k.expires_at < now() AND (k.lease_until IS NULL OR k.lease_until < now())
RETURNING recovery_point, data
"""
_LOOK = """
SELECT fingerprint, status, headers, body, recovery_point, data, lease_until > now() AS leased,
       extract(epoch FROM lease_until - now())::float8 AS lease_left
  FROM idempotency_keys WHERE scope = $1 AND key = $2 FOR UPDATE
"""
_TAKE_OVER = """
UPDATE idempotency_keys SET lease = $3, lease_until = now() + $4 * interval '1 second' WHERE scope = $1 AND key = $2
"""
_ADVANCE = """
UPDATE idempotency_keys SET recovery_point = $4, data = data || $5::jsonb
 WHERE scope = $1 AND key = $2 AND lease = $3
"""
_STORE = """
UPDATE idempotency_keys SET status = $4, headers = $5, body = $6, lease = NULL, lease_until = NULL
 WHERE scope = $1 AND key = $2 AND lease = $3
"""
_FORGET = "DELETE FROM idempotency_keys WHERE scope = $1 AND key = $2 AND lease = $3"
_RELEASE = "UPDATE idempotency_keys SET lease = NULL, lease_until = NULL WHERE scope = $1 AND key = $2 AND lease = $3"
_PURGE = """
DELETE FROM idempotency_keys WHERE (scope, key) IN (
    SELECT scope, key FROM idempotency_keys
     WHERE expires_at < now() AND (lease_until IS NULL OR lease_until < now()) LIMIT 10000)
"""


@dataclass(slots=True)
class Claim:
    """The right to work on a key until the lease ends. Without a key every method does nothing."""

    scope: str = ""
    key: str = ""
    lease: str = ""
    recovery_point: str = STARTED
    data: dict[str, Any] = field(default_factory=dict)

    async def advance(self, connection: "Connection", recovery_point: str, **data: Any) -> None:
        """Ends a phase: a retry resumes from here. Raises `LeaseLost` when another attempt took over."""
        if self.key:
            await self._fenced(connection, _ADVANCE, recovery_point, data)
        self.recovery_point = recovery_point
        self.data.update(data)

    async def store(
        self, connection: "Connection", status: int, body: Any, headers: Mapping[str, str] | None = None
    ) -> None:
        """Stores the answer in the transaction of the last effect: JSON, a model, None for no body, or a message.

        A message is what an RPC answers; it is replayed over gRPC and nowhere else. Raises `LeaseLost`.
        """
        if self.key:
            await self._fenced(connection, _STORE, *self.stored(status, body, headers)[3:])

    def claimed(
        self, *, lease_seconds: float = 30.0, retention_hours: float = RETENTION_HOURS
    ) -> tuple[str, str, str, str, float, float]:
        """The parameters of `claiming`: scope, key, fingerprint, lease, and how long lease and key are kept."""
        key = current.get()
        return self.scope, self.key, key.fingerprint if key else "", self.lease, lease_seconds, retention_hours

    def stored(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> tuple[Any, ...]:
        """The parameters of `storing`: scope, key, lease, status, headers, body."""
        kept = dict(headers or {})
        if isinstance(body, _Message):
            kept["content-type"] = MESSAGE
        return self.scope, self.key, self.lease, status, kept, _encoded(body)

    async def release(self, connection: "Connection") -> None:
        """Gives the lease back after a failure, so that a retry resumes at once instead of waiting for its end."""
        if self.key:
            await connection.execute(_RELEASE, self.scope, self.key, self.lease)

    async def forget(self, connection: "Connection") -> None:
        """Drops the key in the transaction that made sure nothing is left of the attempt: it may run again."""
        if self.key:
            await connection.execute(_FORGET, self.scope, self.key, self.lease)

    async def _fenced(self, connection: "Connection", statement: str, *values: object) -> None:
        if await connection.execute(statement, self.scope, self.key, self.lease, *values) != "UPDATE 1":
            raise LeaseLost


def fresh(client: str) -> Claim | None:
    """The claim of the running request's key for `client` if nobody has used it, which `claiming` is to find out.

    None without a key.
    """
    key = current.get()
    return Claim(f"{client}|{key.route}", key.value, str(uuid.uuid4())) if key else None


def used(first: int) -> str:
    """SQL: whether somebody has used the key. The parameters from `$first` on are a claim's `scope` and `key`."""
    return f"EXISTS (SELECT FROM idempotency_keys WHERE scope = ${first} AND key = ${first + 1})"


def claiming(first: int, source: str, recovery_point: str, data: str) -> str:
    """What `claim` and `Claim.advance` do for a key nobody has used, for a WITH of somebody else's statement.

    It returns a row when there is one in `source` and the key was free; without, the statement must change nothing,
    and `claim` tells what became of the key. The parameters from `$first` on are `Claim.claimed`; `data` is SQL.
    """
    scope, key, fingerprint, lease, lease_seconds, retention_hours = (f"${first + place}" for place in range(6))
    return f"""
    INSERT INTO idempotency_keys (scope, key, fingerprint, lease, lease_until, expires_at, recovery_point, data)
    SELECT {scope}, {key}, {fingerprint}, {lease}, now() + {lease_seconds} * interval '1 second',
           now() + {retention_hours}::float8 * interval '1 hour', '{recovery_point}', {data}
      FROM {source}
        ON CONFLICT (scope, key) DO NOTHING
    RETURNING key
    """


def storing(first: int, condition: str) -> str:
    """What `Claim.store` does, for a WITH of somebody else's statement; it returns a row when the claim still held.

    The parameters from `$first` on are `Claim.stored`; `condition` is SQL that says whether there is an answer to
    store. Who gets no row back although there was one has lost the lease.
    """
    scope, key, lease, status, headers, body = (f"${first + place}" for place in range(6))
    return f"""
    UPDATE idempotency_keys SET status = {status}, headers = {headers}, body = {body}, lease = NULL, lease_until = NULL
     WHERE scope = {scope} AND key = {key} AND lease = {lease} AND {condition}
    RETURNING key
    """


def _encoded(body: Any) -> bytes:
    if isinstance(body, _Message):
        return body.SerializeToString()
    if isinstance(body, _Model):
        return body.model_dump_json().encode()
    return b"" if body is None else orjson.dumps(body)


async def claim(
    connection: "Connection", client: str, *, lease_seconds: float = 30.0, retention_hours: float = RETENTION_HOURS
) -> Claim:
    """Claims the running request's key for `client`, or resumes where an earlier attempt stopped.

    The attempt has `lease_seconds`, after which another may take over. The key and its answer are kept for
    `retention_hours` from the first claim: longer than any client of this route goes on trying.
    Raises `Replay` with the stored answer, `IdempotencyKeyReused` (422) for another body,
    `IdempotencyInProgress` (409) while another attempt holds the lease.
    """
    new = fresh(client)
    if new is None:
        return Claim()
    parameters = new.claimed(lease_seconds=lease_seconds, retention_hours=retention_hours)
    scope, key, fingerprint, lease, *_ = parameters
    row = await connection.fetchrow(_CLAIM, *parameters)
    if row is None:
        row = await connection.fetchrow(_LOOK, scope, key)
        if row is None:  # purged between the two statements
            return await claim(connection, client, lease_seconds=lease_seconds, retention_hours=retention_hours)
        if row["fingerprint"] != fingerprint:
            raise IdempotencyKeyReused
        if row["status"] is not None:
            raise Replay(row["status"], row["headers"], row["body"])
        if row["leased"]:
            raise IdempotencyInProgress(retry_after=max(1.0, min(5.0, row["lease_left"])))
        await connection.execute(_TAKE_OVER, scope, key, lease, lease_seconds)
    return Claim(scope, key, lease, row["recovery_point"], row["data"])


async def purge(connection: "Connection") -> int:
    """Deletes keys past retention, 10,000 at most; returns how many."""
    return int((await connection.execute(_PURGE)).split()[-1])
