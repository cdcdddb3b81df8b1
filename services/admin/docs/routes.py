"""The OpenAPI document and a page to read it. Both are the same for everybody and change with a release only."""

from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import orjson
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from reliability.asgi import PAGE_POLICY, Call, Endpoint

__all__ = ["endpoints"]

_HERE: Final = Path(__file__).parent
_CACHE: Final = {"Cache-Control": "public, max-age=300"}


class OpenApi(BaseModel):
    """An OpenAPI 3.1 document (https://spec.openapis.org/oas/v3.1.1)."""

    model_config = ConfigDict(extra="allow")

    openapi: str
    info: dict[str, Any]
    paths: dict[str, Any]
    components: dict[str, Any]


def endpoints() -> list[Endpoint]:
    """The routes of this capability."""
    document = orjson.dumps(orjson.loads((_HERE / "openapi.json").read_bytes()))
    page = {"Content-Security-Policy": PAGE_POLICY}
    return [
        Endpoint(
            "GET",
            "/api/openapi.json",
            _fixed(document, "application/json", {}),
            answer=OpenApi,
            summary="This document",
        ),
        *(
            Endpoint("GET", path, _fixed(_read(file), media, page), produces=media, summary=summary)
            for path, file, media, summary in (
                ("/api/docs", "index.html", "text/html", "This document for people"),
                ("/api/docs/app.js", "app.js", "text/javascript", "The script of the page"),
                ("/api/docs/style.css", "style.css", "text/css", "The style of the page"),
            )
        ),
    ]


def _read(file: str) -> bytes:
    return (_HERE / "static" / file).read_bytes()


def _fixed(body: bytes, media: str, headers: dict[str, str]) -> Callable[[Call], Awaitable[Response]]:
    tag = f'"{sha256(body).hexdigest()[:16]}"'
    kept = {**_CACHE, "ETag": tag, **headers}

    async def answer(call: Call) -> Response:
        if call.request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=kept)
        return Response(body, headers=kept, media_type=media)

    return answer
