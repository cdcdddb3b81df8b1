"""Preferences, one click out, double opt-in, and what the mail provider reports."""

import time
from collections.abc import Mapping
from typing import Any, Final

from reliability import inbox
from reliability.context import Principal
from reliability.jobs import Job, Snooze
from reliability.logging import get_logger
from reliability.postgres import Connection, Database
from services.notifications.consent.schemas import Preferences
from services.notifications.consent.tokens import Intent, Links
from services.notifications.contacts import repository as contacts
from services.notifications.mail.domain import Topic
from services.notifications.mail.service import MailService
from services.notifications.schemas import MailRequest

__all__ = ["MAIL_EVENT", "ConsentService"]

MAIL_EVENT: Final = "handle_mail_event"
SOURCE: Final = "resend"
_DAY: Final = 86_400
_ANSWER_DAYS: Final = 7
# A mail that is not known by then is not ours: others may send through the same account.
_UNKNOWN_SECONDS: Final = 600.0
_LOOK_AGAIN_SECONDS: Final = 15.0
_NO_REASON: Final = "no reason was given"

_log = get_logger(__name__)


class ConsentService:
    """The use cases of consent."""

    def __init__(self, database: Database, mail: MailService, links: Links) -> None:
        self._database = database
        self._mail = mail
        self._links = links

    async def preferences(self, who: Principal) -> Preferences:
        """What goes to a customer."""
        async with self._database.connection() as connection:
            return await _preferences(connection, who.email)

    async def change(self, who: Principal, wishes: Mapping[Topic, bool]) -> Preferences:
        """Declines at once; agrees to news only by a click in a mail to the address (double opt-in)."""
        pending: list[Topic] = []
        async with self._database.transaction("change preferences") as connection:
            for topic, wanted in wishes.items():
                if not wanted:
                    await contacts.decline(connection, who.email, topic)
                elif topic is not Topic.NEWS:
                    await contacts.allow(connection, who.email, topic)
                elif not await contacts.consents(connection, who.email, topic):
                    await self._ask(connection, who)
                    pending.append(topic)
            found = await _preferences(connection, who.email)
        return found.model_copy(update={"pending": pending})

    async def follow(self, token: str) -> Intent:
        """Does what a link says; again is no harm. Raises `NoSuchToken`."""
        intent = self._links.read(token)
        async with self._database.transaction("follow link") as connection:
            act = contacts.decline if intent.purpose == "decline" else contacts.agree
            await act(connection, intent.address, intent.topic)
        _log.info("consent_changed", topic=intent.topic, purpose=intent.purpose)
        return intent

    def read(self, token: str) -> Intent:
        """What a link would do. Raises `NoSuchToken`."""
        return self._links.read(token)

    async def receive(self, event_id: str, event: Mapping[str, Any], body: bytes) -> bool:
        """Stores what the provider reports with the job that handles it; False when it was received before."""
        data = _data(event)
        received = inbox.Received(SOURCE, event_id, str(event.get("type")), str(data.get("email_id", event_id)), body)
        async with self._database.transaction("receive mail event") as connection:
            return await inbox.receive(connection, received, job=MAIL_EVENT) is not None

    async def handle(self, job: Job, event: Mapping[str, Any], inbox_id: int) -> None:
        """A bounce ends an address, and the mail is failed after all; a complaint ends marketing.

        Raises `Snooze` while the mail is not known: a fast report overtakes our own note of what the provider calls it.
        """
        data = _data(event)
        addresses = [str(address) for address in data.get("to") or []]
        async with self._database.transaction("handle mail event") as connection:
            state, found = "processed", True
            match event.get("type"):
                case "email.bounced" if _for_good(data):
                    for address in addresses:
                        await contacts.suppress(connection, address, "bounced")
                    found = await self._take_back(connection, data, f"bounced: {_reason(data, 'bounce', 'message')}")
                case "email.failed":
                    found = await self._take_back(connection, data, f"failed: {_reason(data, 'failed', 'reason')}")
                case "email.suppressed":
                    reason = _reason(data, "suppressed", "message")
                    found = await self._take_back(connection, data, f"suppressed by the provider: {reason}")
                case "email.complained":
                    for address in addresses:
                        await contacts.suppress(connection, address, "complained")
                case _:
                    state = "ignored"
            if found or job.age > _UNKNOWN_SECONDS:
                await inbox.finish(connection, inbox_id, state, job.correlation_id, job)
                return
        raise Snooze(_LOOK_AGAIN_SECONDS)

    async def _take_back(self, connection: Connection, data: Mapping[str, Any], reason: str) -> bool:
        """False when the mail is not known (yet)."""
        provider_id = str(data.get("email_id") or "")
        return not provider_id or await self._mail.bounced(connection, provider_id, reason[:500])

    async def _ask(self, connection: Connection, who: Principal) -> None:
        """One mail a day, however often somebody asks: nobody's mailbox is filled by a stranger's clicks."""
        today = int(time.time()) // _DAY
        request = MailRequest(
            idempotency_key=f"agree:{who.email.lower()}:{today}",
            to=who.email,
            template="confirm_subscription",
            data={
                "link": self._links.agree(who.email, Topic.NEWS, (today + _ANSWER_DAYS + 1) * _DAY),
                "valid_minutes": _ANSWER_DAYS * 24 * 60,
                "customer_name": await contacts.name_of(connection, who.email) or None,
            },
        )
        await self._mail.accept_once(connection, request)


async def _preferences(connection: Connection, address: str) -> Preferences:
    allowed = {topic: await contacts.consents(connection, address, topic) for topic in Topic}
    return Preferences.model_validate(allowed)


def _data(event: Mapping[str, Any]) -> Mapping[str, Any]:
    data = event.get("data")
    return data if isinstance(data, dict) else {}


def _for_good(data: Mapping[str, Any]) -> bool:
    """Whether an address is gone, not only full or busy (`bounce.type`: Permanent, Transient, Undetermined)."""
    bounce = data.get("bounce") or {}
    return str(bounce.get("type", "Permanent")).lower() == "permanent"


def _reason(data: Mapping[str, Any], part: str, name: str) -> str:
    said = data.get(part)
    return str(said.get(name, _NO_REASON)) if isinstance(said, dict) else _NO_REASON
