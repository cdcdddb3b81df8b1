"""The trace of a purchase: every edge that must be there is there."""

from typing import Any

from deploy.local.demo.shopper import Shopper, Staff, eventually
from deploy.local.demo.tree import Node, build

EDGES = {
    ("gateway", "orders"),
    ("orders", "catalog"),
    ("orders", "payments-webhooks"),
    ("gateway", "payments-webhooks"),
    ("payments-webhooks", "orders"),
    ("orders", "notifications"),
}


def edges(node: Node) -> set[tuple[str, str]]:
    """Pairs of services that call, or hand work to, one another."""
    own = {(node.service, child.service) for child in node.children if child.service != node.service}
    return own.union(*(edges(child) for child in node.children))


async def test_one_correlation_id_finds_every_edge(shopper: Shopper, staff: Staff) -> None:
    """From the gateway to the mail, in one trace or linked ones."""
    chosen = await shopper.choose()
    await shopper.add(chosen["variant"]["id"], 1)
    checkout = (await shopper.checkout()).json()
    await shopper.pay(checkout)
    seen: set[tuple[str, str]] = set()

    async def complete() -> bool:
        traces: list[dict[str, Any]] = await staff.traces(shopper.correlation_id)
        seen.clear()
        seen.update(*(edges(root) for root in build(traces)))
        return seen >= EDGES

    await eventually(complete, f"the edges {EDGES - seen}")


async def test_traces_need_a_permission(shopper: Shopper) -> None:
    """Nobody reads traces without a staff session."""
    assert (await shopper.http.get("/api/admin/traces")).status_code == 401
