"""Composition: settings in, an ASGI application out."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

import httpx
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.stripe import (
    catalogue,
    charges,
    checkout_sessions,
    customers,
    disputes,
    events,
    ids,
    invoice_payments,
    invoices,
    page,
    payment_intents,
    payment_methods,
    refunds,
    subscriptions,
    test_clocks,
)
from sandbox.stripe.api import Api, base_url, error_response
from sandbox.stripe.control import Control
from sandbox.stripe.errors import NotFound
from sandbox.stripe.settings import Settings
from sandbox.stripe.store import Store
from sandbox.stripe.webhooks import Dispatcher

OPERATIONS = (
    *customers.OPERATIONS,
    *payment_methods.OPERATIONS,
    *payment_intents.OPERATIONS,
    *charges.OPERATIONS,
    *refunds.OPERATIONS,
    *checkout_sessions.OPERATIONS,
    *disputes.OPERATIONS,
    *invoice_payments.OPERATIONS,
    *catalogue.OPERATIONS,
    *subscriptions.OPERATIONS,
    *invoices.OPERATIONS,
    *test_clocks.OPERATIONS,
    *events.OPERATIONS,
)


def create_app(settings: Settings, clock: Callable[[], float] = time.time) -> Starlette:
    """The sandbox; its file is opened here, its dispatcher runs from start-up to shutdown."""
    store = Store(settings.state_file)
    client = httpx.AsyncClient(timeout=None, trust_env=False)  # noqa: S113 - the dispatcher has one  # nosec B113
    webhooks = settings.webhook_events if settings.webhook_url else ()
    dispatcher = Dispatcher(store, settings.webhook_url, settings.webhook_secrets, webhooks, clock, client)
    api = Api(store, api_key=settings.api_key, webhooks=webhooks, clock=clock, committed=dispatcher.wake)
    control = Control(store, dispatcher, clock, webhooks=webhooks)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        del app
        task = asyncio.create_task(dispatcher.run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await client.aclose()
            store.close()

    return Starlette(
        routes=[
            Route("/livez", _alive, methods=["GET"]),
            *api.routes(OPERATIONS),
            *control.routes(),
            *page.routes(store, control),
        ],
        exception_handlers={HTTPException: _unknown},
        lifespan=lifespan,
    )


async def _alive(request: Request) -> Response:
    del request
    return JSONResponse({"status": "ok"})


async def _unknown(request: Request, error: Exception) -> Response:
    """Stripe answers 404 to a method that an address does not have, too."""
    del error
    message = (
        f"Unrecognized request URL ({request.method}: {request.url.path}). See the README for what this stand-in has."
    )
    return error_response(NotFound(message), ids.new("req"), base_url(request))
