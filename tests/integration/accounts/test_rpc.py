"""The gRPC edge of accounts."""

from collections.abc import Awaitable, Callable

import grpc.aio

from holdfast.accounts.v1 import accounts_pb2, accounts_pb2_grpc
from reliability import rpc
from reliability.runtime import Application
from reliability.tokens import TokenVerifier
from tests.integration.accounts.conftest import OWNER, Accounts

Connect = Callable[[str], grpc.aio.Channel]


async def test_every_service_gets_the_keys_that_verify_our_tokens(
    accounts: Accounts, serve_rpc: Callable[[Application], Awaitable[Connect]]
) -> None:
    """Keys fetched over mutual TLS by any service verify a token from the login."""
    connect = await serve_rpc(accounts.application)
    stub = accounts_pb2_grpc.AccountsServiceStub(connect("orders"))

    async def fetch() -> str:
        request = accounts_pb2.GetSigningKeysRequest()
        return (await rpc.invoke(stub.GetSigningKeys, request, step="accounts.GetSigningKeys")).jwks_json

    token = (await accounts.login()).json()["access_token"]
    assert (await TokenVerifier(fetch).verify(token)).email == OWNER
