"""gRPC edge: decode, call the service, encode."""

from datetime import UTC
from typing import Any

import grpc.aio
import orjson

from holdfast.notifications.v1 import notifications_pb2 as pb
from holdfast.notifications.v1 import notifications_pb2_grpc
from reliability.crash_points import crash_point
from reliability.errors import FieldError, ValidationFailed
from services.notifications.campaigns.domain import Started
from services.notifications.campaigns.service import CampaignService
from services.notifications.contacts.service import ContactService
from services.notifications.mail.service import MailService
from services.notifications.schemas import CampaignDraft, CustomerChange, MailRequest, checked

__all__ = ["NotificationsServicer"]

Context = grpc.aio.ServicerContext[Any, Any]


class NotificationsServicer(notifications_pb2_grpc.NotificationsServiceServicer):
    """`holdfast.notifications.v1.NotificationsService`."""

    def __init__(self, mail: MailService, campaigns: CampaignService, contacts: ContactService) -> None:
        self._mail = mail
        self._campaigns = campaigns
        self._contacts = contacts

    async def SendEmail(self, request: pb.SendEmailRequest, context: Context) -> pb.SendEmailResponse:
        fields = {
            "idempotency_key": request.idempotency_key,
            "to": request.to,
            "template": request.template,
            "data": _json(request.data_json),
            "calendar_ics": request.calendar_ics,
        }
        email_id = await self._mail.send_email(checked(MailRequest, fields))
        crash_point("mail.not_answered")
        return pb.SendEmailResponse(email_id=email_id)

    async def RecordCustomerChanged(
        self, request: pb.RecordCustomerChangedRequest, context: Context
    ) -> pb.RecordCustomerChangedResponse:
        fields = {
            "customer_id": request.customer_id,
            "email": request.email,
            "name": request.name,
            "marketing_consent": request.marketing_consent,
            "changed_at": _instant(request),
        }
        await self._contacts.record_change(checked(CustomerChange, fields))
        return pb.RecordCustomerChangedResponse()

    async def CreateCampaign(self, request: pb.CreateCampaignRequest, context: Context) -> pb.CreateCampaignResponse:
        body = request.WhichOneof("body")
        fields: dict[str, Any] = {
            "name": request.name,
            "subject": request.subject,
            **({body: getattr(request, body)} if body else {}),
            "audience": {"all": request.audience.all},
            "staff_id": request.staff_id,
        }
        return await self._campaigns.create(checked(CampaignDraft, fields), _drafted)

    async def SendCampaign(self, request: pb.SendCampaignRequest, context: Context) -> pb.SendCampaignResponse:
        return await self._campaigns.send(request.campaign_id, request.staff_id, _started)

    async def GetCampaignStats(
        self, request: pb.GetCampaignStatsRequest, context: Context
    ) -> pb.GetCampaignStatsResponse:
        stats = await self._campaigns.stats(request.campaign_id)
        return pb.GetCampaignStatsResponse(
            recipients=stats.recipients,
            queued=stats.queued,
            sent=stats.sent,
            failed=stats.failed,
            unknown=stats.unknown,
            suppressed=stats.suppressed,
            status=stats.status,
        )

    async def GetSummary(self, request: pb.GetSummaryRequest, context: Context) -> pb.GetSummaryResponse:
        summary = await self._mail.summary()
        return pb.GetSummaryResponse(failed_emails=summary.failed_emails, dead_letters=summary.dead_letters)


def _drafted(campaign_id: str) -> pb.CreateCampaignResponse:
    return pb.CreateCampaignResponse(campaign_id=campaign_id, status="draft")


def _started(started: Started) -> pb.SendCampaignResponse:
    return pb.SendCampaignResponse(campaign_id=started.id, status="sending", recipients=started.recipients)


def _json(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ValidationFailed([FieldError("/data_json", f"is not well-formed JSON: {error.msg}")]) from None


def _instant(request: pb.RecordCustomerChangedRequest) -> Any:
    """The time of a change; None, which no schema takes, when it is missing or no time at all."""
    if not request.HasField("changed_at"):
        return None
    try:
        return request.changed_at.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
