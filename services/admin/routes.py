"""Admin's routes that are another service's RPC: a new one is one line here."""

from typing import Final

from holdfast.notifications.v1 import notifications_pb2
from holdfast.payments.v1 import payments_pb2
from services.admin.relay.domain import RpcRoute

__all__ = ["NOTIFICATIONS", "PAYMENTS", "TABLE"]

NOTIFICATIONS: Final = notifications_pb2.DESCRIPTOR.services_by_name["NotificationsService"]
PAYMENTS: Final = payments_pb2.DESCRIPTOR.services_by_name["PaymentsService"]
_CAMPAIGNS: Final = "/api/admin/email-campaigns"
_ID: Final = "campaign_id"
_CALL: Final = NOTIFICATIONS.methods_by_name

_PAID: Final = PAYMENTS.methods_by_name
_WEBHOOKS: Final = "/api/admin/webhooks"
_WEBHOOK: Final = "webhook_id"

TABLE: Final = (
    RpcRoute("POST", _CAMPAIGNS, "campaigns", _CALL["CreateCampaign"], status=201, id_field=_ID),
    RpcRoute("POST", f"{_CAMPAIGNS}/send", "campaigns", _CALL["SendCampaign"], status=202, id_field=_ID, once=60),
    RpcRoute("GET", f"{_CAMPAIGNS}/{{id}}/stats", "campaigns", _CALL["GetCampaignStats"], id_field=_ID),
    RpcRoute("GET", _WEBHOOKS, "operations", _PAID["ListWebhooks"]),
    RpcRoute("GET", f"{_WEBHOOKS}/{{id}}", "operations", _PAID["GetWebhook"], id_field=_WEBHOOK),
    RpcRoute("POST", f"{_WEBHOOKS}/{{id}}/replay", "operations", _PAID["ReplayWebhook"], status=202, id_field=_WEBHOOK),
    RpcRoute("GET", "/api/admin/payments/drift", "operations", _PAID["ListDrift"]),
    RpcRoute("POST", "/api/admin/payments/reconcile", "operations", _PAID["Reconcile"], status=202),
    RpcRoute("GET", "/api/admin/payments/disputes", "operations", _PAID["ListDisputes"]),
)
