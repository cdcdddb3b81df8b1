"""Fixtures of the limits."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from libs.reliability.tests.rate_limit.support import NOWHERE, Decisions
from reliability.redis import Cache


@pytest.fixture
def decisions(monkeypatch: pytest.MonkeyPatch) -> Decisions:
    return Decisions(monkeypatch)


@pytest_asyncio.fixture(loop_scope="session")
async def away() -> AsyncIterator[Cache]:
    """A cache that is away."""
    away = Cache(NOWHERE)
    yield away
    await away.close()
