"""The ledger in sums, for invariants: what was charged and given back, by intent and by order."""

from collections import defaultdict
from typing import Any

from sandbox.stripe.errors import Json
from sandbox.stripe.refunds import GIVEN_BACK
from sandbox.stripe.store import Store


def _account(**more: Any) -> Json:
    return {**more, "charges": 0, "charged": 0, "refunds": 0, "refunded": 0, "failed_charges": 0}


def totals(store: Store) -> Json:
    """Every amount is in minor units; a charge counts once it is captured, a refund unless it failed."""
    intents = {
        intent["id"]: _account(
            order_id=intent["metadata"].get("order_id"),
            status=intent["status"],
            amount=intent["amount"],
            currency=intent["currency"],
        )
        for intent in store.every("payment_intent")
    }
    for charge in store.every("charge"):
        account = intents[charge["payment_intent"]]
        if charge["captured"]:
            account["charges"] += 1
            account["charged"] += charge["amount_captured"]
        elif charge["status"] == "failed":
            account["failed_charges"] += 1
    for refund in store.every("refund"):
        if refund["status"] in GIVEN_BACK:
            intents[refund["payment_intent"]]["refunds"] += 1
            intents[refund["payment_intent"]]["refunded"] += refund["amount"]
    return {
        "charges": _sum(intents, "charges", "charged"),
        "refunds": _sum(intents, "refunds", "refunded"),
        "payment_intents": intents,
        "orders": _orders(intents),
    }


def _sum(intents: dict[str, Json], count: str, amount: str) -> Json:
    by_currency: dict[str, int] = defaultdict(int)
    for account in intents.values():
        if account[count]:
            by_currency[account["currency"]] += account[amount]
    return {
        "count": sum(account[count] for account in intents.values()),
        "amount": sum(by_currency.values()),
        "by_currency": dict(by_currency),
    }


def _orders(intents: dict[str, Json]) -> dict[str, Json]:
    orders: dict[str, Json] = {}
    for intent_id, account in intents.items():
        if account["order_id"] is None:
            continue
        order = orders.setdefault(account["order_id"], _account(payment_intents=[]))
        order["payment_intents"].append(intent_id)
        for name in ("charges", "charged", "refunds", "refunded", "failed_charges"):
            order[name] += account[name]
    return orders
