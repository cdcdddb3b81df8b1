"""A shop that promises nothing, a process a part: `python -m bench.floor_shop orders|payments|catalog|notifications`.

The same requests, the same services, the same RPCs over mutual TLS, the same writes and the same mail as a whole
purchase has here, out of the same libraries. And nothing else: no retry and nothing against one, no job, no deadline,
no limit, no check of what is asked, no span, no log. Whatever fails is lost, and whatever comes twice is done twice.

Prints a line when it serves, until it is terminated. The environment says where everything is: see `bench.floor`.
"""

import asyncio
import hashlib
import hmac
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import aiosmtplib
import asyncpg
import grpc
import grpc.aio
import orjson
import stripe
import uvicorn
import uvloop
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, Router

from deploy.local.ports import HOST
from reliability.server import settle
from services.payments_webhooks.stripe_api.transport import Transport

__all__ = ["FLOOR_TABLES"]

FLOOR_TABLES: Final = """
CREATE TABLE variants (id text PRIMARY KEY, on_hand int NOT NULL);
CREATE TABLE holds (id text PRIMARY KEY, variant text NOT NULL, state text NOT NULL DEFAULT 'held');
CREATE TABLE carts (id text PRIMARY KEY, variant text NOT NULL, pieces int NOT NULL);
CREATE TABLE orders (id text PRIMARY KEY, email text NOT NULL, total int NOT NULL, address jsonb NOT NULL,
                     payment_intent_id text, state text NOT NULL DEFAULT 'pending');
CREATE TABLE payments (id text PRIMARY KEY, amount int NOT NULL, payment_intent_id text,
                       state text NOT NULL DEFAULT 'open');
CREATE INDEX ON payments (payment_intent_id);
CREATE TABLE events (id text PRIMARY KEY, body bytea NOT NULL);
CREATE TABLE mails (id text PRIMARY KEY, email text NOT NULL, state text NOT NULL DEFAULT 'queued')
"""
_CONNECTIONS: Final = 8
_KEEP_ALIVE: Final = 75
_PRICE: Final = 1500
Rpc = Callable[..., Awaitable[dict[str, Any]]]


class Part:
    """What each of the four has: connections to the database, and to the others."""

    rpcs: Mapping[str, Rpc] = {}
    routes: tuple[Route, ...] = ()

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", environment: Mapping[str, str]) -> None:
        self.environment, self.pool = environment, pool
        files = ("TLS_CA_FILE", "TLS_KEY_FILE", "TLS_CERT_FILE")
        self._root, self._key, self._chain = (Path(environment[file]).read_bytes() for file in files)

    def peer(self, name: str, rpc: str) -> Rpc:
        """How another part is called."""
        credentials = grpc.ssl_channel_credentials(self._root, self._key, self._chain)
        channel = grpc.aio.secure_channel(self.environment[f"{name.upper()}_GRPC"], credentials)
        send: Any = channel.unary_unary(f"/floor.{name}/{rpc}")

        async def call(**asked: Any) -> dict[str, Any]:
            answer: dict[str, Any] = orjson.loads(await send(orjson.dumps(asked)))
            return answer

        return call

    async def serve(self, name: str) -> None:
        """Until it is terminated."""
        server = grpc.aio.server()
        handlers: dict[str, Any] = {
            rpc: grpc.unary_unary_rpc_method_handler(_handler(does)) for rpc, does in self.rpcs.items()
        }
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(f"floor.{name}", handlers)])
        credentials = grpc.ssl_server_credentials([(self._key, self._chain)], self._root, require_client_auth=True)
        server.add_secure_port(f"{HOST}:{self.environment['GRPC_PORT']}", credentials)
        await server.start()
        settle()
        config = uvicorn.Config(
            Router([*self.routes, Route("/readyz", _ready)]),
            host=HOST,
            port=int(self.environment["HTTP_PORT"]),
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE,
        )
        print("ready", flush=True)
        await uvicorn.Server(config).serve()


class Catalog(Part):
    """Stock, which is taken twice when it is asked for twice."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.rpcs = {"hold": self._hold, "commit": self._commit}

    async def _hold(self, order: str, variant: str) -> dict[str, Any]:
        await self.pool.execute("INSERT INTO holds SELECT $1, id FROM variants WHERE id = $2", order, variant)
        return {"price": _PRICE}

    async def _commit(self, order: str) -> dict[str, Any]:
        await self.pool.execute(
            """WITH held AS (UPDATE holds SET state = 'sold' WHERE id = $1 RETURNING variant)
               UPDATE variants SET on_hand = on_hand - 1 FROM held WHERE variants.id = held.variant""",
            order,
        )
        return {}


class Orders(Part):
    """Carts, orders, and what follows from a payment."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self._hold, self._commit = self.peer("catalog", "hold"), self.peer("catalog", "commit")
        self._pay, self._mail = self.peer("payments", "pay"), self.peer("notifications", "send")
        self.rpcs = {"paid": self._paid}
        self.routes = (
            Route("/api/cart/items", self._add, methods=["POST"]),
            Route("/api/checkout", self._checkout, methods=["POST"]),
        )

    async def _add(self, request: Request) -> JSONResponse:
        item = orjson.loads(await request.body())
        cart, variant, pieces = request.cookies.get("cart") or str(uuid4()), item["variant_id"], item["quantity"]
        await self.pool.execute(
            "INSERT INTO carts VALUES ($1, $2, $3) ON CONFLICT (id) DO UPDATE SET pieces = carts.pieces + $3",
            cart,
            variant,
            pieces,
        )
        answer = JSONResponse({"id": cart, "items": [{"variant_id": variant, "quantity": pieces}]})
        answer.set_cookie("cart", cart)
        return answer

    async def _checkout(self, request: Request) -> JSONResponse:
        asked, order = orjson.loads(await request.body()), str(uuid4())
        variant = await self.pool.fetchval("SELECT variant FROM carts WHERE id = $1", request.cookies["cart"])
        total = (await self._hold(order=order, variant=variant))["price"]
        address = orjson.dumps(asked["shipping_address"]).decode()
        await self.pool.execute("INSERT INTO orders VALUES ($1, $2, $3, $4)", order, asked["email"], total, address)
        payment = await self._pay(order=order, amount=total)
        await self.pool.execute(
            "UPDATE orders SET payment_intent_id = $2 WHERE id = $1", order, payment["payment_intent_id"]
        )
        return JSONResponse({"id": order, "payment": payment}, 201)

    async def _paid(self, order: str) -> dict[str, Any]:
        email = await self.pool.fetchval("UPDATE orders SET state = 'paid' WHERE id = $1 RETURNING email", order)
        await self._commit(order=order)
        await self._mail(order=order, email=email)
        await self.pool.execute("UPDATE orders SET state = 'settled' WHERE id = $1", order)
        return {}


class Payments(Part):
    """Intents at Stripe, and what its webhooks tell."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self._paid = self.peer("orders", "paid")
        api = self.environment["STRIPE_API_BASE"]
        self._stripe = stripe.StripeClient(
            self.environment["STRIPE_API_KEY"], base_addresses={"api": api}, http_client=Transport(8.0)
        )
        self.rpcs = {"pay": self._pay}
        self.routes = (Route("/api/stripe/webhook", self._webhook, methods=["POST"]),)

    async def _pay(self, order: str, amount: int) -> dict[str, Any]:
        await self.pool.execute("INSERT INTO payments VALUES ($1, $2)", order, amount)
        intent = await self._stripe.v1.payment_intents.create_async(
            {
                "amount": amount,
                "currency": "usd",
                "automatic_payment_methods": {"enabled": True},
                "metadata": {"order_id": order},
            }
        )
        await self.pool.execute("UPDATE payments SET payment_intent_id = $2 WHERE id = $1", order, intent.id)
        return {"payment_intent_id": intent.id, "client_secret": intent.client_secret}

    async def _webhook(self, request: Request) -> JSONResponse:
        body = await request.body()
        parts = dict(part.split("=", 1) for part in request.headers["stripe-signature"].split(","))
        secret = self.environment["STRIPE_WEBHOOK_SECRET"].encode()
        expected = hmac.new(secret, f"{parts['t']}.".encode() + body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected, parts["v1"]):
            return JSONResponse({"received": False}, 400)
        event = orjson.loads(body)
        await self.pool.execute("INSERT INTO events VALUES ($1, $2) ON CONFLICT DO NOTHING", event["id"], body)
        if event["type"] == "payment_intent.succeeded":
            intent = event["data"]["object"]
            await self.pool.execute("UPDATE payments SET state = 'paid' WHERE payment_intent_id = $1", intent["id"])
            await self._paid(order=intent["metadata"]["order_id"])
        return JSONResponse({"received": True})


class Notifications(Part):
    """A mail in two forms, over a connection that is kept."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self._smtp = aiosmtplib.SMTP(hostname=HOST, port=int(self.environment["SMTP_PORT"]))
        self._one_at_a_time = asyncio.Lock()
        self.rpcs = {"send": self._send}

    async def _send(self, order: str, email: str) -> dict[str, Any]:
        await self.pool.execute("INSERT INTO mails VALUES ($1, $2)", order, email)
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = "shop@holdfast.example", email, "Thank you for your order"
        message.set_content("One piece.\n" * 20)
        message.add_alternative("<p>One piece.</p>\n" * 20, subtype="html")
        async with self._one_at_a_time:
            if not self._smtp.is_connected:
                await self._smtp.connect()
            await self._smtp.send_message(message)
        await self.pool.execute("UPDATE mails SET state = 'sent' WHERE id = $1", order)
        return {}


def _handler(does: Rpc) -> Callable[[bytes, Any], Awaitable[bytes]]:
    async def handle(asked: bytes, _context: Any) -> bytes:
        return orjson.dumps(await does(**orjson.loads(asked)))

    return handle


async def _ready(_request: Request) -> JSONResponse:
    return JSONResponse({"status": "ok"})


async def _as_it_is(connection: Any) -> None:
    """For a connection that is given back: asyncpg's own way costs a round trip."""


async def _serve(name: str) -> None:
    kinds: dict[str, type[Part]] = {
        "catalog": Catalog,
        "notifications": Notifications,
        "orders": Orders,
        "payments": Payments,
    }
    size = _CONNECTIONS
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=size, max_size=size, reset=_as_it_is) as pool:
        await kinds[name](pool, os.environ).serve(name)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(sys.argv[1]))
