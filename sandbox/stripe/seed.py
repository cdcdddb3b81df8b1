"""`python -m sandbox.stripe.seed`: what there is to subscribe to. Running it again adds nothing.

It speaks to a running sandbox as anybody does, at `STRIPE_API_BASE` with `STRIPE_API_KEY`.
"""

import os
import sys
from dataclasses import dataclass

import httpx

__all__ = ["PLANS", "Plan", "seed"]

_EXISTS = "resource_already_exists"


@dataclass(frozen=True, slots=True)
class Plan:
    """A product with one recurring price; `lookup_key` is what a customer subscribes to, `amount` in minor units."""

    lookup_key: str
    product: str
    title: str
    amount: int
    currency: str
    months: int


PLANS = (
    Plan("treats-monthly", "prod_treats", "A box of treats", 1900, "usd", 1),
    Plan("kibble-quarterly", "prod_kibble", "Twelve kilograms of kibble", 5400, "usd", 3),
)


def seed(base: str, api_key: str) -> int:
    """Adds the plans that are not there; how many. Raises `httpx.HTTPError`."""
    with httpx.Client(base_url=base, headers={"Authorization": f"Bearer {api_key}"}, trust_env=False) as stripe:
        return sum(_added(stripe, plan) for plan in PLANS)


def _added(stripe: httpx.Client, plan: Plan) -> bool:
    known = stripe.get("/v1/prices", params={"lookup_keys[]": plan.lookup_key}).raise_for_status()
    if known.json()["data"]:
        return False
    product = stripe.post("/v1/products", data={"id": plan.product, "name": plan.title})
    if product.is_error and product.json()["error"].get("code") != _EXISTS:
        product.raise_for_status()
    price = {
        "product": plan.product,
        "unit_amount": str(plan.amount),
        "currency": plan.currency,
        "recurring[interval]": "month",
        "recurring[interval_count]": str(plan.months),
        "lookup_key": plan.lookup_key,
    }
    stripe.post("/v1/prices", data=price).raise_for_status()
    return True


if __name__ == "__main__":
    added = seed(os.environ["STRIPE_API_BASE"], os.environ["STRIPE_API_KEY"])
    sys.stdout.write(f"{added} of {len(PLANS)} plans added\n")
