"""aws-lambda-powertools' idempotency over Redis.

It imports boto3 for a store that is not used here, and boto3 wants an older python-dateutil than our lock has: what is
imported stands empty.
"""

import sys
import warnings
from collections.abc import Callable
from typing import Any
from unittest.mock import MagicMock

import redis

from bench.reliability.harness import Contender, Role, repeated
from bench.reliability.stage import Stage, named

__all__ = ["powertools"]


def powertools(stage: Stage, order: Callable[[], dict[str, Any]]) -> Contender:
    """A function that runs once per order."""
    for absent in (
        "boto3",
        "boto3.dynamodb",
        "boto3.dynamodb.types",
        "botocore",
        "botocore.config",
        "botocore.exceptions",
    ):
        sys.modules.setdefault(absent, MagicMock())
    from aws_lambda_powertools.utilities.idempotency import IdempotencyConfig, idempotent_function
    from aws_lambda_powertools.utilities.idempotency.persistence.redis import RedisCachePersistenceLayer

    warnings.filterwarnings("ignore", "Couldn't determine the remaining time left")  # we run in no Lambda
    client = redis.Redis.from_url(stage.redis)
    stage.closing.callback(client.close)
    pay = idempotent_function(
        lambda *, order: {"paid": order["id"]},
        data_keyword_argument="order",
        config=IdempotencyConfig(expires_after_seconds=60),
        persistence_store=RedisCachePersistenceLayer(client=client),
        key_prefix="bench",
    )

    async def call() -> None:
        pay(order=order())

    return Contender(named("aws-lambda-powertools"), Role.PEER, repeated(call))
