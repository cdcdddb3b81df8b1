"""Composition root: settings and connections in, two edges and the schedule out."""

from functools import partial

from holdfast.accounts.v1 import accounts_pb2, accounts_pb2_grpc
from holdfast.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from holdfast.common.v1 import operations_pb2, operations_pb2_grpc
from reliability import retention, rpc
from reliability.asgi import authenticator
from reliability.revocation import Revocations
from reliability.rpc.operations import operations_servicer
from reliability.runtime import Application, Runtime
from reliability.tokens import TokenVerifier
from services.catalog.products.routes import endpoints
from services.catalog.products.service import ProductService
from services.catalog.servicer import CatalogServicer
from services.catalog.settings import CatalogSettings
from services.catalog.stock import jobs
from services.catalog.stock.service import StockService


def build(runtime: Runtime[CatalogSettings]) -> Application:
    """The catalog service."""
    settings = runtime.settings
    accounts = accounts_pb2_grpc.AccountsServiceStub(runtime.channel(settings.accounts_grpc))
    keys = rpc.key_set(accounts.GetSigningKeys, accounts_pb2.GetSigningKeysRequest(), step="accounts.GetSigningKeys")
    ended = rpc.revocation_list(
        accounts.ListRevocations, accounts_pb2.ListRevocationsRequest(), step="accounts.ListRevocations"
    )
    verifier = TokenVerifier(keys, revoked=Revocations(ended, runtime.cache))
    products = ProductService(runtime.database)
    stock = StockService(runtime.database)
    jobs.register(runtime.worker, stock, backstop=settings.hold_backstop)
    descriptor = catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"]
    add = partial(catalog_pb2_grpc.add_CatalogServiceServicer_to_server, CatalogServicer(products, stock))
    retention.register(runtime.worker, runtime.database)
    return Application(
        endpoints=endpoints(products),
        rpcs={
            descriptor: add,
            operations_pb2.DESCRIPTOR.services_by_name["OperationsService"]: partial(
                operations_pb2_grpc.add_OperationsServiceServicer_to_server,
                operations_servicer(runtime.worker, runtime.database, operations_pb2),
            ),
        },
        authenticate=authenticator(verifier, settings.public_url),
    )
