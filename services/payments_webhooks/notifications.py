"""What payments asks notifications."""

from collections.abc import Mapping
from typing import Any

import orjson

from holdfast.notifications.v1 import notifications_pb2 as pb
from holdfast.notifications.v1 import notifications_pb2_grpc
from reliability import rpc

__all__ = ["Notifications"]


class Notifications:
    """Mail, once per idempotency key."""

    def __init__(self, stub: "notifications_pb2_grpc.NotificationsServiceAsyncStub") -> None:
        self._stub = stub

    async def send(self, key: str, to: str, template: str, data: Mapping[str, Any]) -> None:
        """Hands one mail over; from then on it is notifications' promise."""
        request = pb.SendEmailRequest(
            idempotency_key=key, to=to, template=template, data_json=orjson.dumps(data).decode()
        )
        await rpc.invoke(self._stub.SendEmail, request, step="notifications.SendEmail")
