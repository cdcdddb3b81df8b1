"""Credentials over HTTP."""

from reliability.asgi import Access, Answer, Call, Endpoint, KeyRule
from reliability.context import client_address
from reliability.errors import RateLimited
from services.accounts.credentials.errors import InvalidLink
from services.accounts.credentials.schemas import (
    Accepted,
    ChangePassword,
    ForgotPassword,
    ResetPassword,
    SignedUp,
    SignUp,
    VerifyEmail,
)
from services.accounts.credentials.service import CredentialService
from services.accounts.email_change.errors import EmailTaken
from services.accounts.session.routes import PRIVATE, me

__all__ = ["CredentialRoutes"]


class CredentialRoutes:
    """Decode, call, encode."""

    def __init__(self, credentials: CredentialService) -> None:
        self._credentials = credentials

    def endpoints(self) -> list[Endpoint]:
        """The table."""
        auth, ignored = "/api/auth", KeyRule.IGNORED
        return [
            Endpoint(
                "POST",
                f"{auth}/signup",
                self._sign_up,
                key=ignored,
                body=SignUp,
                answer=SignedUp,
                status=201,
                problems=(RateLimited,),
            ),
            Endpoint(
                "POST",
                f"{auth}/verify-email",
                self._verify,
                key=ignored,
                body=VerifyEmail,
                status=204,
                problems=(InvalidLink, EmailTaken),
            ),
            Endpoint(
                "POST",
                f"{auth}/password/forgot",
                self._forgot,
                key=ignored,
                body=ForgotPassword,
                answer=Accepted,
                status=202,
                problems=(RateLimited,),
            ),
            Endpoint(
                "POST",
                f"{auth}/password/reset",
                self._reset,
                key=ignored,
                body=ResetPassword,
                status=204,
                problems=(InvalidLink, RateLimited),
            ),
            Endpoint(
                "POST",
                f"{auth}/password/change",
                self._change,
                access=Access.CUSTOMER,
                key=ignored,
                body=ChangePassword,
                status=204,
                problems=(RateLimited,),
            ),
        ]

    async def _sign_up(self, call: Call) -> Answer:
        asked: SignUp = call.body
        account_id, limits = await self._credentials.sign_up(asked, client_address.get())
        return Answer(SignedUp(id=account_id, email=asked.email), 201, {**PRIVATE, **limits})

    async def _verify(self, call: Call) -> Answer:
        await self._credentials.verify_email(call.body.token)
        return Answer(status=204, headers=PRIVATE)

    async def _forgot(self, call: Call) -> Answer:
        limits = await self._credentials.forgot(call.body.email, client_address.get())
        return Answer(Accepted(), 202, {**PRIVATE, **limits})

    async def _reset(self, call: Call) -> Answer:
        await self._credentials.reset(call.body.token, call.body.password, client_address.get())
        return Answer(status=204, headers=PRIVATE)

    async def _change(self, call: Call) -> Answer:
        await self._credentials.change(me(), call.body.current_password, call.body.new_password)
        return Answer(status=204, headers=PRIVATE)
