"""Every statement on the copy of customers, what they bought, and what they want to hear of."""

from typing import Any

from reliability.postgres import Connection
from services.notifications.mail.domain import Topic
from services.notifications.schemas import CustomerChange, CustomerErasure, OrderPaid, OrderRefund

__all__ = [
    "agree",
    "allow",
    "await_writers",
    "bury",
    "consents",
    "decline",
    "erase",
    "erase_arrived",
    "name_of",
    "on_its_way",
    "record",
    "record_paid",
    "record_refund",
    "remembered",
    "remembering",
    "suppress",
    "takes_mail",
]

# What stands in the place of an address that was forgotten.
_NOBODYS = "@erased.example"

# Events may overtake one another: what was true later wins, whatever arrives last. Accounts' consent is taken over
# when accounts changed it; a withdrawal that was made here stays.
_RECORD = """
INSERT INTO contacts AS known (id, email, name, marketing_consent, account_consent, changed_at, suppressed)
SELECT $1::uuid, $2::text, $3, $4::boolean, $4, $5, EXISTS (SELECT FROM suppressions WHERE address = lower($2))
 WHERE NOT EXISTS (SELECT FROM erased_customers WHERE id = $1)
    ON CONFLICT (id) DO UPDATE
       SET email = excluded.email, name = excluded.name, changed_at = excluded.changed_at,
           suppressed = excluded.suppressed OR (known.suppressed AND lower(known.email) = lower(excluded.email)),
           account_consent = excluded.account_consent,
           marketing_consent = CASE WHEN known.account_consent IS DISTINCT FROM excluded.account_consent
                                    THEN excluded.marketing_consent ELSE known.marketing_consent END
     WHERE known.changed_at < excluded.changed_at
RETURNING marketing_consent
"""
# Somebody who withdrew under one account has not agreed under another with the same address. Who asked to be told
# when something is back need not be a customer.
_CONSENTS = """
SELECT NOT EXISTS (SELECT FROM suppressions WHERE address = lower($1))
   AND NOT EXISTS (SELECT FROM opt_outs WHERE address = lower($1) AND topic = $2)
   AND ($2 = 'back_in_stock'
        OR (SELECT coalesce(bool_and(marketing_consent AND NOT suppressed), false)
              FROM contacts WHERE lower(email) = lower($1)))
"""
_DECLINE = "INSERT INTO opt_outs (address, topic) VALUES (lower($1), $2) ON CONFLICT DO NOTHING"
_ALLOW = "DELETE FROM opt_outs WHERE address = lower($1) AND topic = $2"
_CONSENT_OF = "UPDATE contacts SET marketing_consent = $2 WHERE lower(email) = lower($1) AND marketing_consent <> $2"
_SUPPRESS = """
INSERT INTO suppressions AS known (address, reason) VALUES (lower($1), $2)
    ON CONFLICT (address) DO UPDATE SET reason = 'bounced' WHERE excluded.reason = 'bounced'
"""
_UNSUPPRESS = """
UPDATE contacts SET suppressed = false
 WHERE lower(email) = lower($1) AND suppressed AND NOT EXISTS (SELECT FROM suppressions WHERE address = lower($1))
"""
_REFUNDED = """
INSERT INTO purchases AS known (order_id, refunded, refunds_known) VALUES ($1, $2, $3)
    ON CONFLICT (order_id) DO UPDATE SET refunded = excluded.refunded, refunds_known = excluded.refunds_known
     WHERE known.refunds_known < excluded.refunds_known
"""
_BURY = "INSERT INTO erased_customers (id) VALUES ($1) ON CONFLICT DO NOTHING"
# A statement has the lock of the table it writes to before it looks at anything: one that has not seen a tombstone
# which is committed by now is waited for.
_AWAIT_WRITERS = "LOCK TABLE contacts, purchases IN SHARE MODE"
_ERASE_CUSTOMER = """
WITH purchases AS (DELETE FROM purchases WHERE buyer IN ($1::uuid::text, lower($2::text))),
declined AS (DELETE FROM opt_outs WHERE address = lower($2::text))
DELETE FROM contacts WHERE id = $1
"""
_ERASE_RECIPIENT = """
UPDATE campaign_recipients
   SET email = 'erased:' || contact_id, name = '', state = CASE WHEN state = 'queued' THEN 'suppressed' ELSE state END,
       settled_at = coalesce(settled_at, now())
 WHERE contact_id = $1 AND state <> 'sending'
"""
# Who comes back with the same address is somebody new: their mail is none of this.
_ERASE_EMAILS = """
UPDATE emails SET "to" = 'erased', data = '{}', subject = '', html = '', text = '', calendar = '', unsubscribe = ''
 WHERE lower("to") = lower($1) AND state IN ('sent', 'failed', 'unknown', 'suppressed')
   AND created_at <= (SELECT at FROM erased_customers WHERE id = $2)
"""
_ON_ITS_WAY = """
SELECT EXISTS (SELECT FROM campaign_recipients WHERE contact_id = $1 AND state = 'sending')
    OR EXISTS (SELECT FROM emails WHERE lower("to") = lower($2) AND state IN ('queued', 'sending', 'retrying')
                  AND created_at <= (SELECT at FROM erased_customers WHERE id = $1))
"""


async def record(connection: Connection, change: CustomerChange) -> bool:
    """Keeps the newest change of a customer; False when a newer one, or this one, is known."""
    consent = await connection.fetchval(
        _RECORD, change.customer_id, change.email, change.name, change.marketing_consent, change.changed_at
    )
    if consent:  # given anew: what was declined before is over
        await connection.execute(_ALLOW, change.email, Topic.NEWS)
    return consent is not None


async def bury(connection: Connection, erasure: CustomerErasure) -> None:
    """Leaves a tombstone: from its commit on nothing new is remembered of a customer."""
    await connection.execute(_BURY, erasure.customer_id)


async def await_writers(connection: Connection) -> None:
    """Waits for the end of whatever is being written of customers, by who may have seen no tombstone.

    To be committed at once: meanwhile others wait.
    """
    await connection.execute(_AWAIT_WRITERS)


async def erase(connection: Connection, erasure: CustomerErasure) -> None:
    """Forgets a customer who has a tombstone, but for mail that is on its way."""
    await connection.execute(_ERASE_CUSTOMER, erasure.customer_id, erasure.email)
    await erase_arrived(connection, erasure)


async def erase_arrived(connection: Connection, erasure: CustomerErasure) -> None:
    """Forgets the mail to a customer who was erased, but for what is on its way."""
    await connection.execute(_ERASE_RECIPIENT, erasure.customer_id)
    await connection.execute(_ERASE_EMAILS, erasure.email, erasure.customer_id)


async def on_its_way(connection: Connection, erasure: CustomerErasure) -> bool:
    """Whether mail to somebody who was erased has not arrived yet."""
    return bool(await connection.fetchval(_ON_ITS_WAY, erasure.customer_id, erasure.email))


def remembering(first: int = 1) -> str:
    """The INSERT of an order, once, for a WITH of somebody else's statement.

    Its six parameters, which `remembered` gives, begin at `$first`.
    """
    order, buyer, total, currency, products, paid_at = (f"${number}" for number in range(first, first + 6))
    return f"""
    INSERT INTO purchases AS known (order_id, buyer, total, currency, product_ids, paid_at)
    SELECT {order}, {buyer}::text, {total}, {currency}, {products}, {paid_at}
     WHERE NOT EXISTS (SELECT FROM erased_customers WHERE id::text = {buyer})
        ON CONFLICT (order_id) DO UPDATE
           SET buyer = excluded.buyer, total = excluded.total, currency = excluded.currency,
               product_ids = excluded.product_ids, paid_at = excluded.paid_at
         WHERE known.buyer IS NULL
    """


def remembered(paid: OrderPaid) -> tuple[Any, ...]:
    """The parameters of `remembering`."""
    buyer = str(paid.customer_id) if paid.customer_id else paid.email.lower()
    return paid.order_id, buyer, paid.total.amount, paid.total.currency, paid.product_ids, paid.paid_at


async def record_paid(connection: Connection, paid: OrderPaid) -> None:
    """Remembers an order, once."""
    await connection.execute(remembering(), *remembered(paid))


async def record_refund(connection: Connection, refund: OrderRefund) -> None:
    """Remembers how much of an order went back; figures may overtake one another."""
    await connection.execute(_REFUNDED, refund.order_id, refund.refunded.amount, refund.known)


async def consents(connection: Connection, address: str, topic: Topic) -> bool:
    """Whether whoever has this address wants to hear of this."""
    return bool(await connection.fetchval(_CONSENTS, address, topic))


async def takes_mail(connection: Connection, address: str) -> bool:
    """Whether mail to the address arrives at all: it has not bounced, and is not what is left of somebody erased."""
    if address.lower().endswith(_NOBODYS):
        return False
    statement = "SELECT NOT EXISTS (SELECT FROM suppressions WHERE address = lower($1) AND reason = 'bounced')"
    return bool(await connection.fetchval(statement, address))


async def decline(connection: Connection, address: str, topic: Topic) -> None:
    """From now on nothing about this goes to the address."""
    await connection.execute(_DECLINE, address, topic)
    if topic is Topic.NEWS:
        await connection.execute(_CONSENT_OF, address, False)  # noqa: FBT003 - a column's value


async def allow(connection: Connection, address: str, topic: Topic) -> None:
    """What is about this may go to the address again."""
    await connection.execute(_ALLOW, address, topic)
    if topic is Topic.NEWS:
        await connection.execute(_CONSENT_OF, address, True)  # noqa: FBT003 - a column's value


async def agree(connection: Connection, address: str, topic: Topic) -> None:
    """What is about this may go to the address again, though it complained once: whoever has it has said so."""
    await connection.execute("DELETE FROM suppressions WHERE address = lower($1) AND reason = 'complained'", address)
    await connection.execute(_UNSUPPRESS, address)
    await allow(connection, address, topic)


async def suppress(connection: Connection, address: str, reason: str) -> None:
    """Notes that an address bounced or complained; the first is the graver."""
    await connection.execute(_SUPPRESS, address, reason)
    await connection.execute("UPDATE contacts SET suppressed = true WHERE lower(email) = lower($1)", address)


async def name_of(connection: Connection, address: str) -> str:
    """What to call whoever has the address; empty when nobody is known by it."""
    statement = "SELECT name FROM contacts WHERE lower(email) = lower($1) ORDER BY id LIMIT 1"
    return await connection.fetchval(statement, address) or ""
