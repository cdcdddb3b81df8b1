"""Writes the OpenAPI document that admin serves; with `--check`, fails when the committed one is not current."""

import asyncio
import json
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

from deploy.local.rehearsal import rehearsed
from reliability.asgi import openapi

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "services" / "admin" / "docs" / "openapi.json"
CONVENTIONS: Final = """\
A commerce backend that charges, sells, ships and mails nothing twice, and loses nothing it promised.

- **Money** is an integer in minor units with its ISO 4217 currency; **time** is RFC 3339 in UTC; **ids** are opaque.
- **Lists** are pages: `limit` (20, at most 100) and `cursor`, answered by `items` and `next_cursor`.
- **Errors** are RFC 9457 problems with a stable `code`. Every answer has an `X-Correlation-ID`: quote it when you ask.
- **Idempotency-Key**: the same key with the same body gets the first answer again, marked `Idempotent-Replayed`; \
with another body 422; while the first is running 409.
- Any path may answer 408 or 431 when a request is too slow or its headers are too large, and 405 for another method.
"""


async def current() -> dict[str, Any]:
    """The document as the code says it now."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    async with rehearsed() as applications:
        tables = {service: application.endpoints for service, application in applications.items()}
        return openapi.document(tables, title="Holdfast", version=version, description=CONVENTIONS)


def main() -> None:
    """Write, or compare."""
    text = json.dumps(asyncio.run(current()), indent=1, ensure_ascii=False) + "\n"
    if "--check" in sys.argv[1:]:
        if not TARGET.exists() or TARGET.read_text() != text:
            sys.exit("the OpenAPI document is not current, run `make generate`")
        return
    TARGET.write_text(text)


if __name__ == "__main__":
    main()
