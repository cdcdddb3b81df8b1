"""What the gateway is configured with, and that it is not started with less."""

import pytest

from services.gateway.render import InvalidEnvironment, render
from tests.integration.gateway.support import PLACEHOLDERS, Gateway, environment


async def test_the_admin_interface_is_on_loopback_only(gateway: Gateway) -> None:
    """Wherever the gateway listens, its own admin interface does not."""
    given = environment(gateway.upstreams, 1, 2) | {"GATEWAY_HOST": "0.0.0.0"}
    assert "admin:\n  address: {socket_address: {address: 127.0.0.1, port_value: 2}}" in render(given)


def test_every_bad_variable_is_named_at_once() -> None:
    """A gateway with a hole in its configuration is not started."""
    with pytest.raises(InvalidEnvironment) as refused:
        render({"GATEWAY_HOST": "a\n- b", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"})
    assert "GATEWAY_HOST is not a host" in str(refused.value)
    for name in ("GATEWAY_PORT", "ADMIN_PORT", *(f"{name}_HTTP_PORT" for name in PLACEHOLDERS.values())):
        assert f"{name} is missing" in str(refused.value)
