"""Composition root."""

from email.utils import parseaddr
from functools import partial

from holdfast.accounts.v1 import accounts_pb2, accounts_pb2_grpc
from holdfast.admin.v1 import admin_pb2, admin_pb2_grpc
from holdfast.notifications.v1 import notifications_pb2, notifications_pb2_grpc
from reliability import audit, rpc
from reliability.asgi import authenticator
from reliability.revocation import Revocations
from reliability.runtime import Application, Runtime
from reliability.tokens import TokenVerifier
from services.notifications.campaigns import jobs as campaign_jobs
from services.notifications.campaigns.service import CampaignService
from services.notifications.contacts.service import ContactService
from services.notifications.mail import jobs as mail_jobs
from services.notifications.mail.connections import SmtpServer
from services.notifications.mail.mailer import Mailer
from services.notifications.mail.resend import ResendMailer, ResendServer
from services.notifications.mail.service import MailService
from services.notifications.mail.smtp import SmtpMailer
from services.notifications.mail.templates import Templates
from services.notifications.servicer import NotificationsServicer
from services.notifications.settings import NotificationsSettings

__all__ = ["build", "compose"]


def build(runtime: Runtime[NotificationsSettings]) -> Application:
    """Notifications with the mail server its settings name."""
    settings = runtime.settings
    sender, connections = settings.mail_from, settings.mail_connections
    mailer: Mailer
    if settings.mail_url.scheme.startswith("resend"):
        mailer = ResendMailer(ResendServer.of(settings.mail_url), sender, connections=connections)
    else:
        mailer = SmtpMailer(SmtpServer.of(settings.mail_url), sender, connections=connections)
    return compose(runtime, mailer)


def compose(runtime: Runtime[NotificationsSettings], mailer: Mailer) -> Application:
    """Notifications over any mailer."""
    settings, database, templates = runtime.settings, runtime.database, Templates()
    sender = parseaddr(settings.mail_from)[1]
    domain = sender.rpartition("@")[2]
    mail = MailService(
        database,
        templates,
        mailer,
        domain=domain,
        staff=settings.mail_staff or sender,
        retry_seconds=settings.mail_retry_seconds,
    )
    campaigns = CampaignService(
        database,
        templates,
        mailer,
        domain=domain,
        retry_seconds=settings.mail_retry_seconds,
        batch_size=settings.campaign_batch,
        lanes=settings.campaign_lanes,
    )
    mail_jobs.register(runtime.worker, mail)
    campaign_jobs.register(runtime.worker, campaigns)
    accounts = accounts_pb2_grpc.AccountsServiceStub(runtime.channel(settings.accounts_grpc))
    keys = rpc.key_set(accounts.GetSigningKeys, accounts_pb2.GetSigningKeysRequest(), step="accounts.GetSigningKeys")
    ended = rpc.revocation_list(
        accounts.ListRevocations, accounts_pb2.ListRevocationsRequest(), step="accounts.ListRevocations"
    )
    verifier = TokenVerifier(keys, revoked=Revocations(ended, runtime.cache))
    admin = admin_pb2_grpc.AdminServiceStub(runtime.channel(settings.admin_grpc))
    log = rpc.audit_log(admin.AppendAudit, admin_pb2.AppendAuditRequest, step="admin.AppendAudit")
    audit.deliver(worker, database, log)
    servicer = NotificationsServicer(mail, campaigns, ContactService(database), templates)
    add = partial(notifications_pb2_grpc.add_NotificationsServiceServicer_to_server, servicer)
    return Application(
        rpcs={notifications_pb2.DESCRIPTOR.services_by_name["NotificationsService"]: add},
        authenticate=authenticator(verifier, settings.public_url),
    )
