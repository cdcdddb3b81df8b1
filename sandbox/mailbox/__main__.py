"""python -m sandbox.mailbox: SMTP in, HTTP out, one process."""

import sys
from pathlib import Path
from typing import Any

import uvicorn
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings

from sandbox.mailbox.app import build


class Settings(BaseSettings):
    """The environment of the mailbox."""

    host: str = "127.0.0.1"
    http_port: int = Field(ge=1, le=65535)
    smtp_port: int = Field(ge=1, le=65535)
    state_file: Path
    resend_requests_per_second: int = Field(default=10, ge=1)


def main() -> None:
    """Runs until SIGTERM."""
    values: dict[str, Any] = {}  # all of them come from the environment
    try:
        settings = Settings(**values)
    except ValidationError as error:
        for problem in error.errors():
            sys.stderr.write(f"{str(problem['loc'][0]).upper()}: {problem['msg']}\n")
        raise SystemExit(78) from None
    limit = settings.resend_requests_per_second
    app = build(settings.state_file, settings.host, settings.smtp_port, requests_per_second=limit)
    uvicorn.run(app, host=settings.host, port=settings.http_port, log_level="warning", server_header=False)


if __name__ == "__main__":
    main()
