"""A grpc.aio service where a second click, a flood and a slow answer do no harm, and what calls it.

    pip install "holdfast-reliability[grpc,redis]"
    REDIS_URL=redis://127.0.0.1:6379/0 python grpc_service.py 127.0.0.1:50051

The interceptor gives every call a correlation id and the deadline of its caller, and every error the shape of a
google.rpc.Status. `invoke` sends the deadline and the ids along, tries again what is safe to, and raises what the
service raised. Between services of your own use `rpc.build_server` and `rpc.channel`, which add mutual TLS.
"""

import asyncio
import os
import sys
from typing import Any

import grpc
import grpc.aio
from google.protobuf.wrappers_pb2 import Int64Value, StringValue

from reliability import rpc
from reliability.dedup import deduplicate
from reliability.rate_limit import Policy, RateLimiter
from reliability.redis import Cache

cache = Cache(os.environ["REDIS_URL"])
limiter = RateLimiter(cache)
per_peer = Policy("subscribe", quota=30, window=60)
subscribers: list[str] = []


async def subscribe(request: StringValue, context: Any) -> Int64Value:
    await limiter.check([(per_peer, context.peer().rpartition(":")[0])])
    async with deduplicate(cache, "subscribe", request.value):
        subscribers.append(request.value)
    return Int64Value(value=len(subscribers))


def build(address: str) -> tuple[grpc.aio.Server, int]:
    server = grpc.aio.server(interceptors=[rpc.Edge()])
    method = grpc.unary_unary_rpc_method_handler(subscribe, StringValue.FromString, Int64Value.SerializeToString)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("News", {"Subscribe": method}),))
    return server, server.add_insecure_port(address)


async def call(channel: grpc.aio.Channel, email: str) -> int:
    method: Any = channel.unary_unary(
        "/News/Subscribe", request_serializer=StringValue.SerializeToString, response_deserializer=Int64Value.FromString
    )
    answer: Int64Value = await rpc.invoke(method, StringValue(value=email), step="news.Subscribe", attempts=1)
    return answer.value


async def main(address: str) -> None:
    server, _ = build(address)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
