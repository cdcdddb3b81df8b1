"""The audit log over HTTP."""

from reliability.asgi import Access, Answer, Call, Endpoint
from services.admin.audit.schemas import AuditItem, AuditList, AuditQuery
from services.admin.audit.service import AuditService

__all__ = ["endpoints"]


def endpoints(audit: AuditService) -> list[Endpoint]:
    """The routes of this capability."""

    async def read(call: Call) -> Answer:
        query: AuditQuery = call.query
        page = await audit.page(query.which, query.cursor, query.limit)
        items = [AuditItem.of(row) for row in page.rows]
        following = str(page.following) if page.following else None
        return Answer(AuditList(items=items, next_cursor=following, intact=page.intact))

    return [
        Endpoint(
            "GET",
            "/api/admin/audit-log",
            read,
            access=Access.STAFF,
            permission="staff",
            query=AuditQuery,
            answer=AuditList,
        )
    ]
