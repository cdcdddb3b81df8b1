"""The composition root of admin."""

from functools import partial

from holdfast.accounts.v1 import accounts_pb2, accounts_pb2_grpc
from holdfast.admin.v1 import admin_pb2, admin_pb2_grpc
from holdfast.common.v1 import operations_pb2_grpc
from holdfast.notifications.v1 import notifications_pb2_grpc
from holdfast.orders.v1 import order_desk_pb2_grpc, orders_pb2_grpc
from holdfast.payments.v1 import payments_pb2_grpc
from reliability import audit, rpc
from reliability.asgi import authenticator
from reliability.asgi.cron import cron
from reliability.retention import PURGE
from reliability.revocation import Revocations
from reliability.runtime import Application, Runtime
from reliability.tokens import TokenVerifier
from services.admin.audit import jobs as audit_jobs
from services.admin.audit import routes as audit_routes
from services.admin.audit.service import AuditService
from services.admin.dashboard import routes as dashboard_routes
from services.admin.dashboard.service import DashboardService, Sources
from services.admin.docs import routes as docs_routes
from services.admin.export import routes as export_routes
from services.admin.export.service import ExportService
from services.admin.health import routes as health_routes
from services.admin.health.service import HealthService
from services.admin.incidents import routes as incident_routes
from services.admin.incidents.service import IncidentService
from services.admin.operations import jobs as operation_jobs
from services.admin.operations import routes as operation_routes
from services.admin.operations.service import OperationsService
from services.admin.relay import routes as relay_routes
from services.admin.relay.service import Relay
from services.admin.routes import (
    ACCOUNTS,
    APPOINTMENT_DESK,
    COUPON_DESK,
    NOTIFICATIONS,
    ORDER_DESK,
    PAYMENTS,
    TABLE,
)
from services.admin.servicer import AdminServicer
from services.admin.settings import AdminSettings
from services.admin.traces import jobs as trace_jobs
from services.admin.traces import routes as trace_routes
from services.admin.traces.flows import Flows
from services.admin.traces.receiver import receiver
from services.admin.traces.service import TraceService

__all__ = ["build"]

# In one answer; a Link header leads to the rest.
_EXPORTED_ROWS = 5_000


def build(runtime: Runtime[AdminSettings]) -> Application:
    """Admin, ready to be served."""
    settings, database = runtime.settings, runtime.database
    channels = {
        "catalog": runtime.channel(settings.catalog_grpc),
        "orders": runtime.channel(settings.orders_grpc),
        "payments-webhooks": runtime.channel(settings.payments_grpc),
        "notifications": runtime.channel(settings.notifications_grpc),
        "accounts": runtime.channel(settings.accounts_grpc),
    }
    sources = Sources(
        orders_pb2_grpc.OrdersServiceStub(channels["orders"]),
        payments_pb2_grpc.PaymentsServiceStub(channels["payments-webhooks"]),
        notifications_pb2_grpc.NotificationsServiceStub(channels["notifications"]),
        database,
    )
    relay = Relay(
        {
            ACCOUNTS.full_name: channels["accounts"],
            NOTIFICATIONS.full_name: channels["notifications"],
            PAYMENTS.full_name: channels["payments-webhooks"],
            **{desk.full_name: channels["orders"] for desk in (ORDER_DESK, COUPON_DESK, APPOINTMENT_DESK)},
        },
        database,
        runtime.cache,
    )
    desk = order_desk_pb2_grpc.OrderDeskServiceStub(channels["orders"])
    traces = TraceService(database, retention_days=settings.span_retention_days)
    trace_jobs.register(runtime.worker, traces)
    audit_log = AuditService(database, own_name=runtime.name)
    incidents = IncidentService(database)
    stubs = {name: operations_pb2_grpc.OperationsServiceStub(channel) for name, channel in channels.items()}
    operations = OperationsService(stubs, database, own_name=runtime.name)
    operation_jobs.register(runtime.worker, operations)
    audit_jobs.register(runtime.worker, audit_log)
    audit.deliver(runtime.worker, database, audit_log.keep)
    accounts = accounts_pb2_grpc.AccountsServiceStub(channels["accounts"])
    keys = rpc.key_set(accounts.GetSigningKeys, accounts_pb2.GetSigningKeysRequest(), step="accounts.GetSigningKeys")
    ended = rpc.revocation_list(
        accounts.ListRevocations, accounts_pb2.ListRevocationsRequest(), step="accounts.ListRevocations"
    )
    verifier = TokenVerifier(keys, revoked=Revocations(ended, runtime.cache))

    return Application(
        endpoints=[
            *export_routes.endpoints(ExportService(desk, _EXPORTED_ROWS)),
            *relay_routes.endpoints(TABLE, relay),
            *dashboard_routes.endpoints(DashboardService(sources), settings.shop_currency),
            *trace_routes.endpoints(traces, Flows(desk)),
            *docs_routes.endpoints(),
            *audit_routes.endpoints(audit_log),
            *incident_routes.endpoints(incidents),
            *operation_routes.endpoints(operations),
            cron(runtime.worker, "purge-expired", PURGE, wait=6.0),
            *health_routes.endpoints(HealthService(channels, (runtime.name, runtime.readiness))),
        ],
        authenticate=authenticator(verifier, settings.public_url),
        rpcs={
            admin_pb2.DESCRIPTOR.services_by_name["AdminService"]: partial(
                admin_pb2_grpc.add_AdminServiceServicer_to_server, AdminServicer(audit_log, incidents)
            )
        },
        raw_routes=[receiver(traces)],
    )
