"""The accounts RPCs."""

from typing import Any, TypeAlias

import grpc.aio

from holdfast.accounts.v1 import accounts_pb2 as pb
from holdfast.accounts.v1 import accounts_pb2_grpc
from services.accounts.keys.service import SigningKeys
from services.accounts.revocation.service import RevocationService

__all__ = ["AccountsServicer"]

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class AccountsServicer(accounts_pb2_grpc.AccountsServiceServicer):
    """Translates only."""

    def __init__(self, keys: SigningKeys, revocations: RevocationService) -> None:
        self._keys = keys
        self._revocations = revocations

    async def GetSigningKeys(self, request: pb.GetSigningKeysRequest, context: Context) -> pb.GetSigningKeysResponse:
        """See the proto."""
        return pb.GetSigningKeysResponse(jwks_json=self._keys.jwks())

    async def ListRevocations(self, request: pb.ListRevocationsRequest, context: Context) -> pb.ListRevocationsResponse:
        """See the proto."""
        current = await self._revocations.current()
        return pb.ListRevocationsResponse(
            revocations=[pb.Revocation(name=name, revoked_at=at) for name, at in current.items()]
        )
