"""Whom a limit counts."""

from ipaddress import IPv6Address, ip_address

__all__ = ["client_key"]


def client_key(address: str) -> str:
    """Who a client is to a limit: an IPv4 address, or the /64 that one household has of IPv6."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped:
            return str(parsed.ipv4_mapped)
        return f"{IPv6Address(int(parsed) >> 64 << 64)}/64"
    return address
