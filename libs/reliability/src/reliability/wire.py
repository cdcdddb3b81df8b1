"""One connection to Redis that everybody's calls share: sent as they come, answered in that order.

redis-py takes a connection from a pool for each call, waits on it, and times, counts and retries around it; that costs
more than Redis does. Here a call is a write and a future. redis-py still opens the connection: addresses, TLS and
logging in are its business.

A call that nobody waits for any more leaves its place, so that the next answer does not become somebody else's.
"""

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable
from typing import Any, Final, cast

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, NoScriptError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from reliability.errors import DeadlineExceeded

__all__ = ["Command", "Wire"]

Command = tuple[str | bytes | int | float, ...]
"""A command's name and its arguments; texts go as UTF-8."""

_INCOMPLETE: Final = object()
# A loop that was busy for long sees the alarm before it sees what has arrived meanwhile.
_GRACE: Final = 0.005


class Wire:
    """Sends commands; connects at the first one, and again when the connection is gone. Belongs to one event loop.

    `connection` makes one of redis-py's that is not connected yet. A server that is owed an answer and says nothing
    at all for `silence` seconds is given up, with everything that waits for it.
    """

    def __init__(self, connection: Callable[[], AbstractConnection], silence: float) -> None:
        self._connection = connection
        self._silence = silence
        self._line: _Line | None = None
        self._connecting: asyncio.Task[_Line] | None = None

    async def call(self, step: str, seconds: float, *commands: Command) -> list[Any]:
        """What is answered to each command, in at most `seconds`; an error that Redis answers is among the answers.

        Raises `DeadlineExceeded` with the step, or redis-py's errors of connecting. Whether a command that failed
        was carried out is not known.
        """
        loop = asyncio.get_running_loop()
        line = self._line
        if line is None or line.lost:
            started = loop.time()
            line = await self._connected(step, seconds)
            seconds -= loop.time() - started
        answers = line.send(commands)
        alarm = loop.call_later(seconds, _expire, answers, step)
        try:
            return await answers
        finally:
            alarm.cancel()

    async def close(self) -> None:
        """Closes the connection; the next call makes another."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self._line is not None:
            self._line.drop(RedisConnectionError("closed"))
            self._line = None

    async def _connected(self, step: str, seconds: float) -> "_Line":
        """The line that all who ask at the same time wait for. Nobody's giving up takes it from the others."""
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.create_task(self._connect(), context=contextvars.Context())
            self._connecting.add_done_callback(_look)
        scope = asyncio.timeout(seconds)
        try:
            async with scope:
                return await asyncio.shield(self._connecting)
        except TimeoutError:
            if scope.expired():
                raise DeadlineExceeded(step) from None
            raise

    async def _connect(self) -> "_Line":
        connection = self._connection()
        await connection.connect()  # type: ignore[no-untyped-call]
        self._line = _Line(connection, self._silence)
        return self._line


class _Line(asyncio.Protocol):
    """A connection that works, until it is lost."""

    def __init__(self, connection: AbstractConnection, silence: float) -> None:
        self.lost = False
        self._loop = asyncio.get_running_loop()
        self._silence = silence
        self._waiting: deque[tuple[asyncio.Future[list[Any]], list[Any], int]] = deque()
        self._unsent: list[bytes] = []
        self._flushing = False
        self._heard = 0.0
        self._alarm: asyncio.TimerHandle | None = None
        self._replies = hiredis.Reader(protocolError=InvalidResponse, replyError=_error, notEnoughData=_INCOMPLETE)
        self._connection = connection
        writer = connection._writer  # noqa: SLF001 - redis-py has no other way to hand its socket on
        assert writer is not None  # it is connected
        self._transport = cast("asyncio.Transport", writer.transport)  # uvloop's is none by name
        self._transport.set_protocol(self)

    def send(self, commands: tuple[Command, ...]) -> "asyncio.Future[list[Any]]":
        """A future of what will be answered."""
        answers: asyncio.Future[list[Any]] = self._loop.create_future()
        alone = not self._waiting
        self._waiting.append((answers, [], len(commands)))
        self._unsent.extend(map(_packed, commands))
        if alone:
            self._heard = self._loop.time()
        if not self._flushing:  # the others of this turn come along
            self._flushing = True
            self._loop.call_soon(self._flush)
        if self._alarm is None:
            self._alarm = self._loop.call_later(self._silence, self._listen)
        return answers

    def _flush(self) -> None:
        self._flushing = False
        if not self.lost:
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()

    def data_received(self, data: bytes) -> None:
        """Hands each answer to whom it belongs."""
        self._heard = self._loop.time()
        replies = self._replies
        replies.feed(data)
        try:
            while (reply := replies.gets()) is not _INCOMPLETE:
                if not isinstance(reply, hiredis.PushNotification):
                    self._answer(reply)
        except InvalidResponse as error:
            self.drop(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """Told by the loop, also after `drop`."""
        self.drop(RedisConnectionError("the connection was closed") if exc is None else exc)

    def drop(self, error: Exception) -> None:
        """Fails everything that waits, and closes."""
        if self.lost:
            return
        self.lost = True
        if self._alarm is not None:
            self._alarm.cancel()
        self._transport.abort()
        # Or it would warn of an unclosed connection.
        self._connection._close()  # type: ignore[no-untyped-call]  # noqa: SLF001
        for answers, _, _ in self._waiting:
            if not answers.done():
                answers.set_exception(error)
        self._waiting.clear()

    def _answer(self, reply: Any) -> None:
        if not self._waiting:
            raise InvalidResponse("an answer nobody asked for")
        answers, got, count = self._waiting[0]
        got.append(reply)
        if len(got) == count:
            self._waiting.popleft()
            if not answers.done():
                answers.set_result(got)

    def _listen(self, last: float | None = None) -> None:
        """Gives the server up when it owes an answer and has said nothing for too long."""
        self._alarm = None
        if not self._waiting:
            return
        rest = self._heard + self._silence - self._loop.time()
        if rest > 0:
            self._alarm = self._loop.call_later(rest, self._listen)
        elif last != self._heard:
            self._alarm = self._loop.call_later(_GRACE, self._listen, self._heard)
        else:
            self.drop(RedisTimeoutError("no answer in time"))


def _packed(command: Command) -> bytes:
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type] # its stub says tuples of one
    return packed


def _error(message: str) -> ResponseError:
    return NoScriptError(message) if message.startswith("NOSCRIPT") else ResponseError(message)


def _expire(answers: "asyncio.Future[list[Any]]", step: str) -> None:
    if not answers.done():
        answers.set_exception(DeadlineExceeded(step))


def _look(connecting: "asyncio.Task[_Line]") -> None:
    """Those who waited may all have gone: then nobody else looks at the error."""
    if not connecting.cancelled():
        connecting.exception()
