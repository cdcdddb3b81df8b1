"""One of the two applications of `post`, on uvicorn: `python -m bench.reliability.serve bare|guarded`.

REDIS_URL says where Valkey is. Prints its port and serves until it is terminated.
"""

import os
import socket
import sys

import uvicorn
from redis.asyncio import Redis

from bench.reliability.post import bare, guarded
from bench.reliability.telemetry import SAMPLED, observed
from reliability.redis import Cache

if __name__ == "__main__":
    url = os.environ["REDIS_URL"]
    app = guarded(Cache(url)) if sys.argv[1] == "guarded" else bare(Redis.from_url(url))
    with socket.create_server(("127.0.0.1", 0)) as listening, observed(SAMPLED):
        print(listening.getsockname()[1], flush=True)
        uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off")).run([listening])
