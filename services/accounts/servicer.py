"""The accounts RPCs."""

from collections.abc import Mapping
from typing import Any, TypeAlias, TypeVar

import grpc.aio
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import BaseModel, ValidationError

from holdfast.accounts.v1 import accounts_pb2 as pb
from holdfast.accounts.v1 import accounts_pb2_grpc
from reliability.errors import FieldError, ValidationFailed
from services.accounts.customers.schemas import Suspension
from services.accounts.customers.service import CustomerService
from services.accounts.identity.domain import Account
from services.accounts.keys.service import SigningKeys
from services.accounts.revocation.service import RevocationService
from services.accounts.staff.domain import Standing, standing
from services.accounts.staff.schemas import Invitation, StaffChange
from services.accounts.staff.service import StaffService

__all__ = ["AccountsServicer"]

M = TypeVar("M", bound=BaseModel)

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class AccountsServicer(accounts_pb2_grpc.AccountsServiceServicer):
    """Translates only."""

    def __init__(
        self, keys: SigningKeys, revocations: RevocationService, staff: StaffService, customers: CustomerService
    ) -> None:
        self._keys = keys
        self._revocations = revocations
        self._staff = staff
        self._customers = customers

    async def GetSigningKeys(self, request: pb.GetSigningKeysRequest, context: Context) -> pb.GetSigningKeysResponse:
        """See the proto."""
        return pb.GetSigningKeysResponse(jwks_json=self._keys.jwks())

    async def ListRevocations(self, request: pb.ListRevocationsRequest, context: Context) -> pb.ListRevocationsResponse:
        """See the proto."""
        current = await self._revocations.current()
        return pb.ListRevocationsResponse(
            revocations=[pb.Revocation(name=name, revoked_at=at) for name, at in current.items()]
        )

    async def InviteStaff(self, request: pb.InviteStaffRequest, context: Context) -> pb.InviteStaffResponse:
        """See the proto."""
        asked = _checked(
            Invitation,
            {
                "email": request.email,
                "name": request.name,
                "role": request.role,
                "permissions": list(request.permissions),
                "staff_id": request.staff_id,
            },
        )
        return await self._staff.invite(asked, _invited)

    async def ListStaff(self, request: pb.ListStaffRequest, context: Context) -> pb.ListStaffResponse:
        """See the proto."""
        return pb.ListStaffResponse(items=[_member(member) for member in await self._staff.listed()])

    async def UpdateStaff(self, request: pb.UpdateStaffRequest, context: Context) -> pb.UpdateStaffResponse:
        """See the proto."""
        given = {name: getattr(request, name) for name in ("role", "status") if request.HasField(name)}
        asked = _checked(
            StaffChange,
            {
                **given,
                "permissions": list(request.permissions),
                "reset_second_factor": request.reset_second_factor,
            },
        )
        status = await self._staff.change(request.member_id, asked, request.staff_id)
        return pb.UpdateStaffResponse(member_id=request.member_id, status=status)

    async def RemoveStaff(self, request: pb.RemoveStaffRequest, context: Context) -> pb.RemoveStaffResponse:
        """See the proto."""
        await self._staff.remove(request.member_id, request.staff_id)
        return pb.RemoveStaffResponse(member_id=request.member_id, status=Standing.REMOVED)

    async def SuspendCustomer(self, request: pb.SuspendCustomerRequest, context: Context) -> pb.SuspendCustomerResponse:
        """See the proto."""
        asked = _checked(Suspension, {"reason": request.reason} if request.HasField("reason") else {})
        await self._customers.suspend(request.customer_id, asked, request.staff_id)
        return pb.SuspendCustomerResponse(customer_id=request.customer_id, status=Standing.SUSPENDED)

    async def ReinstateCustomer(
        self, request: pb.ReinstateCustomerRequest, context: Context
    ) -> pb.ReinstateCustomerResponse:
        """See the proto."""
        await self._customers.reinstate(request.customer_id, request.staff_id)
        return pb.ReinstateCustomerResponse(customer_id=request.customer_id, status=Standing.ACTIVE)


def _invited(member_id: str) -> pb.InviteStaffResponse:
    return pb.InviteStaffResponse(member_id=member_id, status=Standing.INVITED)


def _member(account: Account) -> pb.StaffMember:
    created_at = Timestamp()
    created_at.FromDatetime(account.created_at)
    return pb.StaffMember(
        id=account.id,
        email=account.email,
        name=account.name,
        role=account.role,
        permissions=sorted(account.permissions),
        status=standing(account),
        second_factor=account.totp_secret is not None,
        created_at=created_at,
    )


def _checked(model: type[M], values: Mapping[str, Any]) -> M:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ValidationFailed(
            [FieldError("".join(f"/{part}" for part in problem["loc"]), problem["msg"]) for problem in error.errors()]
        ) from None
