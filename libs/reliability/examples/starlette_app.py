"""A Starlette application where a second click, a flood and a slow answer do no harm.

    pip install "holdfast-reliability[asgi,redis]" uvicorn
    REDIS_URL=redis://127.0.0.1:6379/0 uvicorn starlette_app:app

The edge gives every request a correlation id and a deadline, and every error the shape of RFC 9457. Without Redis
the application goes on: the limit is counted in the process, and the second click is let through.
"""

import os

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, Router

from reliability.asgi import Edge
from reliability.dedup import deduplicate
from reliability.rate_limit import Policy, RateLimiter
from reliability.redis import Cache

cache = Cache(os.environ["REDIS_URL"])
limiter = RateLimiter(cache)
per_client = Policy("subscribe", quota=30, window=60)
subscribers: list[str] = []


async def subscribe(request: Request) -> JSONResponse:
    fields = await limiter.check([(per_client, request.client.host if request.client else "unknown")])
    email = (await request.json())["email"]
    async with deduplicate(cache, "subscribe", email):
        subscribers.append(email)
    return JSONResponse({"subscribers": len(subscribers)}, 201, fields)


app = Edge(Router([Route("/subscribe", subscribe, methods=["POST"])]))
