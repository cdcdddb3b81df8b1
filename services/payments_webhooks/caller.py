"""Who is asking over HTTP."""

from reliability.context import Principal, principal
from reliability.errors import Unauthenticated
from reliability.ids import is_id

__all__ = ["signed_in"]


def signed_in() -> Principal:
    """The customer of the request; the edge has let nobody else in. Raises `Unauthenticated`."""
    who = principal.get()
    if who is None or not is_id(who.id):
        raise Unauthenticated
    return who
