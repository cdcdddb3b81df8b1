"""The composition root of payments."""

from functools import partial

from holdfast.accounts.v1 import accounts_pb2, accounts_pb2_grpc
from holdfast.admin.v1 import admin_pb2, admin_pb2_grpc
from holdfast.common.v1 import operations_pb2, operations_pb2_grpc
from holdfast.notifications.v1 import notifications_pb2_grpc
from holdfast.orders.v1 import orders_pb2_grpc
from holdfast.payments.v1 import payments_pb2, payments_pb2_grpc
from reliability import audit, idempotency, inbox, retention, rpc
from reliability.asgi import authenticator
from reliability.asgi.cron import cron
from reliability.revocation import Revocations
from reliability.rpc.operations import operations_servicer
from reliability.runtime import Application, Runtime
from reliability.tokens import TokenVerifier
from services.payments_webhooks import jobs
from services.payments_webhooks.customer.service import CustomerService
from services.payments_webhooks.dispute.events import DisputeEvents
from services.payments_webhooks.dispute.service import DisputeService
from services.payments_webhooks.erasure.service import ErasureService
from services.payments_webhooks.intent.events import IntentEvents
from services.payments_webhooks.intent.service import IntentService
from services.payments_webhooks.intent.sessions import SessionEvents
from services.payments_webhooks.notifications import Notifications
from services.payments_webhooks.orders import Orders
from services.payments_webhooks.pay.routes import PayRoutes
from services.payments_webhooks.pay.service import PayService
from services.payments_webhooks.reconcile.service import ReconcileService
from services.payments_webhooks.refund.events import RefundEvents
from services.payments_webhooks.refund.service import RefundService
from services.payments_webhooks.servicer import PaymentsServicer
from services.payments_webhooks.settings import PaymentsSettings
from services.payments_webhooks.stripe_api import Stripe
from services.payments_webhooks.subscription.events import SubscriptionEvents
from services.payments_webhooks.subscription.notices import Notices
from services.payments_webhooks.subscription.routes import SubscriptionRoutes
from services.payments_webhooks.subscription.service import SubscriptionService
from services.payments_webhooks.webhook.events import HANDLED
from services.payments_webhooks.webhook.routes import WebhookRoutes
from services.payments_webhooks.webhook.service import WebhookService

__all__ = ["build"]


def build(runtime: Runtime[PaymentsSettings]) -> Application:
    """Settings to a service."""
    settings, database = runtime.settings, runtime.database
    stripe = Stripe(settings.stripe_api_key.get_secret_value(), settings.stripe_api_base)
    orders = orders_pb2_grpc.OrdersServiceStub(runtime.channel(settings.orders_grpc))
    accounts = accounts_pb2_grpc.AccountsServiceStub(runtime.channel(settings.accounts_grpc))
    keys = rpc.key_set(accounts.GetSigningKeys, accounts_pb2.GetSigningKeysRequest(), step="accounts.GetSigningKeys")
    ended = rpc.revocation_list(
        accounts.ListRevocations, accounts_pb2.ListRevocationsRequest(), step="accounts.ListRevocations"
    )
    verifier = TokenVerifier(keys, revoked=Revocations(ended, runtime.cache))
    intents = IntentService(database, stripe, settings.public_url)
    refunds = RefundService(database, stripe, orders)
    told = IntentEvents(database, stripe, orders)
    handlers = {
        **told.handlers(),
        **SessionEvents(database, told).handlers(),
        **RefundEvents(database, stripe, told, refunds).handlers(),
        **DisputeEvents(stripe, told).handlers(),
        **SubscriptionEvents(database, stripe).handlers(),
    }
    handled = {event_type: handlers[event_type] for event_type in HANDLED}
    webhooks = WebhookService(database, settings.webhook_secrets(), handled, told.told(), runtime.worker)
    reconciler = ReconcileService(database, stripe, settings.reconcile_grace_seconds)
    notifications = notifications_pb2_grpc.NotificationsServiceStub(runtime.channel(settings.notifications_grpc))
    jobs.register(runtime.worker, webhooks, refunds, reconciler, Notices(database, Notifications(notifications)))
    admin = admin_pb2_grpc.AdminServiceStub(runtime.channel(settings.admin_grpc))
    log = rpc.audit_log(admin.AppendAudit, admin_pb2.AppendAuditRequest, step="admin.AppendAudit")
    audit.deliver(runtime.worker, database, log)
    customers = CustomerService(database, stripe)
    pay = PayService(database, intents, Orders(orders), customers)
    subscriptions = SubscriptionService(database, stripe, customers)
    erasure = ErasureService(database, subscriptions, customers)
    servicer = PaymentsServicer(database, intents, refunds, webhooks, reconciler, DisputeService(database), erasure)
    retention.register(runtime.worker, database, inbox.purge, idempotency.purge)
    return Application(
        endpoints=[
            *WebhookRoutes(webhooks).endpoints(),
            *PayRoutes(pay, customers).endpoints(),
            *SubscriptionRoutes(subscriptions).endpoints(),
            cron(runtime.worker, "reconcile-payments", "reconcile_payments"),
        ],
        rpcs={
            operations_pb2.DESCRIPTOR.services_by_name["OperationsService"]: partial(
                operations_pb2_grpc.add_OperationsServiceServicer_to_server,
                operations_servicer(runtime.worker, database, operations_pb2),
            ),
            payments_pb2.DESCRIPTOR.services_by_name["PaymentsService"]: partial(
                payments_pb2_grpc.add_PaymentsServiceServicer_to_server, servicer
            ),
        },
        authenticate=authenticator(verifier, settings.public_url),
    )
