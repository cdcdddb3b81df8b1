"""The profile over HTTP."""

from reliability.asgi import Access, Answer, Call, Endpoint
from reliability.errors import RateLimited
from services.accounts.profile.errors import StaffAccount
from services.accounts.profile.schemas import ChangeProfile, Export, Profile
from services.accounts.profile.service import ProfileService
from services.accounts.session.cookies import SessionCookies
from services.accounts.session.routes import PRIVATE, me

__all__ = ["ProfileRoutes"]


class ProfileRoutes:
    """Decode, call, encode."""

    def __init__(self, profiles: ProfileService, cookies: SessionCookies) -> None:
        self._profiles = profiles
        self._cookies = cookies

    def endpoints(self) -> list[Endpoint]:
        """The table."""
        customer = Access.CUSTOMER
        return [
            Endpoint("GET", "/api/me", self._show, access=customer, answer=Profile),
            Endpoint(
                "PATCH",
                "/api/me",
                self._change,
                access=customer,
                body=ChangeProfile,
                answer=Profile,
                problems=(RateLimited,),
            ),
            Endpoint("DELETE", "/api/me", self._erase, access=customer, status=204, problems=(StaffAccount,)),
            Endpoint("GET", "/api/me/export", self._export, access=customer, answer=Export),
        ]

    async def _show(self, _call: Call) -> Answer:
        return Answer(await self._profiles.profile(me()), headers=PRIVATE)

    async def _change(self, call: Call) -> Answer:
        return Answer(await self._profiles.change(me(), call.body), headers=PRIVATE)

    async def _erase(self, _call: Call) -> Answer:
        await self._profiles.erase(me())
        return Answer(status=204, headers=PRIVATE, cookies=self._cookies.gone())

    async def _export(self, _call: Call) -> Answer:
        attachment = {"Content-Disposition": 'attachment; filename="holdfast-export.json"'}
        return Answer(await self._profiles.export(me()), headers={**PRIVATE, **attachment})
