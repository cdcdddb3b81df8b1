"""What a process says of itself."""

import asyncio

from libs.reliability.tests.support import answer_of
from reliability.health import Readiness
from reliability.runtime import Application


async def test_ready_is_what_is_needed_and_not_draining() -> None:
    """What one can do without is degraded; a check that hangs or raises is one that failed."""

    async def up() -> bool:
        return True

    async def hangs() -> bool:
        await asyncio.Event().wait()
        return True

    async def breaks() -> bool:
        raise OSError

    readiness = Readiness({"postgres": up}, {"redis": breaks})
    application = Application()
    answers = [await answer_of(application, "GET", path, readiness=readiness) for path in ("/livez", "/readyz")]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[1].json() == {"ready": True, "checks": {"postgres": "up", "redis": "degraded"}}
    readiness.draining = True
    assert (await answer_of(application, "GET", "/readyz", readiness=readiness)).status_code == 503
    down = await answer_of(application, "GET", "/readyz", readiness=Readiness({"postgres": hangs}))
    assert (down.status_code, down.json()["checks"]) == (503, {"postgres": "down"})
    metrics = await answer_of(application, "GET", "/metrics", readiness=readiness)
    assert metrics.status_code == 200
