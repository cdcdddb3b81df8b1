"""Tokens taken back before their end: known everywhere within seconds, with Redis or without."""

from collections.abc import Mapping

import pytest

from libs.reliability.tests.support import DistantCache
from reliability import revocation
from reliability.errors import Unavailable
from reliability.redis import Cache
from reliability.revocation import Revocations
from reliability.testing import FakeClock


class Issuer:
    """Answers what is revoked, and counts how often it is asked."""

    def __init__(self) -> None:
        self.revoked: dict[str, float] = {}
        self.asked = 0
        self.away = False

    async def fetch(self) -> Mapping[str, float]:
        self.asked += 1
        if self.away:
            raise Unavailable
        return dict(self.revoked)


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


def claims(session: str = "s1", account: str = "a1", issued: int = 1000) -> dict[str, object]:
    return {"sid": session, "sub": account, "iat": issued}


async def test_a_session_is_over_within_the_age_of_a_copy(issuer: Issuer) -> None:
    """A copy is believed for two seconds, so the end of a session is known after two."""
    clock = FakeClock()
    revocations = Revocations(issuer.fetch, clock=clock)
    assert not await revocations.cover(claims())
    issuer.revoked[revocation.session("s1")] = 1500.0
    assert not await revocations.cover(claims())
    clock.advance(2.0)
    assert await revocations.cover(claims())
    assert not await revocations.cover(claims(session="s2"))
    assert issuer.asked == 2


@pytest.mark.parametrize(("issued", "over"), [(1499, True), (1500, True), (1501, False)])
async def test_of_an_account_what_was_issued_before_is_over(issuer: Issuer, issued: int, over: bool) -> None:
    """Whoever signs in again afterwards is not kept out."""
    issuer.revoked[revocation.account("a1")] = 1500.7
    revocations = Revocations(issuer.fetch)
    assert await revocations.cover(claims(issued=issued)) is over
    assert not await revocations.cover(claims(account="a2", issued=issued))


async def test_the_list_in_redis_spares_the_issuer(issuer: Issuer, cache: Cache) -> None:
    """A whole list is believed; what is older than asked for is taken off it."""
    await revocation.publish(cache, {"session:old": 10.0}, since=0.0)
    await revocation.publish(cache, {"session:s1": 1500.0}, since=100.0)
    revocations = Revocations(issuer.fetch, cache)
    assert await revocations.cover(claims())
    assert not await revocations.cover(claims(session="old"))
    assert issuer.asked == 0


async def test_a_redis_that_lost_the_list_is_not_believed(issuer: Issuer, cache: Cache) -> None:
    """Restarted empty, or filled by somebody without the mark: the issuer is asked."""
    issuer.revoked["session:s1"] = 1500.0
    await cache.client.zadd("revocations", {"session:s2": 1.0})
    assert await Revocations(issuer.fetch, cache).cover(claims())
    assert issuer.asked == 1


async def test_without_redis_the_issuer_is_asked(issuer: Issuer, distant_cache: DistantCache) -> None:
    """Nobody is let in longer because a cache is away."""
    issuer.revoked["session:s1"] = 1500.0
    distant_cache.proxy.refuse()
    assert await Revocations(issuer.fetch, distant_cache.cache).cover(claims())


async def test_while_all_are_away_the_copy_decides(issuer: Issuer) -> None:
    """What was known stays known, and the issuer is asked once every two seconds, not at every request."""
    clock = FakeClock()
    revocations = Revocations(issuer.fetch, clock=clock)
    issuer.revoked["session:s1"] = 1500.0
    assert await revocations.cover(claims())
    issuer.away = True
    clock.advance(2.0)
    for _ in range(3):
        assert await revocations.cover(claims())
        assert not await revocations.cover(claims(session="s2"))
    assert issuer.asked == 2
