"""The composition root of orders."""

from functools import partial

from holdfast.accounts.v1 import accounts_pb2, accounts_pb2_grpc
from holdfast.admin.v1 import admin_pb2, admin_pb2_grpc
from holdfast.catalog.v1 import catalog_pb2_grpc
from holdfast.common.v1 import operations_pb2, operations_pb2_grpc
from holdfast.notifications.v1 import notifications_pb2_grpc
from holdfast.orders.v1 import (
    appointment_desk_pb2,
    appointment_desk_pb2_grpc,
    coupon_desk_pb2,
    coupon_desk_pb2_grpc,
    order_desk_pb2,
    order_desk_pb2_grpc,
    orders_pb2,
    orders_pb2_grpc,
)
from holdfast.payments.v1 import payments_pb2_grpc
from reliability import audit, idempotency, retention, rpc
from reliability.asgi import authenticator
from reliability.asgi.cron import cron
from reliability.rate_limit import RateLimiter
from reliability.revocation import Revocations
from reliability.rpc.operations import operations_servicer
from reliability.runtime import Application, Runtime
from reliability.tokens import TokenVerifier
from services.orders.appointment import jobs as appointment_jobs
from services.orders.appointment.desk import AppointmentDesk
from services.orders.appointment.reminders import ReminderService
from services.orders.appointment.routes import AppointmentRoutes
from services.orders.appointment.service import AppointmentService
from services.orders.appointment.servicer import AppointmentDeskServicer
from services.orders.audience import jobs as audience_jobs
from services.orders.audience.service import AudienceService
from services.orders.cart import jobs as cart_jobs
from services.orders.cart.abandoned import AbandonedCartService
from services.orders.cart.cookie import Signer
from services.orders.cart.owners import Owners
from services.orders.cart.routes import CartRoutes
from services.orders.cart.service import CartService
from services.orders.catalog import Catalog
from services.orders.checkout.routes import CheckoutRoutes
from services.orders.checkout.service import CheckoutService
from services.orders.coupon.desk import CouponDesk
from services.orders.coupon.servicer import CouponDeskServicer
from services.orders.desk.service import OrderDesk
from services.orders.desk.servicer import OrderDeskServicer
from services.orders.erasure.service import ErasureService
from services.orders.history.routes import HistoryRoutes
from services.orders.history.service import HistoryService
from services.orders.notifications import Notifications
from services.orders.order import jobs
from services.orders.order.cancellation import CancellationService
from services.orders.order.fulfilment import FulfilmentService
from services.orders.order.service import OrderService
from services.orders.payments import Payments
from services.orders.refund.service import RefundService
from services.orders.servicer import OrdersServicer
from services.orders.settings import OrdersSettings
from services.orders.tax.rates import RateTable

__all__ = ["build"]


def build(runtime: Runtime[OrdersSettings]) -> Application:
    """Settings to a service."""
    settings, database = runtime.settings, runtime.database
    catalog = Catalog(catalog_pb2_grpc.CatalogServiceStub(runtime.channel(settings.catalog_grpc)))
    payments = Payments(payments_pb2_grpc.PaymentsServiceStub(runtime.channel(settings.payments_grpc)))
    notifications = Notifications(
        notifications_pb2_grpc.NotificationsServiceStub(runtime.channel(settings.notifications_grpc))
    )
    signer = Signer(settings.cart_secret.get_secret_value(), secure=settings.public_url.startswith("https://"))
    order_service = OrderService(database, catalog, notifications, runtime.worker)
    refunds = RefundService(database, payments, notifications)
    cancellation = CancellationService(database, catalog, payments, settings.hold_ttl_seconds)
    checkout = CheckoutService(
        database, catalog, payments, cancellation, signer, RateTable(database), settings.hold_ttl_seconds
    )
    fulfilment = FulfilmentService(database, notifications)
    jobs.register(runtime.worker, order_service, cancellation, refunds, fulfilment)
    audience_jobs.register(runtime.worker, AudienceService(database, notifications))
    cart_jobs.register(runtime.worker, AbandonedCartService(database, notifications, settings.public_url))
    appointment_jobs.register(runtime.worker, ReminderService(database, notifications))
    accounts = accounts_pb2_grpc.AccountsServiceStub(runtime.channel(settings.accounts_grpc))
    keys = rpc.key_set(accounts.GetSigningKeys, accounts_pb2.GetSigningKeysRequest(), step="accounts.GetSigningKeys")
    ended = rpc.revocation_list(
        accounts.ListRevocations, accounts_pb2.ListRevocationsRequest(), step="accounts.ListRevocations"
    )
    admin = admin_pb2_grpc.AdminServiceStub(runtime.channel(settings.admin_grpc))
    log = rpc.audit_log(admin.AppendAudit, admin_pb2.AppendAuditRequest, step="admin.AppendAudit")
    audit.deliver(runtime.worker, database, log)
    verifier = TokenVerifier(keys, revoked=Revocations(ended, runtime.cache))
    authenticate = authenticator(verifier, settings.public_url)
    owners = Owners(authenticate, signer, settings.public_url)
    retention.register(runtime.worker, database, idempotency.purge)
    return Application(
        endpoints=[
            *CartRoutes(CartService(database, catalog), owners, signer).endpoints(),
            *CheckoutRoutes(checkout, owners, RateLimiter(runtime.cache)).endpoints(),
            *HistoryRoutes(HistoryService(database, catalog, cancellation)).endpoints(),
            *AppointmentRoutes(AppointmentService(database)).endpoints(),
            cron(runtime.worker, "appointment-reminders", "appointment_reminders"),
            cron(runtime.worker, "abandoned-carts", "abandoned_carts"),
            cron(runtime.worker, "release-expired-holds", "expired_holds"),
        ],
        rpcs={
            operations_pb2.DESCRIPTOR.services_by_name["OperationsService"]: partial(
                operations_pb2_grpc.add_OperationsServiceServicer_to_server,
                operations_servicer(runtime.worker, database, operations_pb2),
            ),
            orders_pb2.DESCRIPTOR.services_by_name["OrdersService"]: partial(
                orders_pb2_grpc.add_OrdersServiceServicer_to_server,
                OrdersServicer(order_service, refunds, ErasureService(database)),
            ),
            order_desk_pb2.DESCRIPTOR.services_by_name["OrderDeskService"]: partial(
                order_desk_pb2_grpc.add_OrderDeskServiceServicer_to_server,
                OrderDeskServicer(OrderDesk(database), refunds, cancellation, fulfilment),
            ),
            coupon_desk_pb2.DESCRIPTOR.services_by_name["CouponDeskService"]: partial(
                coupon_desk_pb2_grpc.add_CouponDeskServiceServicer_to_server, CouponDeskServicer(CouponDesk(database))
            ),
            appointment_desk_pb2.DESCRIPTOR.services_by_name["AppointmentDeskService"]: partial(
                appointment_desk_pb2_grpc.add_AppointmentDeskServiceServicer_to_server,
                AppointmentDeskServicer(AppointmentDesk(database)),
            ),
        },
        authenticate=authenticate,
    )
