"""What orders asks payments."""

from dataclasses import dataclass

from holdfast.common.v1 import money_pb2
from holdfast.payments.v1 import payments_pb2 as pb
from holdfast.payments.v1 import payments_pb2_grpc
from reliability import rpc

__all__ = ["Intent", "Payments"]

ATTEMPT = 1


@dataclass(frozen=True, slots=True)
class Intent:
    """What a customer needs to pay."""

    payment_intent_id: str
    client_secret: str


class Payments:
    """The payments RPCs in the words of this service. Each may be repeated."""

    def __init__(self, stub: "payments_pb2_grpc.PaymentsServiceAsyncStub") -> None:
        self._stub = stub

    async def create_intent(self, order_id: str, amount: int, currency: str, email: str) -> Intent:
        """The intent of an order."""
        request = pb.CreateIntentRequest(
            order_id=order_id, attempt=ATTEMPT, amount=money_pb2.Money(amount=amount, currency=currency), email=email
        )
        answer = await rpc.invoke(self._stub.CreateIntent, request, step="payments.CreateIntent")
        return Intent(answer.payment_intent_id, answer.client_secret)

    async def cancel_intent(self, order_id: str) -> "pb.IntentStatus.ValueType":
        """What Stripe says of the intent after it was asked to cancel it."""
        request = pb.CancelIntentRequest(order_id=order_id)
        return (await rpc.invoke(self._stub.CancelIntent, request, step="payments.CancelIntent")).status

    async def refund(self, key: str, payment_intent_id: str, amount: int, currency: str, reason: str) -> None:
        """Sends money back, once per key."""
        request = pb.RefundPaymentRequest(
            idempotency_key=key,
            payment_intent_id=payment_intent_id,
            amount=money_pb2.Money(amount=amount, currency=currency),
            reason=reason,
        )
        await rpc.invoke(self._stub.RefundPayment, request, step="payments.RefundPayment")
