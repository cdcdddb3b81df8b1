"""Typed environment. A process with a bad variable does not start, and says every bad one at once."""

import re
import sys
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import Field, PostgresDsn, RedisDsn, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from reliability.machine_tokens import TrustedIssuer

__all__ = ["ServiceSettings", "load"]

_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?")


class ServiceSettings(BaseSettings):
    """What every service reads. Variable names are the field names in upper case."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, env_ignore_empty=True)

    environment: Literal["local", "production"] = "local"
    host: str = "127.0.0.1"
    http_port: int = Field(ge=1, le=65535)
    grpc_port: int = Field(ge=1, le=65535)
    database_url: PostgresDsn
    database_pool_size: int = Field(default=4, ge=2, le=100)
    redis_url: RedisDsn
    public_url: str = "http://127.0.0.1:8080"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"
    otel_exporter_otlp_endpoint: str | None = None
    tls_ca_file: Path
    tls_cert_file: Path
    tls_key_file: Path
    worker_concurrency: int = Field(default=8, ge=1, le=100)
    worker_poll_seconds: float = Field(default=1.0, gt=0)
    worker_lease_seconds: float = Field(default=30.0, ge=1)
    """How long the jobs of a process that died stay with it."""
    drain_seconds: float = Field(default=10.0, gt=0)
    request_seconds: float = Field(default=8.0, gt=0)
    headers_seconds: float = Field(default=10.0, gt=0)
    """How long a connection may take to bring the headers of a request."""
    concurrency_limit: int = Field(default=256, ge=1, le=10_000)
    cors_origins: tuple[str, ...] = ()
    """Other sites whose pages may call us with the visitor's cookies, as JSON; none by default."""
    machine_issuers: tuple[TrustedIssuer, ...] = ()
    """Whose tokens open the routes for schedulers, as JSON; nobody's by default."""
    crash_points: Path | None = None
    """A folder of armed crash points, for tests: see `reliability.crash_points`."""

    @field_validator("cors_origins")
    @classmethod
    def _exact_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        if not all(map(_ORIGIN.fullmatch, origins)):
            raise ValueError("an origin is scheme://host or scheme://host:port, and never a pattern")
        return origins

    @model_validator(mode="after")
    def _no_crashes_in_production(self) -> Self:
        if self.environment == "production" and self.crash_points is not None:
            raise ValueError("CRASH_POINTS is for tests; unset it in production")
        return self


S = TypeVar("S", bound=BaseSettings)


def load(settings: type[S], **values: Any) -> S:
    """The settings from the environment.

    Raises `SystemExit` with status 78 (EX_CONFIG of sysexits.h) after one line per bad variable. Values are
    never printed: a mistyped secret is still a secret.
    """
    try:
        return settings(**values)
    except ValidationError as error:
        lines = [
            f"  {'.'.join(str(part) for part in problem['loc']).upper()}: {problem['msg']}"
            for problem in error.errors(include_input=False)
        ]
    except SettingsError as error:  # a list or mapping that is no JSON; names the field, not the value
        lines = [f"  {error}"]
    sys.stderr.write("These environment variables are missing or wrong (see .env.example):\n" + "\n".join(lines) + "\n")
    raise SystemExit(78)
