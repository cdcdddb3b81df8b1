"""Pieces that several of Stripe's objects share, and how lists are answered."""

from collections.abc import Mapping, Sequence
from typing import Any

from sandbox.stripe.errors import Json
from sandbox.stripe.forms import Params
from sandbox.stripe.ledger import Call
from sandbox.stripe.store import Condition, Page, field

_ADDRESS = ("city", "country", "line1", "line2", "postal_code", "state")
_RANGES = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}

LIST_PARAMS = "limit starting_after ending_before created"


def address(params: Params | None) -> Json:
    """An address with every field, given or not."""
    if params is not None:
        params.allow(_ADDRESS)
    return {name: params.text(name) if params else None for name in _ADDRESS}


def shipping(params: Params | None) -> Json | None:
    """Where goods go."""
    if params is None:
        return None
    params.allow({"address", "carrier", "name", "phone", "tracking_number"})
    return {
        "address": address(params.child("address")),
        "carrier": params.text("carrier"),
        "name": params.text("name"),
        "phone": params.text("phone"),
        "tracking_number": params.text("tracking_number"),
    }


def billing(params: Params | None) -> Json:
    """Whose card it is."""
    return {
        "address": address(params.child("address") if params else None),
        "email": params.text("email") if params else None,
        "name": params.text("name") if params else None,
        "phone": params.text("phone") if params else None,
        "tax_id": params.text("tax_id") if params else None,
    }


def created_range(params: Params) -> list[Condition]:
    """`created` as a moment or as created[gte] and the like."""
    if isinstance(params.tree().get("created"), str):
        return [Condition("created = ?", (params.integer("created"),))]
    limits = params.child("created")
    if limits is None:
        return []
    limits.allow(_RANGES)
    return [Condition(f"created {_RANGES[name]} ?", (limits.integer(name),)) for name in limits]


def filters(params: Params, fields: Mapping[str, str]) -> list[Condition]:
    """Filters that ask for equality: parameter -> field of the object."""
    return [field(path, value) for name, path in fields.items() if (value := params.text(name))]


def listing(call: Call, kind: str, url: str, conditions: Sequence[Condition] = ()) -> Json:
    """One page of a list."""
    where = [*created_range(call.params), *conditions]
    items, more = call.ledger.store.page(kind, Page.of(call.params), where)
    return envelope(items, url, has_more=more)


def envelope(items: list[Json], url: str, *, has_more: bool = False) -> Json:
    """A list as Stripe answers it."""
    return {"object": "list", "data": items, "has_more": has_more, "url": url}


def changes(before: Json, after: Json) -> Json:
    """What `previous_attributes` of an update event holds."""
    return {key: value for key, value in before.items() if after.get(key) != value}


def assign(item: Json, params: Params, values: Mapping[str, Any]) -> None:
    """Set the fields the call names; the others stay."""
    item.update({name: value for name, value in values.items() if name in params})
