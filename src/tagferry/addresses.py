"""IP addresses of clients and hosts."""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

IpAddress = IPv4Address | IPv6Address

_NETWORK_BITS = 64
_MAX_CHARACTERS = 64


def parse_address(text: str) -> IpAddress | None:
    """Parse an IP address, without its zone index, and an IPv4-mapped one as IPv4; None if it is invalid."""
    try:
        address = ip_address(text.partition("%")[0] if ":" in text else text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


@lru_cache(maxsize=1024)
def client_source(address: str) -> str:
    """Return the address under which a client is counted.

    For IPv6, this is the /64 network, since a client usually has all addresses of one.
    """
    parsed = parse_address(address) if ":" in address else None
    if parsed is None:
        return address[:_MAX_CHARACTERS]
    return str(IPv6Network((int(parsed), _NETWORK_BITS), strict=False) if isinstance(parsed, IPv6Address) else parsed)
