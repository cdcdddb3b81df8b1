"""The payments RPCs."""

from typing import Any, TypeAlias, assert_never

import grpc.aio

from holdfast.payments.v1 import payments_pb2 as pb
from holdfast.payments.v1 import payments_pb2_grpc
from reliability.crash_points import crash_point
from reliability.errors import FieldError, ValidationFailed
from reliability.ids import is_id
from reliability.postgres import Database
from services.payments_webhooks import messages, repository
from services.payments_webhooks.dispute.service import DisputeService
from services.payments_webhooks.erasure.service import ErasureService
from services.payments_webhooks.intent.domain import PaymentState
from services.payments_webhooks.intent.repository import NewPayment
from services.payments_webhooks.intent.service import IntentService
from services.payments_webhooks.reconcile.service import ReconcileService
from services.payments_webhooks.refund.service import RefundService
from services.payments_webhooks.webhook.service import WebhookService

__all__ = ["PaymentsServicer"]

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class PaymentsServicer(payments_pb2_grpc.PaymentsServiceServicer):
    """Translates."""

    def __init__(
        self,
        database: Database,
        intents: IntentService,
        refunds: RefundService,
        webhooks: WebhookService,
        reconciler: ReconcileService,
        disputes: DisputeService,
        erasure: ErasureService,
    ) -> None:
        self._database = database
        self._intents = intents
        self._refunds = refunds
        self._webhooks = webhooks
        self._reconciler = reconciler
        self._disputes = disputes
        self._erasure = erasure

    async def CreateIntent(self, request: pb.CreateIntentRequest, context: Context) -> pb.CreateIntentResponse:
        """See the proto."""
        if request.amount.amount <= 0 or request.attempt <= 0:
            raise ValidationFailed([FieldError("/amount", "amount and attempt must be positive")])
        new = NewPayment(_order_id(request.order_id), request.amount.amount, request.amount.currency, request.email)
        payment = await self._intents.create(new, request.attempt)
        assert payment.payment_intent_id is not None  # create gives it or raises
        assert payment.client_secret is not None  # a CHECK constraint ties it to the intent
        return pb.CreateIntentResponse(payment_intent_id=payment.payment_intent_id, client_secret=payment.client_secret)

    async def CancelIntent(self, request: pb.CancelIntentRequest, context: Context) -> pb.CancelIntentResponse:
        """See the proto."""
        state = await self._intents.cancel(_order_id(request.order_id))
        match state:
            case PaymentState.CANCELED:
                return pb.CancelIntentResponse(status=pb.INTENT_STATUS_CANCELED)
            case PaymentState.SUCCEEDED:
                return pb.CancelIntentResponse(status=pb.INTENT_STATUS_SUCCEEDED)
            case PaymentState.PROCESSING | PaymentState.OPEN | PaymentState.CREATING:
                return pb.CancelIntentResponse(status=pb.INTENT_STATUS_PROCESSING)
            case _:
                assert_never(state)

    async def RefundPayment(self, request: pb.RefundPaymentRequest, context: Context) -> pb.RefundPaymentResponse:
        """See the proto."""
        refund_id = await self._refunds.request(
            request.idempotency_key,
            request.payment_intent_id,
            request.amount.amount,
            request.amount.currency,
            request.reason,
        )
        crash_point("refund.asked_not_answered")
        return pb.RefundPaymentResponse(refund_id=refund_id)

    async def ForgetCustomer(self, request: pb.ForgetCustomerRequest, context: Context) -> pb.ForgetCustomerResponse:
        """See the proto."""
        return pb.ForgetCustomerResponse(kept=await self._erasure.forget(request.customer_id, request.email))

    async def ListWebhooks(self, request: pb.ListWebhooksRequest, context: Context) -> pb.ListWebhooksResponse:
        """See the proto."""
        limit, before = messages.page_size(request), _before(request)
        state = messages.inbox_state(request.state) if request.HasField("state") else None
        event_type = request.type if request.HasField("type") else None
        rows = await self._webhooks.page(limit, before, state, event_type)
        return pb.ListWebhooksResponse(
            items=map(messages.webhook, rows), next_cursor=messages.next_cursor(rows, limit, lambda row: row.id)
        )

    async def GetWebhook(self, request: pb.GetWebhookRequest, context: Context) -> pb.GetWebhookResponse:
        """See the proto."""
        return messages.whole_webhook(await self._webhooks.find(messages.number_of(request.webhook_id)))

    async def ReplayWebhook(self, request: pb.ReplayWebhookRequest, context: Context) -> pb.ReplayWebhookResponse:
        """See the proto."""
        event = await self._webhooks.replay(messages.number_of(request.webhook_id), _staff(request))
        return pb.ReplayWebhookResponse(webhook_id=str(event.id), state=event.state)

    async def Reconcile(self, request: pb.ReconcileRequest, context: Context) -> pb.ReconcileResponse:
        """See the proto."""
        await self._reconciler.request(_staff(request))
        return pb.ReconcileResponse()

    async def ListDrift(self, request: pb.ListDriftRequest, context: Context) -> pb.ListDriftResponse:
        """See the proto."""
        limit = messages.page_size(request)
        rows = await self._reconciler.drift(limit, _before(request))
        return pb.ListDriftResponse(
            items=map(messages.drift, rows), next_cursor=messages.next_cursor(rows, limit, lambda row: row.id)
        )

    async def ListDisputes(self, request: pb.ListDisputesRequest, context: Context) -> pb.ListDisputesResponse:
        """See the proto."""
        limit = messages.page_size(request)
        rows = await self._disputes.page(limit, request.cursor if request.HasField("cursor") else None)
        return pb.ListDisputesResponse(
            items=map(messages.dispute, rows), next_cursor=messages.next_cursor(rows, limit, lambda row: row.id)
        )

    async def GetSummary(self, request: pb.GetSummaryRequest, context: Context) -> pb.GetSummaryResponse:
        """See the proto."""
        async with self._database.connection() as connection:
            parked, dead_letters = await repository.summary(connection)
        return pb.GetSummaryResponse(parked_webhooks=parked, dead_letters=dead_letters)


def _order_id(value: str) -> str:
    if not is_id(value):
        raise ValidationFailed([FieldError("/order_id", "is not an id")])
    return value


def _before(request: pb.ListWebhooksRequest | pb.ListDriftRequest) -> int | None:
    return messages.cursor(request.cursor) if request.HasField("cursor") else None


def _staff(request: pb.ReplayWebhookRequest | pb.ReconcileRequest) -> str:
    """Who wants it: admin says so of everything that staff change."""
    if not request.staff_id:
        raise ValidationFailed([FieldError("/staff_id", "must be given")])
    return request.staff_id
