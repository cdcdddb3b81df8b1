"""Cursor pages over ids that sort by birth: a cursor is the last id that was shown, in opaque clothes."""

import base64
import binascii
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from reliability.errors import FieldError, ValidationFailed

__all__ = ["PageQuery", "next_cursor"]

_REFUSED: Final = "is not a cursor of this list; start again without one"


class PageQuery(BaseModel):
    """`?limit=&cursor=`."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(default=20, ge=1, le=100)
    cursor: Annotated[str, Field(max_length=100)] | None = None

    def after(self) -> str | None:
        """The id the page starts behind. Raises `ValidationFailed` for a cursor we did not make."""
        if self.cursor is None:
            return None
        try:
            packed = base64.b64decode(self.cursor + "=" * (-len(self.cursor) % 4), altchars=b"-_", validate=True)
            return str(UUID(bytes=packed))
        except (binascii.Error, ValueError):
            raise ValidationFailed([FieldError("/cursor", _REFUSED)]) from None


def next_cursor(rows: list[Any], limit: int) -> str | None:
    """The cursor behind the first `limit` rows; None when there are no more. Rows have an `id`."""
    if len(rows) <= limit:
        return None
    return base64.urlsafe_b64encode(UUID(rows[limit - 1].id).bytes).decode().rstrip("=")
