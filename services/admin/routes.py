"""Admin's routes that are another service's RPC: a new one is one line here."""

from typing import Final

from holdfast.accounts.v1 import accounts_pb2
from holdfast.notifications.v1 import notifications_pb2
from holdfast.orders.v1 import appointment_desk_pb2, coupon_desk_pb2, order_desk_pb2
from holdfast.payments.v1 import payments_pb2
from services.admin.relay.domain import RpcRoute

__all__ = ["ACCOUNTS", "APPOINTMENT_DESK", "COUPON_DESK", "NOTIFICATIONS", "ORDER_DESK", "PAYMENTS", "TABLE"]

ACCOUNTS: Final = accounts_pb2.DESCRIPTOR.services_by_name["AccountsService"]
NOTIFICATIONS: Final = notifications_pb2.DESCRIPTOR.services_by_name["NotificationsService"]
PAYMENTS: Final = payments_pb2.DESCRIPTOR.services_by_name["PaymentsService"]
_CAMPAIGNS: Final = "/api/admin/email-campaigns"
_EMAILS: Final = "/api/admin/emails"
_ID: Final = "campaign_id"
_EMAIL: Final = "email_id"
_CALL: Final = NOTIFICATIONS.methods_by_name

_PAID: Final = PAYMENTS.methods_by_name
_WEBHOOKS: Final = "/api/admin/webhooks"
_WEBHOOK: Final = "webhook_id"

_KNOWN: Final = ACCOUNTS.methods_by_name
_STAFF: Final = "/api/admin/staff"
_MEMBER: Final = "member_id"
_CUSTOMERS: Final = "/api/admin/customers"
_CUSTOMER: Final = "customer_id"
ORDER_DESK: Final = order_desk_pb2.DESCRIPTOR.services_by_name["OrderDeskService"]
_DESK: Final = ORDER_DESK.methods_by_name
_ORDERS: Final = "/api/admin/orders"
_ORDER: Final = "order_id"

COUPON_DESK: Final = coupon_desk_pb2.DESCRIPTOR.services_by_name["CouponDeskService"]
_OFFER: Final = COUPON_DESK.methods_by_name
_COUPONS: Final = "/api/admin/coupons"
_COUPON: Final = "coupon_id"

APPOINTMENT_DESK: Final = appointment_desk_pb2.DESCRIPTOR.services_by_name["AppointmentDeskService"]
_BOOK: Final = APPOINTMENT_DESK.methods_by_name
_APPOINTMENTS: Final = "/api/admin/appointments"
_APPOINTMENT: Final = "appointment_id"

TABLE: Final = (
    RpcRoute("POST", _CAMPAIGNS, "campaigns", _CALL["CreateCampaign"], status=201, id_field=_ID),
    RpcRoute("POST", f"{_CAMPAIGNS}/send", "campaigns", _CALL["SendCampaign"], status=202, id_field=_ID, once=60),
    RpcRoute("GET", _CAMPAIGNS, "campaigns", _CALL["ListCampaigns"]),
    RpcRoute("GET", f"{_CAMPAIGNS}/{{id}}", "campaigns", _CALL["GetCampaign"], id_field=_ID),
    RpcRoute("PATCH", f"{_CAMPAIGNS}/{{id}}", "campaigns", _CALL["UpdateCampaign"], id_field=_ID),
    RpcRoute("DELETE", f"{_CAMPAIGNS}/{{id}}", "campaigns", _CALL["DeleteCampaign"], id_field=_ID),
    RpcRoute("POST", f"{_CAMPAIGNS}/{{id}}/test", "campaigns", _CALL["TestCampaign"], status=202, id_field=_ID, once=5),
    RpcRoute("POST", f"{_CAMPAIGNS}/{{id}}/pause", "campaigns", _CALL["PauseCampaign"], id_field=_ID),
    RpcRoute("POST", f"{_CAMPAIGNS}/{{id}}/resume", "campaigns", _CALL["ResumeCampaign"], id_field=_ID),
    RpcRoute("POST", f"{_CAMPAIGNS}/{{id}}/cancel", "campaigns", _CALL["CancelCampaign"], id_field=_ID),
    RpcRoute("GET", f"{_CAMPAIGNS}/{{id}}/stats", "campaigns", _CALL["GetCampaignStats"], id_field=_ID),
    RpcRoute("GET", f"{_CAMPAIGNS}/{{id}}/undelivered", "campaigns", _CALL["ListUndelivered"], id_field=_ID),
    RpcRoute("GET", f"{_CAMPAIGNS}/{{id}}/preview", "campaigns", _CALL["PreviewCampaign"], id_field=_ID),
    RpcRoute("GET", "/api/admin/email-templates", "campaigns", _CALL["ListTemplates"]),
    RpcRoute("GET", "/api/admin/email-templates/{name}/preview", "campaigns", _CALL["PreviewTemplate"]),
    RpcRoute("GET", _EMAILS, "campaigns", _CALL["ListEmails"]),
    RpcRoute("POST", f"{_EMAILS}/{{id}}/retry", "campaigns", _CALL["RetryEmail"], id_field=_EMAIL),
    RpcRoute("POST", f"{_EMAILS}/{{id}}/discard", "campaigns", _CALL["DiscardEmail"], id_field=_EMAIL),
    RpcRoute("GET", _WEBHOOKS, "operations", _PAID["ListWebhooks"]),
    RpcRoute("GET", f"{_WEBHOOKS}/{{id}}", "operations", _PAID["GetWebhook"], id_field=_WEBHOOK),
    RpcRoute("POST", f"{_WEBHOOKS}/{{id}}/replay", "operations", _PAID["ReplayWebhook"], status=202, id_field=_WEBHOOK),
    RpcRoute("GET", "/api/admin/payments/drift", "operations", _PAID["ListDrift"]),
    RpcRoute("POST", "/api/admin/payments/reconcile", "operations", _PAID["Reconcile"], status=202),
    RpcRoute("GET", "/api/admin/payments/disputes", "operations", _PAID["ListDisputes"]),
    RpcRoute("GET", _STAFF, "staff", _KNOWN["ListStaff"]),
    RpcRoute("POST", _STAFF, "staff", _KNOWN["InviteStaff"], status=201, id_field=_MEMBER),
    RpcRoute("PATCH", f"{_STAFF}/{{id}}", "staff", _KNOWN["UpdateStaff"], id_field=_MEMBER),
    RpcRoute("DELETE", f"{_STAFF}/{{id}}", "staff", _KNOWN["RemoveStaff"], id_field=_MEMBER),
    RpcRoute("POST", f"{_CUSTOMERS}/{{id}}/suspend", "customers", _KNOWN["SuspendCustomer"], id_field=_CUSTOMER),
    RpcRoute("POST", f"{_CUSTOMERS}/{{id}}/reinstate", "customers", _KNOWN["ReinstateCustomer"], id_field=_CUSTOMER),
    RpcRoute("GET", _ORDERS, "orders", _DESK["ListOrders"]),
    RpcRoute("GET", f"{_ORDERS}/{{id}}", "orders", _DESK["GetOrder"], id_field=_ORDER),
    RpcRoute("POST", f"{_ORDERS}/{{id}}/refund", "refunds", _DESK["RefundOrder"], 202, id_field=_ORDER, keyed=True),
    RpcRoute("POST", f"{_ORDERS}/{{id}}/cancel", "orders", _DESK["CancelOrder"], id_field=_ORDER),
    RpcRoute("POST", f"{_ORDERS}/{{id}}/fulfil", "orders", _DESK["FulfilOrder"], id_field=_ORDER),
    RpcRoute(
        "POST",
        f"{_ORDERS}/{{id}}/resend-confirmation",
        "orders",
        _DESK["ResendConfirmation"],
        202,
        id_field=_ORDER,
        once=60,
    ),
    RpcRoute("GET", _COUPONS, "orders", _OFFER["ListCoupons"]),
    RpcRoute("POST", _COUPONS, "orders", _OFFER["CreateCoupon"], 201, unwrap="coupon"),
    RpcRoute("PATCH", f"{_COUPONS}/{{id}}", "orders", _OFFER["UpdateCoupon"], id_field=_COUPON, unwrap="coupon"),
    RpcRoute("DELETE", f"{_COUPONS}/{{id}}", "orders", _OFFER["DeleteCoupon"], id_field=_COUPON),
    RpcRoute("GET", _APPOINTMENTS, "orders", _BOOK["ListAppointments"]),
    RpcRoute("POST", _APPOINTMENTS, "orders", _BOOK["BookAppointment"], 201, unwrap="appointment"),
    RpcRoute(
        "PATCH",
        f"{_APPOINTMENTS}/{{id}}",
        "orders",
        _BOOK["UpdateAppointment"],
        id_field=_APPOINTMENT,
        unwrap="appointment",
    ),
    RpcRoute("GET", "/api/admin/availability", "orders", _BOOK["GetAvailability"]),
    RpcRoute("PUT", "/api/admin/availability", "orders", _BOOK["SetAvailability"]),
)
