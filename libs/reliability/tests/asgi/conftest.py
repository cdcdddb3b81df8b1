"""Fixtures of the edge."""

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from libs.reliability.tests.asgi.support import SITE, Issuer, Shop
from reliability.asgi import Perimeter, authenticator
from reliability.health import Readiness
from reliability.runtime import Application
from reliability.tokens import TokenVerifier


@pytest.fixture
def shop() -> Shop:
    """Handlers that answer."""
    return Shop()


@pytest.fixture
def issuer() -> Issuer:
    """With one key."""
    return Issuer()


@pytest_asyncio.fixture(loop_scope="session")
async def client(shop: Shop, issuer: Issuer) -> AsyncIterator[httpx.AsyncClient]:
    """A browser, or anything else."""
    application = Application(shop.table(), authenticate=authenticator(TokenVerifier(issuer.fetch), SITE))
    edge = application.asgi(Readiness({}), request_seconds=8.0, perimeter=Perimeter(SITE))
    transport = httpx.ASGITransport(edge, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=SITE) as client:
        yield client
