""".env.example and the settings classes name the same variables."""

import re
from importlib import import_module
from pathlib import Path

from reliability.settings import ServiceSettings

ROOT = Path(__file__).parents[2]
SERVICES = ("catalog", "orders", "payments_webhooks", "notifications", "accounts", "admin")
# Read by `migrate`, which has no other settings.
MIGRATION = {"MIGRATION_DATABASE_URL"}


def _classes(service: str) -> list[type[ServiceSettings]]:
    module = import_module(f"services.{service}.settings")
    candidates = [value for value in vars(module).values() if isinstance(value, type)]
    return [each for each in candidates if issubclass(each, ServiceSettings)]


def test_the_example_lists_exactly_what_is_read() -> None:
    """A variable that is missing there is one nobody will set; one too many is a lie."""
    read = {name.upper() for service in SERVICES for each in _classes(service) for name in each.model_fields}
    listed = set(re.findall(r"^([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert read - listed == set()
    assert listed - read == MIGRATION
