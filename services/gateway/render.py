"""Makes `envoy.yaml` whole: Envoy itself reads no environment.

python -m services.gateway.render > out.yaml
"""

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from string import Template
from urllib.parse import urlsplit

__all__ = ["DEFAULTS", "InvalidEnvironment", "render"]

TEMPLATE = Path(__file__).with_name("envoy.yaml")
DEFAULTS: Mapping[str, str] = {
    "ROUTE_TIMEOUT": "8s",
    "BODY_TIMEOUT": "15s",
    "HEADERS_TIMEOUT": "5s",
    "HEALTHY_INTERVAL": "2s",
    "HEALTH_INTERVAL": "1s",
}
# Hosts, ports, paths and durations need no other character; a quote or a line break would write YAML of its own.
_PLAIN = re.compile(r"[A-Za-z0-9.:/_-]+")


class InvalidEnvironment(Exception):
    """Variables that are missing or cannot stand in the template, all of them at once."""


def render(environment: Mapping[str, str], template: str | None = None) -> str:
    """The configuration for `environment`. Raises `InvalidEnvironment` naming every bad variable."""
    source = Template(TEMPLATE.read_text() if template is None else template)
    given = {**DEFAULTS, **{name: value for name, value in environment.items() if value}}
    given |= _telemetry(given)
    values = {name: given.get(name, "") for name in source.get_identifiers()}
    problems = [
        f"{name} is {'not a host, a port or a duration' if value else 'missing'}"
        for name, value in sorted(values.items())
        if not _PLAIN.fullmatch(value)
    ]
    if problems:
        raise InvalidEnvironment("; ".join(problems))
    return source.substitute(values)


def _telemetry(given: Mapping[str, str]) -> dict[str, str]:
    """Where spans go: `OTEL_EXPORTER_OTLP_ENDPOINT`, or admin's own receiver."""
    endpoint = given.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    if endpoint is None:
        host, port, path = given.get("ADMIN_HTTP_HOST", ""), given.get("ADMIN_HTTP_PORT", ""), ""
    else:
        parts = urlsplit(endpoint)
        if parts.scheme != "http" or not parts.hostname:
            raise InvalidEnvironment(
                "OTEL_EXPORTER_OTLP_ENDPOINT must be http://host:port for the gateway; "
                "put a collector in between that speaks TLS to the outside"
            )
        host, port, path = parts.hostname, str(parts.port or 80), parts.path.rstrip("/")
    return {"OTLP_HOST": host, "OTLP_PORT": port, "OTLP_PATH": f"{path}/v1/traces"}


def main() -> None:
    """Writes the configuration to standard output; status 78 (EX_CONFIG of sysexits.h) when it cannot."""
    try:
        sys.stdout.write(render(os.environ))
    except InvalidEnvironment as error:
        sys.stderr.write(f"The gateway cannot be configured: {error}\n")
        raise SystemExit(78) from None


if __name__ == "__main__":
    main()
