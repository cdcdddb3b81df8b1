"""A channel that calls with the certificate of now: a second after the files change calls take a new connection."""

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

import grpc.aio

from reliability.deadline import DATABASE_CAP
from reliability.logging import get_logger
from reliability.rpc.tls import Material, Tls

__all__ = ["RenewingChannel"]

_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    # The default backoff grows to two minutes: a restarted peer must be found again at once.
    ("grpc.initial_reconnect_backoff_ms", 100),
    # To gRPC this is how long a connection may take to be made: a handshake on a busy machine needs more than 100 ms.
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.enable_retries", 0),
)
_LOOK_SECONDS: Final = 1.0
_log = get_logger(__name__)


class RenewingChannel(grpc.aio.Channel):
    """Stands for the newest channel to an address. Calls in flight end on the one they began on.

    Calls look at the files once a second at most, by `now`, a monotonic clock in seconds.
    """

    def __init__(self, address: str, tls: Tls, *, now: Callable[[], float] = time.monotonic) -> None:
        self._address = address
        self._tls = tls
        self._now = now
        self._look_at = now() + _LOOK_SECONDS
        self._material: Material = tls.material
        self._inner = self._opened()
        self._closing: set[asyncio.Task[None]] = set()

    def _opened(self) -> grpc.aio.Channel:
        return grpc.aio.secure_channel(self._address, self._material.channel_credentials(), options=_OPTIONS)

    @property
    def current(self) -> grpc.aio.Channel:
        """The channel that a call made now goes over."""
        if (now := self._now()) >= self._look_at:
            self._look_at = now + _LOOK_SECONDS
            self._look()
        return self._inner

    def _look(self) -> None:
        fresh = self._tls.material
        if fresh is self._material:
            return
        _log.info("channel_renewed", address=self._address)
        old, self._material = self._inner, fresh
        self._inner = self._opened()
        # Refuses no call: there is none to come, and those in flight have a deadline within this.
        closing = asyncio.get_running_loop().create_task(old.close(DATABASE_CAP))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    def unary_unary(self, *method: Any, **options: Any) -> Any:
        return self._calls("unary_unary", method, options)

    def unary_stream(self, *method: Any, **options: Any) -> Any:
        return self._calls("unary_stream", method, options)

    def stream_unary(self, *method: Any, **options: Any) -> Any:
        return self._calls("stream_unary", method, options)

    def stream_stream(self, *method: Any, **options: Any) -> Any:
        return self._calls("stream_stream", method, options)

    def _calls(self, kind: str, method: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """What generated stubs ask for; each call finds the channel of its time."""
        made = self._inner, getattr(self._inner, kind)(*method, **options)

        def call(*request: Any, **call_options: Any) -> Any:
            nonlocal made
            channel = self.current
            if made[0] is not channel:
                made = channel, getattr(channel, kind)(*method, **options)
            return made[1](*request, **call_options)

        return call

    async def close(self, grace: float | None = None) -> None:
        """Closes what is open, older channels too. Calls in flight have `grace` seconds to end, None for none."""
        await self._inner.close(grace)
        for closing in list(self._closing):
            closing.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self.current.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self.current.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self.current.channel_ready()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
