"""A PostgreSQL pool that respects deadlines, recovers by itself and says 503 instead of hanging.

asyncpg's own `acquire()` waits for ever and a second acquire in one task can wait on itself in a full pool:
here acquiring ends with the request's deadline, and nesting is refused at once.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import asyncpg
import orjson

from reliability import deadline
from reliability.errors import DeadlineExceeded, Unavailable
from reliability.telemetry import span

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = PoolConnectionProxy[asyncpg.Record] | asyncpg.Connection[asyncpg.Record]
else:
    Connection = Any

__all__ = ["Connection", "Database", "prepare", "signal"]

_GONE = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.ConnectionDoesNotExistError,
)

_held: ContextVar[bool] = ContextVar("postgres_connection_held", default=False)
_signals: ContextVar[set[str] | None] = ContextVar("postgres_signals", default=None)


def signal(name: str) -> None:
    """Tells the listeners of `name` in this process when the work on the held connection has committed.

    A hint that saves a poll, nothing more: it is lost with the process.
    """
    pending = _signals.get()
    if pending is not None:
        pending.add(name)


async def prepare(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Makes JSON columns speak Python values; the pool does this to each of its connections."""
    for name in ("json", "jsonb"):
        await connection.set_type_codec(
            name, encoder=lambda value: orjson.dumps(value).decode(), decoder=orjson.loads, schema="pg_catalog"
        )


async def _reset(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Runs between two users of a connection.

    We set nothing that outlives a transaction, so there is nothing to undo: asyncpg's own reset would cost a
    round trip each time.
    """
    if connection.is_in_transaction():
        await connection.execute("ROLLBACK")


async def _uninterrupted(step: Awaitable[object]) -> None:
    """Waits for `step` even when the task is cancelled meanwhile, then lets the cancellation go on."""
    running = asyncio.ensure_future(step)
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        await running
        raise


class Database:
    """A pool of connections to one database."""

    def __init__(
        self, url: str, *, size: int = 8, application: str = "holdfast", tls: ssl.SSLContext | None = None
    ) -> None:
        self._url = url
        self._size = size
        self._application = application
        self._tls = tls
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._opening = asyncio.Lock()
        self._listeners: dict[str, list[Callable[[], None]]] = {}

    def listen(self, name: str, callback: Callable[[], None]) -> None:
        """Calls `callback` after each commit whose transaction called `signal(name)`."""
        self._listeners.setdefault(name, []).append(callback)

    async def _open(self) -> "asyncpg.Pool[asyncpg.Record]":
        """The pool, made at first use, so that a service starts before its database does."""
        async with self._opening:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    self._url,
                    min_size=1,
                    max_size=self._size,
                    init=prepare,
                    reset=_reset,
                    ssl=self._tls,
                    timeout=5,
                    command_timeout=deadline.DATABASE_CAP,
                    server_settings={"application_name": self._application, "timezone": "UTC"},
                )
            return self._pool

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection for statements that need no transaction.

        Raises `Unavailable` when the server is away, `DeadlineExceeded` when no connection was free in time.
        """
        if _held.get():
            message = "this task already holds a connection; pass it on instead of acquiring another"
            raise RuntimeError(message)
        held, signals = _held.set(True), _signals.set(set())
        try:
            pool = self._pool or await self._open()
            seconds = deadline.remaining(deadline.DATABASE_CAP)
            if seconds <= 0:
                raise DeadlineExceeded("database")
            try:
                acquired = await pool.acquire(timeout=seconds)
            except TimeoutError:
                raise DeadlineExceeded("database pool") from None
            try:
                async with deadline.limit(deadline.DATABASE_CAP, "database"):
                    yield acquired
            finally:
                await _uninterrupted(pool.release(acquired))
            self._tell(_signals.get() or ())
        except _GONE as error:
            message = "The database is not available; try again in a moment."
            raise Unavailable(message) from error
        except asyncpg.InterfaceError as error:
            if "clos" in str(error):  # the connection died under us
                message = "The database connection was lost; try again in a moment."
                raise Unavailable(message) from error
            raise
        finally:
            _held.reset(held)
            _signals.reset(signals)

    @asynccontextmanager
    async def transaction(self, name: str = "transaction") -> AsyncIterator[Connection]:
        """One transaction, committed when the block ends and rolled back when it raises.

        `statement_timeout` follows the deadline inside the server too, so that a statement nobody waits
        for any more does not hold its locks. It travels with BEGIN in one round trip.
        """
        with span(f"db {name}", db_system_name="postgresql"):
            async with self.connection() as connection:
                milliseconds = max(1, int(deadline.remaining(deadline.DATABASE_CAP) * 1000))
                await connection.execute(f"BEGIN; SET LOCAL statement_timeout = {milliseconds}")
                try:
                    yield connection
                except BaseException:
                    if not connection.is_closed():
                        await _uninterrupted(connection.execute("ROLLBACK"))
                    raise
                # A commit that was sent must be waited for: cancelling it leaves us not knowing.
                await _uninterrupted(connection.execute("COMMIT"))

    def _tell(self, signals: Iterable[str]) -> None:
        for callback in [listener for name in signals for listener in self._listeners.get(name, [])]:
            callback()

    async def ready(self) -> bool:
        """Whether the database answers within a second."""
        try:
            async with asyncio.timeout(1), self.connection() as connection:
                return bool(await connection.fetchval("SELECT true"))
        except (Unavailable, DeadlineExceeded, TimeoutError, asyncpg.PostgresError):
            return False

    async def close(self) -> None:
        """Waits for connections in use, two seconds at most, then closes all."""
        if self._pool is None:
            return
        try:
            async with asyncio.timeout(2):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()
