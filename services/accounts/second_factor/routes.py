"""Second factors over HTTP."""

from reliability.asgi import Access, Answer, Call, Endpoint, KeyRule
from reliability.errors import RateLimited
from services.accounts.second_factor.errors import SecondFactorExists, SecondFactorMissing
from services.accounts.second_factor.schemas import (
    ConfirmFactor,
    EnrolFactor,
    FactorProposal,
    RecoveryList,
    RemoveFactor,
)
from services.accounts.second_factor.service import SecondFactorService
from services.accounts.session.routes import PRIVATE, me

__all__ = ["SecondFactorRoutes"]


class SecondFactorRoutes:
    """Decode, call, encode."""

    def __init__(self, factors: SecondFactorService) -> None:
        self._factors = factors

    def endpoints(self) -> list[Endpoint]:
        """The table."""
        path, customer, ignored = "/api/auth/totp", Access.CUSTOMER, KeyRule.IGNORED
        return [
            Endpoint(
                "POST",
                path,
                self._enrol,
                access=customer,
                key=ignored,
                body=EnrolFactor,
                answer=FactorProposal,
                problems=(SecondFactorExists, RateLimited),
            ),
            Endpoint(
                "POST",
                f"{path}/confirm",
                self._confirm,
                access=customer,
                key=ignored,
                body=ConfirmFactor,
                answer=RecoveryList,
                problems=(SecondFactorMissing, RateLimited),
            ),
            Endpoint(
                "POST",
                f"{path}/remove",
                self._remove,
                access=customer,
                key=ignored,
                body=RemoveFactor,
                status=204,
                problems=(SecondFactorMissing, RateLimited),
            ),
        ]

    async def _enrol(self, call: Call) -> Answer:
        secret, uri = await self._factors.enrol(me(), call.body.password)
        return Answer(FactorProposal(secret=secret, uri=uri), headers=PRIVATE)

    async def _confirm(self, call: Call) -> Answer:
        return Answer(RecoveryList(recovery_codes=await self._factors.confirm(me(), call.body.totp)), headers=PRIVATE)

    async def _remove(self, call: Call) -> Answer:
        await self._factors.remove(me(), call.body.totp, call.body.recovery_code)
        return Answer(status=204, headers=PRIVATE)
