"""Composition root."""

from email.utils import parseaddr
from functools import partial

from holdfast.accounts.v1 import accounts_pb2, accounts_pb2_grpc
from holdfast.admin.v1 import admin_pb2, admin_pb2_grpc
from holdfast.common.v1 import operations_pb2, operations_pb2_grpc
from holdfast.notifications.v1 import notifications_pb2, notifications_pb2_grpc
from reliability import audit, idempotency, retention, rpc
from reliability.asgi import authenticator
from reliability.asgi.cron import cron
from reliability.rate_limit import RateLimiter
from reliability.revocation import Revocations
from reliability.rpc.operations import operations_servicer
from reliability.runtime import Application, Runtime
from reliability.tokens import TokenVerifier
from services.notifications.campaigns import jobs as campaign_jobs
from services.notifications.campaigns.pace import Pace
from services.notifications.campaigns.sending import WINDOW, CampaignSender
from services.notifications.campaigns.service import CampaignService
from services.notifications.consent import jobs as consent_jobs
from services.notifications.consent import routes as consent_routes
from services.notifications.consent.service import ConsentService
from services.notifications.consent.tokens import Links
from services.notifications.contacts import jobs as contact_jobs
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
    settings, database, templates, worker = runtime.settings, runtime.database, Templates(), runtime.worker
    sender = parseaddr(settings.mail_from)[1]
    domain, retry_seconds, lanes = sender.rpartition("@")[2], settings.mail_retry_seconds, settings.campaign_lanes
    links = Links(settings.link_secret.get_secret_value(), settings.public_url)
    mail = MailService(
        database,
        templates,
        mailer,
        domain=domain,
        staff=settings.mail_staff or sender,
        retry_seconds=retry_seconds,
        links=links,
        worker=worker,
    )
    batch_size = mailer.batches.size if mailer.batches else settings.campaign_batch
    pace = Pace(RateLimiter(runtime.cache), per_second=settings.campaign_rate, burst=max(batch_size, WINDOW))
    campaigns = CampaignService(database, templates, mail, domain=domain, batch_size=batch_size, lanes=lanes)
    sending = CampaignSender(database, mailer, links, pace, retry_seconds=retry_seconds, lanes=lanes)
    consent = ConsentService(database, mail, links)
    mail_jobs.register(worker, mail)
    campaign_jobs.register(worker, campaigns, sending)
    consent_jobs.register(worker, consent, database)
    contacts = ContactService(database)
    contact_jobs.register(worker, contacts)
    accounts = accounts_pb2_grpc.AccountsServiceStub(runtime.channel(settings.accounts_grpc))
    keys = rpc.key_set(accounts.GetSigningKeys, accounts_pb2.GetSigningKeysRequest(), step="accounts.GetSigningKeys")
    ended = rpc.revocation_list(
        accounts.ListRevocations, accounts_pb2.ListRevocationsRequest(), step="accounts.ListRevocations"
    )
    verifier = TokenVerifier(keys, revoked=Revocations(ended, runtime.cache))
    admin = admin_pb2_grpc.AdminServiceStub(runtime.channel(settings.admin_grpc))
    log = rpc.audit_log(admin.AppendAudit, admin_pb2.AppendAuditRequest, step="admin.AppendAudit")
    audit.deliver(worker, database, log)
    incidents = rpc.incident_list(admin.RaiseIncident, admin_pb2.RaiseIncidentRequest, step="admin.RaiseIncident")
    mail_jobs.raise_incidents(worker, incidents)
    servicer = NotificationsServicer(mail, campaigns, contacts, templates)
    add = partial(notifications_pb2_grpc.add_NotificationsServiceServicer_to_server, servicer)
    retention.register(worker, database, idempotency.purge, mail.forget)
    return Application(
        endpoints=[
            *consent_routes.endpoints(consent, settings.webhook_secrets),
            cron(worker, "retry-failed-emails", mail_jobs.SWEEP),
        ],
        rpcs={
            notifications_pb2.DESCRIPTOR.services_by_name["NotificationsService"]: add,
            operations_pb2.DESCRIPTOR.services_by_name["OperationsService"]: partial(
                operations_pb2_grpc.add_OperationsServiceServicer_to_server,
                operations_servicer(worker, database, operations_pb2),
            ),
        },
        authenticate=authenticator(verifier, settings.public_url),
    )
