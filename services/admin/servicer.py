"""The admin RPCs."""

from datetime import UTC
from typing import Any, TypeAlias

import grpc.aio
import orjson

from holdfast.admin.v1 import admin_pb2 as pb
from holdfast.admin.v1 import admin_pb2_grpc
from reliability.context import principal
from reliability.errors import FieldError, Unauthenticated, ValidationFailed
from reliability.ids import is_id
from services.admin.audit.domain import NewEntry
from services.admin.audit.service import AuditService

__all__ = ["AdminServicer"]

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class AdminServicer(admin_pb2_grpc.AdminServiceServicer):
    """Translates."""

    def __init__(self, audit: AuditService) -> None:
        self._audit = audit

    async def AppendAudit(self, request: pb.AppendAuditRequest, context: Context) -> pb.AppendAuditResponse:
        """See the proto."""
        caller = principal.get()
        if caller is None:
            raise Unauthenticated
        _check(request)
        entry = NewEntry(
            id=request.id,
            service=caller.id,
            happened_at=request.happened_at.ToDatetime(tzinfo=UTC),
            actor=request.actor,
            action=request.action,
            subject=request.subject,
            detail_json=request.detail_json,
            correlation_id=request.correlation_id,
        )
        return pb.AppendAuditResponse(sequence=await self._audit.append(entry))


def _check(request: pb.AppendAuditRequest) -> None:
    errors = []
    if not is_id(request.id):
        errors.append(FieldError("/id", "must be a UUID"))
    errors += [
        FieldError(f"/{name}", "must not be empty") for name in ("actor", "action") if not getattr(request, name)
    ]
    try:
        orjson.loads(request.detail_json)
    except orjson.JSONDecodeError as error:
        errors.append(FieldError("/detail_json", f"is not well-formed JSON: {error.msg}"))
    if errors:
        raise ValidationFailed(errors)
