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
from services.admin.incidents.domain import NewIncident
from services.admin.incidents.service import IncidentService

__all__ = ["AdminServicer"]

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class AdminServicer(admin_pb2_grpc.AdminServiceServicer):
    """Translates."""

    def __init__(self, audit: AuditService, incidents: IncidentService) -> None:
        self._audit = audit
        self._incidents = incidents

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

    async def RaiseIncident(self, request: pb.RaiseIncidentRequest, context: Context) -> pb.RaiseIncidentResponse:
        """See the proto."""
        caller = principal.get()
        if caller is None:
            raise Unauthenticated
        errors = _empty(request, "key", "kind", "summary")
        detail = _parsed(request.detail_json, errors)
        if not errors and not isinstance(detail, dict):
            errors.append(FieldError("/detail_json", "must be an object"))
        if errors:
            raise ValidationFailed(errors)
        new = NewIncident(
            service=caller.id,
            key=request.key,
            kind=request.kind,
            summary=request.summary,
            detail=detail,
            correlation_id=request.correlation_id,
        )
        return pb.RaiseIncidentResponse(incident_id=await self._incidents.raise_incident(new))


def _empty(request: Any, *names: str) -> list[FieldError]:
    return [FieldError(f"/{name}", "must not be empty") for name in names if not getattr(request, name)]


def _parsed(text: str, errors: list[FieldError]) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        errors.append(FieldError("/detail_json", f"is not well-formed JSON: {error.msg}"))
        return None


def _check(request: pb.AppendAuditRequest) -> None:
    errors = [] if is_id(request.id) else [FieldError("/id", "must be a UUID")]
    errors += _empty(request, "actor", "action")
    _parsed(request.detail_json, errors)
    if errors:
        raise ValidationFailed(errors)
