"""A shop with one route of each kind, and somebody who signs tokens for it."""

import time
from collections.abc import Callable
from typing import Any

import httpx
import orjson
from joserfc import jwt
from joserfc.jwk import KeySet, OKPKey
from pydantic import BaseModel, Field
from starlette.responses import Response

from reliability import context, idempotency
from reliability.asgi import Access, Answer, Call, Endpoint, KeyRule
from reliability.context import Principal
from reliability.errors import Unavailable
from reliability.tokens import ALGORITHM, AUDIENCE, ISSUER

JSON = {"content-type": "application/json"}
SITE = "https://shop.test"


class Order(BaseModel):
    """What is asked."""

    name: str
    pieces: int = Field(default=1, ge=1)


class Page(BaseModel):
    """Which part of it."""

    limit: int = Field(default=10, le=100)


class Shop:
    """Handlers, and what they were called with."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.keys: list[idempotency.Key | None] = []
        self.who: list[Principal | None] = []
        self.answer: Callable[[Call], Answer | Response] = lambda _call: Answer({"ok": True})

    async def handle(self, call: Call) -> Answer | Response:
        """Any route."""
        self.calls.append(call)
        self.keys.append(idempotency.current.get())
        self.who.append(context.principal.get())
        return self.answer(call)

    def table(self) -> list[Endpoint]:
        """One route of each kind."""
        return [
            Endpoint("GET", "/items/{name}", self.handle, query=Page),
            Endpoint("POST", "/orders", self.handle, body=Order, key=KeyRule.REQUIRED, status=201),
            Endpoint("POST", "/notes", self.handle, body=Order),
            Endpoint("POST", "/raw", self.handle),
            Endpoint("POST", "/hooks", self.handle, access=Access.SIGNED, key=KeyRule.IGNORED),
            Endpoint("GET", "/me", self.handle, access=Access.CUSTOMER),
            Endpoint("PUT", "/me", self.handle, access=Access.CUSTOMER, body=Order),
            Endpoint("GET", "/staff", self.handle, access=Access.STAFF),
            Endpoint("GET", "/staff/refunds", self.handle, access=Access.STAFF, permission="refund"),
        ]


class Issuer:
    """Signs tokens as accounts does."""

    def __init__(self) -> None:
        self.key = OKPKey.generate_key("Ed25519", parameters={"kid": "one"})
        self.fetched = 0
        self.away = False

    async def fetch(self) -> str:
        """The public keys."""
        self.fetched += 1
        if self.away:
            raise Unavailable
        return orjson.dumps(KeySet([self.key]).as_dict(private=False)).decode()

    def sign(self, **claims: Any) -> str:
        """A token that is good for a minute, but for what is said."""
        basic = {"iss": ISSUER, "aud": AUDIENCE, "sub": "u-1", "exp": int(time.time()) + 60}
        header = {"alg": ALGORITHM, "kid": self.key.kid}
        return jwt.encode(header, basic | claims, self.key, algorithms=[ALGORITHM])


def code(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of a problem; each carries the correlation id in its body too."""
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    document = answer.json()
    assert document["correlation_id"] == answer.headers["x-correlation-id"]
    assert document["type"] == f"urn:holdfast:problem:{document['code']}"
    assert document["status"] == answer.status_code
    assert ("errors" in document) == (answer.status_code == 422)
    return answer.status_code, document["code"]
