"""Admin's routes that are another service's RPC: a new one is one line here."""

from typing import Final

from holdfast.notifications.v1 import notifications_pb2
from services.admin.relay.domain import RpcRoute

__all__ = ["NOTIFICATIONS", "TABLE"]

NOTIFICATIONS: Final = notifications_pb2.DESCRIPTOR.services_by_name["NotificationsService"]
_CAMPAIGNS: Final = "/api/admin/email-campaigns"
_ID: Final = "campaign_id"
_CALL: Final = NOTIFICATIONS.methods_by_name

TABLE: Final = (
    RpcRoute("POST", _CAMPAIGNS, "campaigns", _CALL["CreateCampaign"], status=201, id_field=_ID),
    RpcRoute("POST", f"{_CAMPAIGNS}/send", "campaigns", _CALL["SendCampaign"], status=202, id_field=_ID, once=60),
    RpcRoute("GET", f"{_CAMPAIGNS}/{{id}}/stats", "campaigns", _CALL["GetCampaignStats"], id_field=_ID),
)
