"""The public keys over gRPC."""

from typing import Any

import grpc.aio

from holdfast.accounts.v1 import accounts_pb2, accounts_pb2_grpc
from services.accounts.keys.service import SigningKeys

__all__ = ["AccountsServicer"]


class AccountsServicer(accounts_pb2_grpc.AccountsServiceServicer):
    """Translates only."""

    def __init__(self, keys: SigningKeys) -> None:
        self._keys = keys

    async def GetSigningKeys(
        self,
        request: accounts_pb2.GetSigningKeysRequest,
        context: "grpc.aio.ServicerContext[Any, Any]",
    ) -> accounts_pb2.GetSigningKeysResponse:
        """See the proto."""
        del request, context  # no parameters
        return accounts_pb2.GetSigningKeysResponse(jwks_json=self._keys.jwks())
