"""The composition root of accounts."""

from functools import partial

from holdfast.accounts.v1 import accounts_pb2, accounts_pb2_grpc
from holdfast.admin.v1 import admin_pb2, admin_pb2_grpc
from holdfast.common.v1 import operations_pb2, operations_pb2_grpc
from holdfast.notifications.v1 import notifications_pb2_grpc
from holdfast.orders.v1 import orders_pb2_grpc
from holdfast.payments.v1 import payments_pb2_grpc
from reliability import audit, idempotency, retention, rpc
from reliability.asgi import authenticator
from reliability.http import HttpClient
from reliability.rate_limit import RateLimiter
from reliability.rpc.operations import operations_servicer
from reliability.runtime import Application, Runtime
from reliability.tokens import TokenVerifier
from services.accounts.addresses.routes import AddressRoutes
from services.accounts.addresses.service import AddressService
from services.accounts.credentials import jobs as credential_jobs
from services.accounts.credentials.routes import CredentialRoutes
from services.accounts.credentials.service import CredentialService
from services.accounts.customers.service import CustomerService
from services.accounts.identity import jobs as identity_jobs
from services.accounts.identity.service import IdentityService
from services.accounts.keys import routes as key_routes
from services.accounts.keys.service import SigningKeys
from services.accounts.mail import jobs as mail_jobs
from services.accounts.mail.jobs import Post
from services.accounts.mail_tokens import jobs as link_jobs
from services.accounts.mail_tokens.domain import Links
from services.accounts.mail_tokens.service import LinkService
from services.accounts.oauth.provider import Provider
from services.accounts.oauth.routes import OauthRoutes
from services.accounts.oauth.service import OauthService
from services.accounts.passwords import Passwords
from services.accounts.profile.routes import ProfileRoutes
from services.accounts.profile.service import ProfileService
from services.accounts.revocation import jobs as revocation_jobs
from services.accounts.revocation.service import RevocationService
from services.accounts.sealing import Sealer
from services.accounts.second_factor.factor import SecondFactor
from services.accounts.second_factor.recovery import RecoveryCodes
from services.accounts.second_factor.routes import SecondFactorRoutes
from services.accounts.second_factor.service import SecondFactorService
from services.accounts.second_factor.totp import Totp
from services.accounts.servicer import AccountsServicer
from services.accounts.session import jobs as session_jobs
from services.accounts.session.cookies import SessionCookies
from services.accounts.session.limits import Guard
from services.accounts.session.routes import SessionRoutes
from services.accounts.session.service import SessionService
from services.accounts.settings import AccountsSettings
from services.accounts.staff.service import StaffService

__all__ = ["build"]


def build(runtime: Runtime[AccountsSettings]) -> Application:
    """Accounts, ready to be served."""
    settings, database, worker = runtime.settings, runtime.database, runtime.worker
    keys = SigningKeys.load(settings.signing_key_file, lifetime=settings.access_token_seconds)
    passwords = Passwords()
    sealer = Sealer(settings.accounts_secret.get_secret_value())
    guard = Guard(runtime.cache, RateLimiter(runtime.cache))
    identity = IdentityService(database, passwords)
    revocations = RevocationService(database, runtime.cache, lifetime=settings.access_token_seconds)
    factor = SecondFactor(Totp(sealer), RecoveryCodes(sealer))
    sessions = SessionService(database, passwords, keys, guard, factor, public_url=settings.public_url)
    notifications = notifications_pb2_grpc.NotificationsServiceStub(runtime.channel(settings.notifications_grpc))
    admin = admin_pb2_grpc.AdminServiceStub(runtime.channel(settings.admin_grpc))
    log = rpc.audit_log(admin.AppendAudit, admin_pb2.AppendAuditRequest, step="admin.AppendAudit")
    audit.deliver(worker, database, log)
    others = identity_jobs.Others(
        notifications,
        orders_pb2_grpc.OrdersServiceStub(runtime.channel(settings.orders_grpc)),
        payments_pb2_grpc.PaymentsServiceStub(runtime.channel(settings.payments_grpc)),
    )
    identity_jobs.register(worker, identity, others)
    post, links = Post(notifications), Links(sealer, settings.public_url)
    credentials = CredentialService(database, passwords, guard, links, public_url=settings.public_url)
    mail_jobs.register(worker, post)
    link_jobs.register(worker, LinkService(database, links, post))
    credential_jobs.register(worker, credentials)
    revocation_jobs.register(worker, revocations)
    session_jobs.register(worker, sessions)

    async def own_keys() -> str:
        return keys.jwks()

    async def first_owner() -> None:
        if settings.staff_email and settings.staff_password:
            await identity.ensure_first_owner(settings.staff_email, settings.staff_password.get_secret_value())

    authenticate = authenticator(TokenVerifier(own_keys, revoked=revocations), settings.public_url)
    providers = {
        name: Provider(name, each, HttpClient(f"oauth-{name}", ids=False))
        for name, each in settings.oauth_providers.items()
    }
    oauth = OauthService(database, keys, guard, sealer, providers, public_url=settings.public_url)
    cookies = SessionCookies(secure=settings.public_url.startswith("https://"))
    retention.register(worker, database, idempotency.purge, sessions.purge)
    return Application(
        endpoints=[
            *key_routes.endpoints(keys),
            *CredentialRoutes(credentials).endpoints(),
            *ProfileRoutes(ProfileService(database, guard), cookies).endpoints(),
            *AddressRoutes(AddressService(database)).endpoints(),
            *OauthRoutes(oauth, cookies).endpoints(),
            *SecondFactorRoutes(SecondFactorService(database, passwords, guard, factor)).endpoints(),
            *SessionRoutes(sessions, authenticate, cookies, settings.public_url).endpoints(),
        ],
        rpcs={
            operations_pb2.DESCRIPTOR.services_by_name["OperationsService"]: partial(
                operations_pb2_grpc.add_OperationsServiceServicer_to_server,
                operations_servicer(worker, database, operations_pb2),
            ),
            accounts_pb2.DESCRIPTOR.services_by_name["AccountsService"]: partial(
                accounts_pb2_grpc.add_AccountsServiceServicer_to_server,
                AccountsServicer(keys, revocations, StaffService(database), CustomerService(database)),
            ),
        },
        authenticate=authenticate,
        on_start=first_owner,
    )
