"""The SMTP side: a message is in the store before it is acknowledged."""

import asyncio
from typing import cast

from aiosmtpd.smtp import SMTP, Envelope, Session

from sandbox.mailbox.faults import Fault, Faults
from sandbox.mailbox.message import glance
from sandbox.mailbox.store import Received, Store

__all__ = ["serve"]

_REPLIES = {
    Fault.REJECT_421: "421 4.3.2 Service not available, closing transmission channel",
    Fault.REJECT_450: "450 4.2.1 Mailbox unavailable, try again later",
    Fault.REJECT_550: "550 5.1.1 No such mailbox here",
    Fault.REJECT_DATA_451: "451 4.3.0 Error in processing, try again later",
    Fault.REJECT_DATA_554: "554 5.7.1 Message refused",
}


async def serve(store: Store, faults: Faults, host: str, port: int) -> asyncio.Server:
    """Listens on the running event loop."""
    return await asyncio.get_running_loop().create_server(lambda: _Connection(store, faults), host, port)


class _Handler:
    """What aiosmtpd calls by name."""

    def __init__(self, store: Store, faults: Faults) -> None:
        self._store, self._faults = store, faults

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: "_Connection", _: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        order = self._faults.take([address], Fault.REJECT_421, Fault.REJECT_450, Fault.REJECT_550)
        if order is None:
            envelope.rcpt_tos.append(address)
            envelope.rcpt_options.extend(options)
            return "250 2.1.5 OK"
        if order.fault is Fault.REJECT_421:
            server.hang_up_soon()
        return _REPLIES[order.fault]

    async def handle_DATA(self, server: "_Connection", _: Session, envelope: Envelope) -> str:  # noqa: N802
        refused = self._faults.take(envelope.rcpt_tos, Fault.REJECT_DATA_451, Fault.REJECT_DATA_554)
        if refused is not None:
            return _REPLIES[refused.fault]
        raw = envelope.original_content or b""
        message = glance(raw, envelope.mail_from or "", list(envelope.rcpt_tos))
        self._store.add(Received(message, raw))
        if self._faults.take(message.to, Fault.DROP_AFTER_DATA):
            await server.cut()
        if delay := self._faults.take(message.to, Fault.SLOW):
            await asyncio.sleep(delay.seconds)
        return f"250 2.0.0 OK queued as {message.id}"


class _Connection(SMTP):
    """One client."""

    def __init__(self, store: Store, faults: Faults) -> None:
        super().__init__(
            _Handler(store, faults), enable_SMTPUTF8=True, hostname="mailbox.localhost", ident="Holdfast mailbox"
        )
        self._faults = faults

    async def smtp_DATA(self, arg: str) -> None:  # noqa: N802
        """The command, before any of the message."""
        recipients = self.envelope.rcpt_tos if self.envelope else []
        if recipients and self._faults.take(recipients, Fault.DROP_BEFORE_DATA):
            await self.cut()
        await super().smtp_DATA(arg)

    async def cut(self) -> None:
        """Resets the connection without another word; ends this task."""
        self._connected().abort()
        await asyncio.Event().wait()  # the loss of the connection cancels us

    def hang_up_soon(self) -> None:
        """Closes when the answer that is about to be written is out (RFC 5321, 3.8: 421 and close)."""
        asyncio.get_running_loop().call_soon(self._connected().close)

    def _connected(self) -> asyncio.WriteTransport:
        # Set while a command runs. Not `isinstance`: uvloop's transports have other base classes.
        return cast("asyncio.WriteTransport", self.transport)
