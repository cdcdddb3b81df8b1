"""A whole service in a few lines, for `test_server` to start, ask, and stop.

python -m libs.reliability.tests.a_service serve
"""

import asyncio
import os
from datetime import datetime
from pathlib import Path

from holdfast.common.v1 import access_pb2
from reliability import crash_points, jobs
from reliability.asgi import Answer, Call, Endpoint
from reliability.logging import get_logger
from reliability.migrations import PARTS
from reliability.runtime import Application, Runtime
from reliability.server import main
from reliability.settings import ServiceSettings

_log = get_logger(__name__)


def build(runtime: Runtime[ServiceSettings]) -> Application:
    """Enqueues a job for each request, whose handler logs."""

    async def ask(call: Call) -> Answer:
        crash_points.crash_point("ask.nothing_done")
        async with runtime.database.transaction("ask") as connection:
            await jobs.enqueue(connection, "work", {"text": call.path("text")})
        return Answer({"asked": call.path("text")}, 202)

    async def slow(_call: Call) -> Answer:
        _log.info("slow_started")
        await asyncio.sleep(1)
        return Answer({"slow": True})

    async def work(job: jobs.Job) -> None:
        _log.info("worked", text=job.payload["text"], password="swordfish")

    async def tick(_at: datetime) -> jobs.Run:
        _log.info("ticked")
        return jobs.Run(processed=1)

    async def begin() -> None:
        _log.info("began", database=await runtime.database.ready())

    runtime.worker.handle("work", work)
    runtime.worker.every(3600, "tick", tick)
    runtime.channel("127.0.0.1:1")
    return Application([Endpoint("POST", "/ask/{text}", ask), Endpoint("GET", "/slow", slow)], on_start=begin, rpcs={})


if __name__ == "__main__":
    main(
        "a-service",
        ServiceSettings,
        build,
        migrations=Path(os.environ["MIGRATIONS"]),
        parts=PARTS,
        access=access_pb2.access,
    )
