"""What if we die here? Between a payment and its confirmation."""

import pytest

from deploy.local.demo.shopper import Shopper
from tests.chaos.mortal import Mortal, assert_bought, mortal, order, points, shopper, system
from tests.chaos.points import DIES, PAYMENT, UNTOLD, some

__all__ = ["mortal", "points", "shopper", "system"]


@pytest.mark.parametrize("point", some(PAYMENT))
async def test_a_payment_survives_death_at(mortal: Mortal, shopper: Shopper, point: str) -> None:
    """What was paid for is recorded, taken from stock and confirmed, once."""
    purchase = await order(mortal, shopper)
    async with mortal.dying(DIES[point], point):
        (await shopper.pay(purchase.checkout)).raise_for_status()
    # Plain SMTP cannot tell whether it took a mail: one attempt more, under the same Message-ID.
    await assert_bought(mortal, purchase, mails=2 if point == "mail.not_noted" else 1)


@pytest.mark.long
async def test_a_payment_that_nobody_can_be_told_of_survives_death(mortal: Mortal, shopper: Shopper) -> None:
    """Notifications does not answer: the stock is noted as taken, and the customer is told when it does."""
    purchase = await order(mortal, shopper)
    async with (
        mortal.dying(DIES[UNTOLD], UNTOLD),
        mortal.database("notifications") as notifications,
        notifications.transaction(),
    ):
        await notifications.execute("LOCK TABLE purchases")
        (await shopper.pay(purchase.checkout)).raise_for_status()
        await mortal.points.fired(UNTOLD)
    await assert_bought(mortal, purchase, mails=1)


@pytest.mark.long
async def test_a_mail_that_is_ambiguous_twice_is_unknown(mortal: Mortal, shopper: Shopper) -> None:
    """Both attempts may have arrived: it is written down as unknown, and not sent a third time."""
    purchase = await order(mortal, shopper)
    mortal.points.arm("mail.not_noted")
    (await shopper.pay(purchase.checkout)).raise_for_status()
    await mortal.death("notifications", "mail.not_noted", again=True)
    await mortal.death("notifications", "mail.not_noted")
    await assert_bought(mortal, purchase, mails=2, mail_state="unknown")
