"""What an endpoint is: a method, a path, the function that runs, and the parameters it knows."""

from collections.abc import Callable
from dataclasses import dataclass

from sandbox.stripe.errors import Json
from sandbox.stripe.ledger import Call


@dataclass(frozen=True, slots=True)
class Operation:
    """One endpoint of the API."""

    method: str
    path: str
    run: Callable[[Call], Json]
    accepts: frozenset[str]
