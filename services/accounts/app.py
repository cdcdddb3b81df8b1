"""The composition root of accounts."""

from functools import partial

from holdfast.accounts.v1 import accounts_pb2, accounts_pb2_grpc
from holdfast.admin.v1 import admin_pb2, admin_pb2_grpc
from holdfast.notifications.v1 import notifications_pb2_grpc
from reliability import audit, rpc
from reliability.asgi import authenticator
from reliability.rate_limit import RateLimiter
from reliability.runtime import Application, Runtime
from reliability.tokens import TokenVerifier
from services.accounts.identity import jobs as identity_jobs
from services.accounts.identity.service import IdentityService
from services.accounts.keys import routes as key_routes
from services.accounts.keys.service import SigningKeys
from services.accounts.keys.servicer import AccountsServicer
from services.accounts.passwords import Passwords
from services.accounts.session import routes as session_routes
from services.accounts.session.service import SessionService
from services.accounts.settings import AccountsSettings

__all__ = ["build"]


def build(runtime: Runtime[AccountsSettings]) -> Application:
    """Accounts, ready to be served."""
    settings = runtime.settings
    keys = SigningKeys.load(settings.signing_key_file, lifetime=settings.access_token_seconds)
    passwords = Passwords()
    identity = IdentityService(runtime.database, passwords)
    sessions = SessionService(runtime.database, passwords, keys, RateLimiter(runtime.cache))
    notifications = notifications_pb2_grpc.NotificationsServiceStub(runtime.channel(settings.notifications_grpc))
    admin = admin_pb2_grpc.AdminServiceStub(runtime.channel(settings.admin_grpc))
    log = rpc.audit_log(admin.AppendAudit, admin_pb2.AppendAuditRequest, step="admin.AppendAudit")
    audit.deliver(runtime.worker, runtime.database, log)
    identity_jobs.register(runtime.worker, identity, notifications)

    async def own_keys() -> str:
        return keys.jwks()

    async def first_owner() -> None:
        if settings.staff_email and settings.staff_password:
            await identity.ensure_first_owner(settings.staff_email, settings.staff_password.get_secret_value())

    authenticate = authenticator(TokenVerifier(own_keys), settings.public_url)
    secure = settings.public_url.startswith("https://")
    return Application(
        endpoints=[
            *key_routes.endpoints(keys),
            *session_routes.endpoints(sessions, authenticate, secure_cookies=secure),
        ],
        rpcs={
            accounts_pb2.DESCRIPTOR.services_by_name["AccountsService"]: partial(
                accounts_pb2_grpc.add_AccountsServiceServicer_to_server, AccountsServicer(keys)
            )
        },
        authenticate=authenticate,
        on_start=first_owner,
    )
