"""A PostgreSQL pool that respects deadlines, recovers by itself and says 503 instead of hanging.

asyncpg's own `acquire()` waits for ever and a second acquire in one task can wait on itself in a full pool:
here acquiring ends with the request's deadline, and nesting is refused at once. A server that restarts is tried a
few times before a request is told 503; when half of the requests find it away or hung, a circuit breaker tells them
so at once and asks again every second or two.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

import asyncpg
import orjson

from reliability import deadline
from reliability.cancellation import uninterrupted
from reliability.circuit_breaker import CircuitBreaker, CircuitOpen, Outcome, Permit, Rules
from reliability.errors import DeadlineExceeded, Unavailable
from reliability.retry import retry
from reliability.telemetry import span

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = PoolConnectionProxy[asyncpg.Record] | asyncpg.Connection[asyncpg.Record]
else:
    Connection = Any

__all__ = ["BREAKER", "Connection", "Database", "prepare", "signal"]

T = TypeVar("T")

BREAKER: Final = Rules(
    failures=None,
    failure_rate=0.5,
    minimum_calls=6,
    window=10.0,
    open_seconds=0.5,
    open_cap=2.0,
    permit_seconds=deadline.DATABASE_CAP,
)
"""By rate: a restart cuts many connections at once, and those that come after it shall not be refused for that."""

_GONE = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.ConnectionDoesNotExistError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InternalClientError,  # the server's last words have arrived, the end of the connection has not
)
# What may end a block otherwise than by an error of its own.
_ENDS = (*_GONE, asyncpg.InterfaceError, asyncpg.QueryCanceledError)
# What a server says, or does not, that stops or starts. A pool that is closed is none of them.
_AWAY = (OSError, asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError, asyncpg.TooManyConnectionsError)
_CONNECT_ATTEMPTS: Final = 4
_CONNECT_BASE: Final = 0.05
_CONNECT_BACKOFF: Final = 0.5
# Of a request that had less time than this, running out of it says nothing about the server.
_FAIR_SECONDS: Final = 1.0
_CLEANUP_SECONDS: Final = 1.0
_IDLE_MARGIN: Final = 5000
_KEPT_SECONDS: Final = 10.0
_UNUSED_SECONDS: Final = 30.0  # a connection is a process of the server, and 7 MiB of it
_POOL: Final = "database pool"
_NOT_AVAILABLE: Final = "The database is not available; try again in a moment."
_BROKEN = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


@dataclass(slots=True)
class _Hold:
    """A connection that is in use, as the task that acquired it and those it started see it."""

    active: bool = True
    signals: set[str] = field(default_factory=set)


_hold: ContextVar[_Hold | None] = ContextVar("postgres_connection_held", default=None)


def signal(name: str) -> None:
    """Tells the listeners of `name` in this process when the work on the held connection has committed.

    A hint that saves a poll, nothing more: it is lost with the process.
    """
    hold = _hold.get()
    if hold is not None:
        hold.signals.add(name)


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


def _closed(connection: Connection) -> bool:
    """Whether the connection is gone; asyncpg takes it from us when it loses it."""
    try:
        return bool(connection.is_closed())
    except asyncpg.InterfaceError:
        return True


def _begin() -> str:
    """BEGIN with the limits the server itself keeps, also when it hears no more from us."""
    milliseconds = max(1, int(deadline.remaining(deadline.DATABASE_CAP) * 1000))
    return (
        f"BEGIN; SET LOCAL statement_timeout = {milliseconds}; "
        f"SET LOCAL idle_in_transaction_session_timeout = {milliseconds + _IDLE_MARGIN}"
    )


async def _rollback(connection: Connection) -> None:
    """Undoes a transaction; a connection that cannot even do that is thrown away, which undoes it as well."""
    if _closed(connection):
        return
    try:
        await connection.execute("ROLLBACK", timeout=_CLEANUP_SECONDS)
    except _BROKEN:
        _terminate(connection)


def _terminate(connection: Connection) -> None:
    if not _closed(connection):
        connection.terminate()


async def _commit(connection: Connection) -> None:
    """Commits. A block that swallowed a failed statement is told: PostgreSQL answers its COMMIT with ROLLBACK."""
    try:
        seconds = max(_CLEANUP_SECONDS, deadline.remaining(deadline.DATABASE_CAP))
        outcome = await connection.execute("COMMIT", timeout=seconds)
    except TimeoutError as error:
        _terminate(connection)
        message = "The database did not confirm the commit; try again in a moment."
        raise Unavailable(message) from error
    if outcome != "COMMIT":
        message = "a statement of this transaction had failed, so nothing was committed: do not swallow its error"
        raise RuntimeError(message)


def _explain(error: Exception, connection: Connection) -> None:
    """Raises what an error of a block that holds `connection` is to its caller; returns where that is the error itself.

    While it is open, a TimeoutError or a file that is not there came from somewhere else.
    """
    if isinstance(error, asyncpg.QueryCanceledError):  # statement_timeout, a moment before our own clock
        raise DeadlineExceeded("database") from error
    foreign = isinstance(error, OSError | asyncpg.InterfaceError) and not isinstance(error, ConnectionError)
    if not foreign or _closed(connection):
        raise Unavailable(_NOT_AVAILABLE) from error


def _judge(error: Exception) -> Outcome:
    """Only what we made of a lost or refused connection is a failure; any other error is somebody's answer."""
    gone = isinstance(error, Unavailable) and isinstance(error.__cause__, (*_GONE, asyncpg.InterfaceError))
    return Outcome.FAILED if gone or isinstance(error, DeadlineExceeded) else Outcome.SUCCEEDED


class Database:
    """A pool of `size` connections to one database. `breaker` is this process's own view of it."""

    def __init__(
        self,
        url: str,
        *,
        size: int = 8,
        application: str = "holdfast",
        tls: ssl.SSLContext | None = None,
        rules: Rules = BREAKER,
    ) -> None:
        self.breaker = CircuitBreaker("postgres", rules, judge=_judge, local=True)
        self._url = url
        self._size = size
        self._application = application
        self._tls = tls
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._opening = asyncio.Lock()
        # Connections between two users, the last used last. To asyncpg they are in use: giving one back to it and
        # taking it again costs four times what a statement does.
        self._kept: list[PoolConnectionProxy[asyncpg.Record]] = []
        self._least_kept = 0
        self._tidying: asyncio.TimerHandle | None = None
        # Who waits for a connection, first come first served, is handed it by who had it: by way of asyncpg's queue it
        # costs both a task. Who asks asyncpg does so for a place that is free.
        self._queue: dict[asyncio.Future[PoolConnectionProxy[asyncpg.Record] | None], None] = {}
        self._taken = 0
        self._asking = 0
        self._closing = False
        self._releasing: set[asyncio.Future[None]] = set()
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
                    max_inactive_connection_lifetime=_UNUSED_SECONDS,
                    init=prepare,
                    reset=_reset,
                    ssl=self._tls,
                    timeout=5,
                    # No `command_timeout`: every use of a connection has its limit already, and a timer for each of its
                    # statements as well costs a tenth of a short one.
                    server_settings={"application_name": self._application, "timezone": "UTC"},
                )
            return self._pool

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection for statements that need no transaction.

        Raises `Unavailable` when the server is away, `DeadlineExceeded` when no connection was free in time, and
        `RuntimeError` when this task holds one already: waiting for another in a full pool could be for ever.
        """
        outer = _hold.get()
        if outer is not None and outer.active:
            message = "this task already holds a connection; pass it on instead of acquiring another"
            raise RuntimeError(message)
        permit, granted = self._permit(), deadline.remaining(deadline.DATABASE_CAP)
        hold = _Hold()
        token = _hold.set(hold)
        try:
            acquired = self._again() or await self._acquire()
            clean = False
            try:
                async with deadline.limit(deadline.DATABASE_CAP, "database"):
                    yield acquired
                clean = True
            except _ENDS as error:
                _explain(error, acquired)
                raise
            finally:
                if not (clean and self._keep(acquired)):
                    await uninterrupted(self._release(acquired))
        except BaseException as error:
            self._blame(permit, error, granted)
            raise
        finally:
            hold.active = False
            _hold.reset(token)
        permit.success()
        self._tell(hold.signals)

    def _blame(self, permit: Permit, error: BaseException, granted: float) -> None:
        """Tells the breaker what ended a use that had `granted` seconds.

        A pool that is full says something about us, not about the server.
        """
        if isinstance(error, DeadlineExceeded) and (
            granted < _FAIR_SECONDS or (error.extensions["step"] == _POOL and self._full())
        ):
            permit.give_back()
        else:
            permit.failure(error)

    def _full(self) -> bool:
        """Whether every connection is there and in use: then one waits for us, otherwise for the server."""
        if self._pool is None or self._kept:
            return False
        return self._pool.get_size() == self._size and not self._pool.get_idle_size()

    def _permit(self) -> Permit:
        try:
            return self.breaker.allow()
        except CircuitOpen as error:
            raise Unavailable(_NOT_AVAILABLE, retry_after=error.retry_after or 1.0) from error

    def _again(self) -> "PoolConnectionProxy[asyncpg.Record] | None":
        """A connection that is between two users; None when there is none."""
        while self._kept:
            kept = self._kept.pop()
            self._least_kept = min(self._least_kept, len(self._kept))
            if not _closed(kept):
                return kept
            self._give_back([kept])
        return None

    def _keep(self, acquired: "PoolConnectionProxy[asyncpg.Record]") -> bool:
        """Hands a connection on or keeps it for the next user; False when asyncpg has to see to it first."""
        if self._asking or self._closing or _closed(acquired) or acquired.is_in_transaction():
            return False
        if self._hand_on(acquired):
            return True
        self._kept.append(acquired)
        if self._tidying is None:
            self._tidying = asyncio.get_running_loop().call_later(_KEPT_SECONDS, self._tidy)
        return True

    def _hand_on(self, what: "PoolConnectionProxy[asyncpg.Record] | None") -> bool:
        """Gives the first who waits a connection, or with None a place to ask for; False when nobody does."""
        while self._queue:
            ticket = next(iter(self._queue))
            del self._queue[ticket]
            if not ticket.done():  # else cancelled a moment ago, and not there to take it
                ticket.set_result(what)
                return True
        return False

    async def _handed(self) -> "PoolConnectionProxy[asyncpg.Record] | None":
        """A connection that somebody has done with, or None: then there is a place to ask asyncpg for."""
        ticket: asyncio.Future[PoolConnectionProxy[asyncpg.Record] | None]
        ticket = asyncio.get_running_loop().create_future()
        self._queue[ticket] = None
        try:
            handed = await ticket
        except asyncio.CancelledError:
            self._queue.pop(ticket, None)
            if ticket.done() and not ticket.cancelled():  # handed at the very moment it left
                self._pass_on(ticket.result())
            raise
        if handed is not None and _closed(handed):
            self._give_back([handed])
            return None
        return handed

    def _pass_on(self, handed: "PoolConnectionProxy[asyncpg.Record] | None") -> None:
        if handed is None:
            self._offer()
        elif not self._keep(handed):
            self._give_back([handed])

    def _tidy(self) -> None:
        """Gives back what nobody needed since this was done last: asyncpg closes what stays unused."""
        unused, self._kept = self._kept[: self._least_kept], self._kept[self._least_kept :]
        self._give_back(unused)
        self._least_kept = len(self._kept)
        self._tidying = asyncio.get_running_loop().call_later(_KEPT_SECONDS, self._tidy) if self._kept else None

    def _give_back(self, connections: "Iterable[PoolConnectionProxy[asyncpg.Record]]") -> None:
        for each in connections:
            task = asyncio.ensure_future(self._release(each))
            self._releasing.add(task)
            task.add_done_callback(self._releasing.discard)

    async def _acquire(self) -> "PoolConnectionProxy[asyncpg.Record]":
        """A connection. Nothing was asked yet, so that a server that is away for a moment may be tried again."""
        async with deadline.limit(deadline.DATABASE_CAP, _POOL):
            if self._closing or self._room():
                return await self._ask()
            return await self._handed() or await self._ask()

    def _room(self) -> bool:
        """Whether asyncpg has a connection to give beyond those that it was asked for."""
        return self._taken + self._asking < self._size

    async def _ask(self) -> "PoolConnectionProxy[asyncpg.Record]":
        self._asking += 1
        try:
            try:
                acquired = await self._ask_once()
            except _AWAY:
                acquired = await retry(
                    self._ask_once,
                    retryable=lambda error: isinstance(error, _AWAY),
                    step=_POOL,
                    attempts=_CONNECT_ATTEMPTS,
                    base=_CONNECT_BASE,
                    cap=_CONNECT_BACKOFF,
                    seconds=deadline.DATABASE_CAP,
                )
            self._taken += 1
        except _GONE as error:
            raise Unavailable(_NOT_AVAILABLE) from error
        except asyncpg.InterfaceError as error:
            if "pool is clos" not in str(error):
                raise
            message = "The database connections are closed: this process is stopping."
            raise Unavailable(message) from error
        finally:
            self._asking -= 1
            self._offer()
        return acquired

    async def _ask_once(self) -> "PoolConnectionProxy[asyncpg.Record]":
        pool = self._pool or await self._open()
        return await pool.acquire()

    def _offer(self) -> None:
        """Lets the first who waits ask asyncpg, when that has something to give."""
        if self._room():
            self._hand_on(None)

    async def _release(self, acquired: "PoolConnectionProxy[asyncpg.Record]") -> None:
        if self._pool is None:
            raise AssertionError  # it came from there
        try:
            await self._pool.release(acquired, timeout=_CLEANUP_SECONDS)
        except _BROKEN:
            # asyncpg has thrown the connection away. What the block did, it did: that is the caller's answer.
            _terminate(acquired)
        finally:
            self._taken -= 1
            self._offer()

    @asynccontextmanager
    async def transaction(self, name: str = "transaction") -> AsyncIterator[Connection]:
        """One transaction, committed when the block ends and rolled back when it raises.

        `statement_timeout` follows the deadline inside the server too, so that a statement nobody waits
        for any more does not hold its locks. It travels with BEGIN in one round trip. Raises `RuntimeError`
        when the block swallowed the error of a statement, which undoes the whole transaction.
        """
        with span(f"db {name}", db_system_name="postgresql"):
            async with self.connection() as connection:
                try:
                    await connection.execute(_begin())
                    yield connection
                except BaseException:
                    await uninterrupted(_rollback(connection))
                    raise
                # A commit that was sent must be waited for: cancelling it leaves us not knowing.
                await uninterrupted(_commit(connection))

    async def run(self, name: str, work: Callable[[Connection], Awaitable[T]], *, idempotent: bool = False) -> T:
        """`work(connection)` in a transaction, which is begun again, twice at most, when the server undid it.

        That is after a deadlock or a serialization failure; when the answer to its COMMIT was lost, only if it is
        `idempotent`. Raises what `transaction` and the work do.
        """

        async def once() -> T:
            async with self.transaction(name) as connection:
                return await work(connection)

        return await retry(once, idempotent=idempotent, seconds=deadline.DATABASE_CAP)

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
        if self._tidying is not None:
            self._tidying.cancel()
        self._closing = True  # nothing is kept any more
        while self._hand_on(None):
            pass  # who waits is told by asyncpg
        try:
            async with asyncio.timeout(2):
                kept, self._kept = self._kept, []
                self._give_back(kept)
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()
