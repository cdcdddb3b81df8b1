"""gRPC edge: decode, call the service, encode."""

from datetime import UTC
from typing import Any

import grpc.aio
import orjson

from holdfast.common.v1.money_pb2 import Money
from holdfast.notifications.v1 import notifications_pb2 as pb
from holdfast.notifications.v1 import notifications_pb2_grpc
from reliability.crash_points import crash_point
from reliability.errors import FieldError, ValidationFailed
from services.notifications.campaigns.domain import Started
from services.notifications.campaigns.service import CampaignService
from services.notifications.contacts.service import ContactService
from services.notifications.mail.samples import SAMPLES
from services.notifications.mail.service import MailService
from services.notifications.mail.templates import Templates
from services.notifications.schemas import (
    CampaignChange,
    CampaignDraft,
    CustomerChange,
    CustomerErasure,
    EmailPage,
    MailRequest,
    MailTo,
    OrderPaid,
    OrderRefund,
    Page,
    UndeliveredPage,
    checked,
)

__all__ = ["NotificationsServicer"]

Context = grpc.aio.ServicerContext[Any, Any]


class NotificationsServicer(notifications_pb2_grpc.NotificationsServiceServicer):
    """`holdfast.notifications.v1.NotificationsService`."""

    def __init__(
        self, mail: MailService, campaigns: CampaignService, contacts: ContactService, templates: Templates
    ) -> None:
        self._mail = mail
        self._campaigns = campaigns
        self._contacts = contacts
        self._templates = templates

    async def SendEmail(self, request: pb.SendEmailRequest, context: Context) -> pb.SendEmailResponse:
        fields = {
            "idempotency_key": request.idempotency_key,
            "to": request.to,
            "template": request.template,
            "data": _json(request, "data_json"),
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
            "changed_at": _instant(request, "changed_at"),
        }
        await self._contacts.record_change(checked(CustomerChange, fields))
        return pb.RecordCustomerChangedResponse()

    async def CreateCampaign(self, request: pb.CreateCampaignRequest, context: Context) -> pb.CreateCampaignResponse:
        body = request.WhichOneof("body")
        fields: dict[str, Any] = {
            "name": request.name,
            "subject": request.subject,
            **({body: getattr(request, body)} if body else {}),
            "audience": _audience(request.audience),
            "staff_id": request.staff_id,
        }
        return await self._campaigns.create(checked(CampaignDraft, fields), _drafted)

    async def RecordCustomerErased(
        self, request: pb.RecordCustomerErasedRequest, context: Context
    ) -> pb.RecordCustomerErasedResponse:
        fields = {"customer_id": request.customer_id, "email": request.email}
        await self._contacts.erase(checked(CustomerErasure, fields))
        return pb.RecordCustomerErasedResponse()

    async def RecordOrderPaid(self, request: pb.RecordOrderPaidRequest, context: Context) -> pb.RecordOrderPaidResponse:
        fields = {
            "order_id": request.order_id,
            "customer_id": request.customer_id or None,
            "email": request.email,
            "total": _money(request.total),
            "product_ids": list(request.product_ids),
            "paid_at": _instant(request, "paid_at"),
            "confirmation": _json(request, "confirmation_json") if request.confirmation_json else None,
        }
        paid = checked(OrderPaid, fields)
        if paid.confirmation is None:
            await self._contacts.record_paid(paid)
            return pb.RecordOrderPaidResponse()
        email_id = await self._mail.confirm_order(paid, paid.confirmation)
        crash_point("confirmation.not_answered")
        return pb.RecordOrderPaidResponse(email_id=email_id)

    async def RecordOrderRefunded(
        self, request: pb.RecordOrderRefundedRequest, context: Context
    ) -> pb.RecordOrderRefundedResponse:
        fields = {"order_id": request.order_id, "refunded": _money(request.refunded), "known": request.refunds_known}
        await self._contacts.record_refund(checked(OrderRefund, fields))
        return pb.RecordOrderRefundedResponse()

    async def UpdateCampaign(self, request: pb.UpdateCampaignRequest, context: Context) -> pb.UpdateCampaignResponse:
        fields = _given(request, *_DRAFT_FIELDS)
        if request.HasField("audience"):
            fields["audience"] = _audience(request.audience)
        await self._campaigns.update(request.campaign_id, checked(CampaignChange, fields), request.staff_id)
        return pb.UpdateCampaignResponse(campaign_id=request.campaign_id, status="draft")

    async def DeleteCampaign(self, request: pb.DeleteCampaignRequest, context: Context) -> pb.DeleteCampaignResponse:
        await self._campaigns.delete(request.campaign_id, request.staff_id)
        return pb.DeleteCampaignResponse(campaign_id=request.campaign_id)

    async def GetCampaign(self, request: pb.GetCampaignRequest, context: Context) -> pb.GetCampaignResponse:
        return _campaign(await self._campaigns.get(request.campaign_id))

    async def ListCampaigns(self, request: pb.ListCampaignsRequest, context: Context) -> pb.ListCampaignsResponse:
        page = checked(Page, _given(request, "limit", "cursor"))
        rows = await self._campaigns.listed(page.cursor, page.limit + 1)
        items = [
            pb.CampaignSummary(
                id=str(row["id"]),
                name=row["name"],
                subject=row["subject"],
                status=row["status"],
                recipients=row["recipients"],
                created_at=row["created_at"],
            )
            for row in rows[: page.limit]
        ]
        return pb.ListCampaignsResponse(items=items, next_cursor=items[-1].id if len(rows) > page.limit else None)

    async def TestCampaign(self, request: pb.TestCampaignRequest, context: Context) -> pb.TestCampaignResponse:
        to = checked(MailTo, {"to": request.to}).to
        return pb.TestCampaignResponse(email_id=await self._campaigns.test(request.campaign_id, to, request.staff_id))

    async def PauseCampaign(self, request: pb.PauseCampaignRequest, context: Context) -> pb.PauseCampaignResponse:
        await self._campaigns.pause(request.campaign_id, request.staff_id)
        return pb.PauseCampaignResponse(campaign_id=request.campaign_id, status="paused")

    async def ResumeCampaign(self, request: pb.ResumeCampaignRequest, context: Context) -> pb.ResumeCampaignResponse:
        await self._campaigns.resume(request.campaign_id, request.staff_id)
        return pb.ResumeCampaignResponse(campaign_id=request.campaign_id, status="sending")

    async def CancelCampaign(self, request: pb.CancelCampaignRequest, context: Context) -> pb.CancelCampaignResponse:
        await self._campaigns.cancel(request.campaign_id, request.staff_id)
        return pb.CancelCampaignResponse(campaign_id=request.campaign_id, status="cancelled")

    async def PreviewCampaign(self, request: pb.PreviewCampaignRequest, context: Context) -> pb.PreviewCampaignResponse:
        shown = await self._campaigns.preview(request.campaign_id)
        return pb.PreviewCampaignResponse(subject=shown.subject, html=shown.html, text=shown.text)

    async def ListTemplates(self, request: pb.ListTemplatesRequest, context: Context) -> pb.ListTemplatesResponse:
        found = [self._templates.find(name) for name in self._templates.names]
        return pb.ListTemplatesResponse(
            items=[
                pb.TemplateSummary(name=each.name, marketing=each.topic is not None, critical=each.critical)
                for each in found
            ]
        )

    async def PreviewTemplate(self, request: pb.PreviewTemplateRequest, context: Context) -> pb.PreviewTemplateResponse:
        template = self._templates.find(request.name)
        _, shown = self._templates.render(template, SAMPLES[template.name], unsubscribe="#", attached=True)
        return pb.PreviewTemplateResponse(subject=shown.subject, html=shown.html, text=shown.text)

    async def ListEmails(self, request: pb.ListEmailsRequest, context: Context) -> pb.ListEmailsResponse:
        page = checked(EmailPage, _given(request, "state", "to", "limit", "cursor"))
        rows = await self._mail.listed(state=page.state, before=page.cursor, to=page.to, limit=page.limit + 1)
        items = [_email(row) for row in rows[: page.limit]]
        return pb.ListEmailsResponse(items=items, next_cursor=items[-1].id if len(rows) > page.limit else None)

    async def RetryEmail(self, request: pb.RetryEmailRequest, context: Context) -> pb.RetryEmailResponse:
        await self._mail.retry(request.email_id, request.staff_id)
        return pb.RetryEmailResponse(email_id=request.email_id, state="queued")

    async def DiscardEmail(self, request: pb.DiscardEmailRequest, context: Context) -> pb.DiscardEmailResponse:
        await self._mail.discard(request.email_id, request.staff_id)
        return pb.DiscardEmailResponse(email_id=request.email_id)

    async def SendCampaign(self, request: pb.SendCampaignRequest, context: Context) -> pb.SendCampaignResponse:
        at = _instant(request, "scheduled_at")
        if at is None and request.HasField("scheduled_at"):
            raise ValidationFailed([FieldError("/scheduled_at", "is no time")])
        return await self._campaigns.send(request.campaign_id, request.staff_id, at, _started)

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
            cancelled=stats.cancelled,
        )

    async def ListUndelivered(self, request: pb.ListUndeliveredRequest, context: Context) -> pb.ListUndeliveredResponse:
        page = checked(UndeliveredPage, _given(request, "state", "limit", "cursor"))
        rows = await self._campaigns.undelivered(
            request.campaign_id, state=page.state, after=page.cursor, limit=page.limit + 1
        )
        items = [
            pb.Undelivered(
                contact_id=str(row["contact_id"]),
                email=row["email"],
                state=row["state"],
                attempts=row["attempts"],
                last_error=row["last_error"],
                settled_at=row["settled_at"],
            )
            for row in rows[: page.limit]
        ]
        following = items[-1].contact_id if len(rows) > page.limit else None
        return pb.ListUndeliveredResponse(items=items, next_cursor=following)

    async def GetSummary(self, request: pb.GetSummaryRequest, context: Context) -> pb.GetSummaryResponse:
        summary = await self._mail.summary()
        return pb.GetSummaryResponse(failed_emails=summary.failed_emails, dead_letters=summary.dead_letters)


def _drafted(campaign_id: str) -> pb.CreateCampaignResponse:
    return pb.CreateCampaignResponse(campaign_id=campaign_id, status="draft")


def _started(started: Started) -> pb.SendCampaignResponse:
    return pb.SendCampaignResponse(campaign_id=started.id, status=started.status, recipients=started.recipients)


def _json(request: Any, field: str) -> Any:
    try:
        return orjson.loads(getattr(request, field))
    except orjson.JSONDecodeError as error:
        raise ValidationFailed([FieldError(f"/{field}", f"is not well-formed JSON: {error.msg}")]) from None


def _instant(request: Any, field: str) -> Any:
    """A time in a request; None, which no schema takes, when it is missing or no time at all."""
    if not request.HasField(field):
        return None
    try:
        return getattr(request, field).ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def _given(request: Any, *names: str) -> dict[str, Any]:
    """The optional fields that were given."""
    return {name: getattr(request, name) for name in names if request.HasField(name)}


def _money(money: Any) -> dict[str, Any]:
    return {"amount": money.amount, "currency": money.currency}


def _audience(audience: pb.Audience) -> dict[str, Any]:
    return {
        "all": audience.all,
        "bought_product_ids": list(audience.bought_product_ids),
        **({"spent_over": _money(audience.spent_over)} if audience.HasField("spent_over") else {}),
        **_given(audience, "inactive_days"),
    }


def _campaign(row: Any) -> pb.GetCampaignResponse:
    audience = {name: value for name, value in row["audience"].items() if value is not None}
    if "spent_over" in audience:
        audience["spent_over"] = Money(**audience["spent_over"])
    return pb.GetCampaignResponse(
        campaign_id=str(row["id"]),
        audience=pb.Audience(**audience),
        **{name: row[name] for name in _CAMPAIGN_FIELDS},
    )


def _email(row: Any) -> pb.EmailSummary:
    return pb.EmailSummary(id=str(row["id"]), **{name: row[name] for name in _EMAIL_FIELDS})


_DRAFT_FIELDS = ("name", "subject", "template", "html")
_CAMPAIGN_FIELDS = (
    *_DRAFT_FIELDS,
    "status",
    "recipients",
    "created_at",
    "scheduled_at",
    "started_at",
    "finished_at",
)
_EMAIL_FIELDS = (
    "to",
    "template",
    "state",
    "attempts",
    "last_error",
    "correlation_id",
    "created_at",
    "sent_at",
    "discarded",
)
