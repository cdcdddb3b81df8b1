"""Handing mails to notifications."""

from collections.abc import Mapping
from typing import Any

import orjson

from holdfast.notifications.v1 import notifications_pb2, notifications_pb2_grpc
from reliability import rpc
from reliability.jobs import Job, Worker
from services.accounts.mail.service import SEND_MAIL

__all__ = ["Post", "register"]


class Post:
    """Notifications, as far as we need it."""

    def __init__(self, stub: "notifications_pb2_grpc.NotificationsServiceAsyncStub") -> None:
        self._stub = stub

    async def send(self, key: str, to: str, template: str, data: Mapping[str, Any]) -> None:
        """Hands one mail over; the same key again sends nothing."""
        request = notifications_pb2.SendEmailRequest(
            idempotency_key=key, to=to, template=template, data_json=orjson.dumps(data).decode()
        )
        await rpc.invoke(self._stub.SendEmail, request, step="notifications.SendEmail", attempts=1)


def register(worker: Worker, post: Post) -> None:
    """Registers the handlers of this capability."""

    async def send_mail(job: Job) -> None:
        mail = job.payload
        await post.send(mail["key"], mail["to"], mail["template"], mail["data"])

    worker.handle(SEND_MAIL, send_mail)
