"""`expand[]`: put objects where their ids stand."""

import json
from typing import Any

from sandbox.stripe.errors import Json
from sandbox.stripe.forms import Params
from sandbox.stripe.store import Store, field

_EXPANDABLE = frozenset({
    "data", "customer", "latest_charge", "payment_intent", "payment_method", "charge", "refunds", "line_items",
    "latest_invoice", "confirmation_secret", "payments", "default_payment_method", "product",
})  # fmt: skip
_MAX_DEPTH = 4


def wanted(params: Params) -> list[list[str]]:
    """Read `expand[]`, refusing what can never be expanded before anything runs."""
    paths = [path.split(".") for path in params.texts("expand")]
    for steps in paths:
        if len(steps) > _MAX_DEPTH:
            params.refuse("expand", f"You cannot expand more than {_MAX_DEPTH} levels of a property.")
        bad = next((step for step in steps if step not in _EXPANDABLE), None)
        if bad is not None:
            params.refuse("expand", f"This property cannot be expanded ({bad}).")
    return paths


def expand(store: Store, body: Json, paths: list[list[str]]) -> Json:
    """Fill in every path; ids that lead nowhere stay ids."""
    for steps in paths:
        _fill(store, body, steps)
    return body


def _fill(store: Store, node: Any, steps: list[str]) -> None:
    if isinstance(node, list):
        for item in node:
            _fill(store, item, steps)
        return
    if not isinstance(node, dict):
        return
    if not steps:
        return
    first, *rest = steps
    if first == "line_items" and node.get("object") == "checkout.session":
        node[first] = json.loads(store.note(node["id"]) or "{}").get("line_items")
    elif node.get("object") == "invoice" and first in {"confirmation_secret", "payments"}:
        node[first] = _of_invoice(store, node["id"], first)
    elif isinstance(node.get(first), str):
        node[first] = store.find(node[first]) or node[first]
    if rest:
        inner = node.get(first)
        _fill(store, inner["data"] if isinstance(inner, dict) and inner.get("object") == "list" else inner, rest)


def _of_invoice(store: Store, invoice_id: str, name: str) -> Json | None:
    """What an invoice only shows when it is asked to."""
    links = store.every("invoice_payment", field("invoice", invoice_id))
    if name == "payments":
        url = f"/v1/invoice_payments?invoice={invoice_id}"
        return {"object": "list", "data": links, "has_more": False, "url": url}
    intent = store.get("payment_intent", links[0]["payment"]["payment_intent"]) if links else None
    return {"client_secret": intent["client_secret"], "type": "payment_intent"} if intent else None
