"""What every service is made of, and what it hands over to be served."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import grpc.aio
from google.protobuf.descriptor import ServiceDescriptor
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Route

from reliability import rpc
from reliability.asgi import Authenticate, Edge, Endpoint, Perimeter, routes
from reliability.bulkhead import Bulkhead
from reliability.health import Readiness, health_routes
from reliability.jobs import Worker
from reliability.machine_tokens import MachineVerifier
from reliability.postgres import Database
from reliability.redis import Cache
from reliability.settings import ServiceSettings

__all__ = ["Application", "Runtime"]

S = TypeVar("S", bound=ServiceSettings)


class Runtime(Generic[S]):
    """The connections of one process. A composition root takes what it needs from here."""

    def __init__(self, name: str, settings: S) -> None:
        self.name = name
        self.settings = settings
        self.tls = rpc.Tls(settings.tls_ca_file, settings.tls_cert_file, settings.tls_key_file)
        self.database = Database(str(settings.database_url), size=settings.database_pool_size, application=name)
        self.cache = Cache(str(settings.redis_url))
        self.worker = Worker(
            self.database,
            concurrency=settings.worker_concurrency,
            poll=settings.worker_poll_seconds,
            lease=settings.worker_lease_seconds,
            drain=settings.drain_seconds,
        )
        self.readiness = Readiness({"postgres": self.database.ready}, {"redis": self.cache.ready})
        self.perimeter = Perimeter(
            settings.public_url, settings.cors_origins, MachineVerifier(settings.machine_issuers, self.database)
        )
        # One for both edges: they share the processor and the pool.
        self.bulkhead = Bulkhead("process", limit=settings.concurrency_limit)
        self._channels: list[grpc.aio.Channel] = []

    def channel(self, address: str) -> grpc.aio.Channel:
        """A channel to another service, closed with the process."""
        channel = rpc.channel(address, self.tls)
        self._channels.append(channel)
        return channel

    async def close(self) -> None:
        """Closes every connection."""
        for channel in self._channels:
            await channel.close()
        await self.cache.close()
        await self.database.close()


@dataclass(frozen=True, slots=True)
class Application:
    """A service as its composition root made it: two edges over one core."""

    endpoints: Iterable[Endpoint] = ()
    rpcs: Mapping[ServiceDescriptor, Callable[[grpc.aio.Server], None]] = field(default_factory=dict)
    authenticate: Authenticate | None = None
    on_start: Callable[[], Awaitable[None]] | None = None
    raw_routes: Iterable[BaseRoute] = ()
    """Routes that are no part of the JSON API and read their bodies themselves."""

    def asgi(
        self,
        readiness: Readiness,
        *,
        request_seconds: float,
        bulkhead: Bulkhead | None = None,
        perimeter: Perimeter | None = None,
    ) -> Edge:
        """The whole HTTP side of the service.

        The bare router is wrapped: Starlette's own error middlewares would answer before the edge sees the error.
        """
        table = routes(self.endpoints, self.authenticate, perimeter)
        application = Starlette(routes=[*health_routes(readiness), *self.raw_routes, *table])
        application.router.redirect_slashes = False  # another path is another route, and here it is none
        return Edge(_Routed(application), request_seconds=request_seconds, bulkhead=bulkhead, perimeter=perimeter)


class _Routed:
    """A Starlette application's routes, with `app` in scope so that unknown paths raise instead of answering.

    A path without parameters is looked up. The rest is Starlette's router, which tries one pattern after the other.
    """

    def __init__(self, application: Starlette) -> None:
        self._application = application
        self._literal = {
            route.path: route.app
            for route in application.routes
            # With methods of its own it has more to say than where it leads.
            if isinstance(route, Route) and not route.param_convertors and route.methods is None
        }

    async def __call__(self, scope, receive, send) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        scope["app"] = self._application
        literal = self._literal.get(scope["path"])
        if literal is None:
            await self._application.router(scope, receive, send)
        else:
            await literal(scope, receive, send)
