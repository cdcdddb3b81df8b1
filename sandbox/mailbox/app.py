"""The HTTP side: reading mail, ordering faults, and sending as Resend does."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NoReturn

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from sandbox.mailbox import smtp
from sandbox.mailbox.faults import Faults, Order
from sandbox.mailbox.resend import resend_routes
from sandbox.mailbox.store import Store

__all__ = ["build"]

_STATIC = Path(__file__).with_name("static")
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; frame-src 'self'; img-src 'self'"
)
# A mail may bring its styles, and nothing that runs or is fetched; its links open in a tab of their own.
_MAIL_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox allow-popups allow-popups-to-escape-sandbox"
)

_HEAD = re.compile(r"<head\b[^>]*>", re.IGNORECASE)


def build(state_file: Path, host: str, smtp_port: int, *, requests_per_second: int = 10) -> Starlette:
    """The application; the SMTP server lives as long as it does."""
    store, faults = Store(state_file), Faults()

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        server = await smtp.serve(store, faults, host, smtp_port)
        try:
            yield
        finally:
            server.close()
            store.close()

    api = _Api(store, faults)
    return Starlette(
        lifespan=lifespan,
        routes=[
            *(Route(path, _file(name)) for path, name in _FILES.items()),
            *resend_routes(store, faults, requests_per_second=requests_per_second),
            Route("/livez", api.livez),
            Route("/messages", api.messages, methods=["GET"]),
            Route("/messages", api.clear, methods=["DELETE"]),
            Route("/messages/{id}", api.message),
            Route("/messages/{id}/html", api.html),
            Route("/messages/{id}/raw", api.raw),
            Route("/faults", api.faults, methods=["GET"]),
            Route("/faults", api.order, methods=["POST"]),
            Route("/faults", api.clear_faults, methods=["DELETE"]),
        ],
    )


class _Api:
    def __init__(self, store: Store, faults: Faults) -> None:
        self._store, self._faults = store, faults

    async def livez(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def messages(self, request: Request) -> Response:
        query = request.query_params
        limit = query.get("limit", "")
        found = self._store.find(
            to=query.get("to", ""),
            subject=query.get("subject", ""),
            correlation_id=query.get("correlation_id", ""),
            limit=int(limit) if limit.isdigit() else -1,
        )
        return JSONResponse([message.document() for message in found])

    async def message(self, request: Request) -> Response:
        message = self._store.get(request.path_params["id"])
        return JSONResponse(message.document()) if message else _missing()

    async def html(self, request: Request) -> Response:
        message = self._store.get(request.path_params["id"])
        if message is None or not message.html:
            return _missing()
        # Into the head, if there is one: in front of the doctype it would change how the mail is laid out.
        document, inserted = _HEAD.subn(r'\g<0><base target="_blank">', message.html, count=1)
        page = document if inserted else f'<base target="_blank">{message.html}'
        return HTMLResponse(page, headers={"Content-Security-Policy": _MAIL_POLICY})

    async def raw(self, request: Request) -> Response:
        raw = self._store.raw(request.path_params["id"])
        return _missing() if raw is None else PlainTextResponse(raw, headers={"X-Content-Type-Options": "nosniff"})

    async def clear(self, _: Request) -> Response:
        return JSONResponse({"deleted": self._store.clear()})

    async def faults(self, _: Request) -> Response:
        return JSONResponse([order.model_dump(mode="json") for order in self._faults.open()])

    async def order(self, request: Request) -> Response:
        try:
            order = Order.model_validate_json(await request.body())
        except ValidationError as error:
            problems = [{"field": ".".join(map(str, p["loc"])), "message": p["msg"]} for p in error.errors()]
            return JSONResponse({"error": "not a fault that can be ordered", "problems": problems}, 422)
        self._faults.add(order)
        return JSONResponse(order.model_dump(mode="json"), 201)

    async def clear_faults(self, _: Request) -> Response:
        self._faults.clear()
        return Response(status_code=204)


_FILES = {"/": "index.html", "/style.css": "style.css", "/app.js": "app.js", "/icon.svg": "icon.svg"}


def _file(name: str) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(_: Request) -> Response:
        headers = {"Content-Security-Policy": _PAGE_POLICY, "Cache-Control": "no-cache"}
        return FileResponse(_STATIC / name, headers=headers)

    return endpoint


def _missing() -> NoReturn:
    raise HTTPException(404, "there is no such message")
