"""Sends through Resend's API, which recognises what it was asked before.

Source: https://resend.com/docs/api-reference and its pages on errors, idempotency keys and batches.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from email.headerregistry import Address
from typing import Any, Final, Self

import httpx
import orjson
from pydantic_core import Url

from reliability import deadline
from reliability.errors import DeadlineExceeded
from services.notifications.mail.domain import Message, Outcome, Verdict
from services.notifications.mail.mime import CALENDAR_FILE, calendar_type, headers_of

__all__ = ["REMEMBERS", "ResendMailer", "ResendServer"]

# Keys are kept for 24 hours; what may take until the end of them is not tried.
REMEMBERS: Final = 20 * 3600.0
_BATCH: Final = 100
# The request never began: there was nobody, or no connection free to send it over.
_NOT_BEGUN: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
# These are about us, our settings or our pace, not about this mail.
_NOT_ABOUT_THIS_MAIL: Final = frozenset({401, 403, 404, 405, 429})
_IN_DOUBT: Final = frozenset({408, 409})


@dataclass(frozen=True, slots=True)
class ResendServer:
    """Where the API is, and the key to it."""

    address: str
    api_key: str

    @classmethod
    def of(cls, url: Url) -> Self:
        """`resend+https://<api key>@api.resend.com`."""
        scheme = url.scheme.removeprefix("resend+")
        port = f":{url.port}" if url.port else ""
        return cls(f"{scheme}://{url.host}{port}", url.username or "")


class ResendMailer:
    """A `Mailer` over Resend's API, and its `Batches`."""

    remembers = REMEMBERS
    size = _BATCH

    def __init__(
        self,
        server: ResendServer,
        sender: str,
        *,
        connections: int,
        cap: float = deadline.EXTERNAL_CAP,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._sender = sender
        self._cap = cap
        self._client = httpx.AsyncClient(
            base_url=server.address,
            headers={"Authorization": f"Bearer {server.api_key}", "Content-Type": "application/json"},
            limits=httpx.Limits(max_connections=connections),
            timeout=cap,
            transport=transport,
        )

    @property
    def batches(self) -> Self:
        """See `Mailer`."""
        return self

    async def send(self, message: Message) -> Outcome:
        """See `Mailer`. The Message-ID is the key: it names this mail among all."""
        answer = await self._post("/emails", message.message_id.strip("<>"), orjson.dumps(self._entry(message)))
        if isinstance(answer, Outcome):
            return answer
        match answer:
            case {"id": str(provider_id)}:
                return Outcome(Verdict.ACCEPTED, provider_id=provider_id)
            case _:
                return Outcome(Verdict.UNKNOWN, "an answer without an id")

    def pack(self, messages: Sequence[Message]) -> bytes:
        """See `Batches`."""
        return orjson.dumps([self._entry(message) for message in messages])

    async def ship(self, key: str, packed: bytes) -> list[Outcome]:
        """See `Batches`. One bad address among a hundred does not hold up the others."""
        count = len(orjson.loads(packed))
        answer = await self._post("/emails/batch", key, packed, **{"x-batch-validation": "permissive"})
        return [answer] * count if isinstance(answer, Outcome) else _each(answer, count)

    async def close(self) -> None:
        """Closes idle connections."""
        await self._client.aclose()

    def _entry(self, message: Message) -> dict[str, Any]:
        """One mail as the API wants it; equal messages have equal entries."""
        entry: dict[str, Any] = {
            "from": self._sender,
            "to": [str(Address(message.name, addr_spec=message.to))],
            "subject": message.content.subject,
            "html": message.content.html,
            "text": message.content.text,
            "headers": {"Message-ID": message.message_id, **headers_of(message)},
        }
        if message.calendar:
            content = base64.b64encode(message.calendar.encode()).decode()
            kind = calendar_type(message.calendar)
            entry["attachments"] = [{"filename": CALENDAR_FILE, "content": content, "content_type": kind}]
        return entry

    async def _post(self, path: str, key: str, body: bytes, **headers: str) -> Any:
        """The JSON of a yes, or the outcome of anything else."""
        try:
            async with deadline.limit(self._cap, "resend"):
                response = await self._client.post(path, content=body, headers={"Idempotency-Key": key, **headers})
        except _NOT_BEGUN as error:
            return Outcome(Verdict.UNREACHABLE, _name(error))
        except (httpx.HTTPError, DeadlineExceeded) as error:
            return Outcome(Verdict.UNKNOWN, _name(error))
        if not response.is_success:
            return _refusal(response)
        try:
            return orjson.loads(response.content)
        except orjson.JSONDecodeError:
            return Outcome(Verdict.UNKNOWN, "an answer that is no JSON")


def _each(answer: Any, count: int) -> list[Outcome]:
    """One outcome per mail: `errors` says which were refused, `data` has an id for each of the others."""
    match answer:
        case {"data": list(accepted)}:
            refused = {error["index"]: str(error["message"])[:500] for error in answer.get("errors") or []}
        case _:
            return [Outcome(Verdict.UNKNOWN, "an answer without data")] * count
    if len(accepted) + len(refused) != count:
        return [Outcome(Verdict.UNKNOWN, "an answer for another number of mails")] * count
    ids = iter(accepted)
    return [
        Outcome(Verdict.REFUSED, refused[index])
        if index in refused
        else Outcome(Verdict.ACCEPTED, provider_id=str(next(ids)["id"]))
        for index in range(count)
    ]


def _refusal(response: httpx.Response) -> Outcome:
    """What an error means. After one of theirs (5xx), and while the first request still runs, nobody knows."""
    detail = f"{response.status_code} {_reason(response)}"[:500]
    after = response.headers.get("retry-after", "")
    wait = float(after) if after.isascii() and after.isdigit() else 0.0
    if response.status_code in _NOT_ABOUT_THIS_MAIL:
        return Outcome(Verdict.UNREACHABLE, detail, retry_after=wait)
    if response.status_code in _IN_DOUBT or response.status_code >= 500:
        return Outcome(Verdict.UNKNOWN, detail, retry_after=wait)
    return Outcome(Verdict.REFUSED, detail)


def _reason(response: httpx.Response) -> str:
    try:
        body = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        return response.reason_phrase
    return f"{body.get('name', '')}: {body.get('message', '')}" if isinstance(body, dict) else response.reason_phrase


def _name(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:500]
