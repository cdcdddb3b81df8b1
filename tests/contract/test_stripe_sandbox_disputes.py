"""Disputes as Stripe has them: opened by the cardholder, answered by us, decided by the bank."""

import pytest
import stripe

from tests.contract.stripe_sandbox_fixtures import (  # noqa: F401
    Sandbox,
    receiver_fixture,
    receiver_url_fixture,
    sandbox_fixture,
    servers_fixture,
)


async def disputed(sandbox: Sandbox) -> stripe.Dispute:
    """A dispute about a payment by a card that disputes."""
    intent = await sandbox.intent()
    await sandbox.pay(intent.id, "4000000000000259")
    (dispute,) = (await sandbox.api.v1.disputes.list_async({"payment_intent": intent.id})).data
    return dispute


async def test_some_cards_dispute_at_once(sandbox: Sandbox) -> None:
    """The charge says so, the money is withdrawn, and evidence is due."""
    dispute = await disputed(sandbox)
    assert (dispute.status, dispute.reason, dispute.amount) == ("needs_response", "fraudulent", 1299)
    assert (await sandbox.api.v1.charges.retrieve_async(str(dispute.charge))).disputed is True
    assert dispute.evidence_details.due_by is not None
    assert dispute.evidence_details.due_by > dispute.created
    assert (await sandbox.event_types())[-2:] == ["charge.dispute.created", "charge.dispute.funds_withdrawn"]


@pytest.mark.parametrize(
    ("evidence", "status", "told"),
    [
        ("winning_evidence", "won", ["updated", "closed", "funds_reinstated"]),
        ("losing_evidence", "lost", ["updated", "closed"]),
        ("we sent it", "under_review", ["updated"]),
    ],
)
async def test_evidence_is_taken_and_decides(sandbox: Sandbox, evidence: str, status: str, told: list[str]) -> None:
    """Stripe's two magic words decide at once, as in its test mode; anything else waits for the bank."""
    dispute = await disputed(sandbox)
    updated = await sandbox.api.v1.disputes.update_async(dispute.id, {"evidence": {"uncategorized_text": evidence}})
    assert (updated.status, updated.evidence_details.submission_count) == (status, 1)
    assert (await sandbox.event_types())[-len(told) :] == [f"charge.dispute.{word}" for word in told]


async def test_a_decided_dispute_stays_decided(sandbox: Sandbox) -> None:
    """The bank has one last word; so has giving in."""
    dispute = await disputed(sandbox)
    assert (await sandbox.api.v1.disputes.close_async(dispute.id)).status == "lost"
    await sandbox.act(f"disputes/{dispute.id}/decide", {"outcome": "won"}, 400)
    with pytest.raises(stripe.InvalidRequestError):
        await sandbox.api.v1.disputes.update_async(dispute.id, {"evidence": {"uncategorized_text": "x"}})


async def test_money_is_disputed_once(sandbox: Sandbox) -> None:
    """Nothing to contest before it was paid, and nothing twice."""
    intent = await sandbox.intent()
    await sandbox.act(f"payment_intents/{intent.id}/dispute", {}, 404)
    await sandbox.pay(intent.id)
    await sandbox.act(f"payment_intents/{intent.id}/dispute", {"reason": "because"}, 400)
    await sandbox.act(f"payment_intents/{intent.id}/dispute", {"reason": "duplicate"})
    await sandbox.act(f"payment_intents/{intent.id}/dispute", {"reason": "duplicate"}, 400)
