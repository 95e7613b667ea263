"""The network zones into which a registry may lead: not into private ones, unless it is in such a zone itself.

A registry names other hosts, in redirects, Locations and challenges. Requests to them come from this machine, so they
could reach services that are closed to others: on loopback, a cloud's metadata, in a private network. The address of a
name is known only when the connection is made, so that is when it is checked.
"""

import socket
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

_NAT64 = IPv6Network("64:ff9b::/96")


class Zone(IntEnum):
    """Where an address can be reached from; the smaller, the more widely."""

    PUBLIC = 0
    PRIVATE = 1
    LINK_LOCAL = 2
    LOOPBACK = 3

    def __str__(self) -> str:
        return self.name.lower().replace("_", "-")


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """The addresses at which connections may end.

    Attributes:
        zone: where the host is that leads there. It may lead to public addresses and within its own zone, and from a
            zone that is not public to private addresses; None means anywhere.
    """

    zone: Zone | None = None

    def allows(self, zone: Zone) -> bool:
        """Return whether connections may end at an address of this zone."""
        if self.zone is None or zone in (Zone.PUBLIC, self.zone):
            return True
        return zone is Zone.PRIVATE and self.zone is not Zone.PUBLIC


ANY_ADDRESS = AddressPolicy()


class AddressForbidden(Exception):
    """A host may not be connected to, because of the address that it has."""

    def __init__(self, zone: Zone) -> None:
        super().__init__(f"it is at a {zone} address")
        self.zone = zone


@lru_cache(maxsize=1024)
def zone_of(address: str) -> Zone:
    """The zone of an IP address; raises ValueError where it is none."""
    found = _plain(ip_address(address.partition("%")[0]))
    # A connection to the unspecified address ends at this machine.
    if found.is_loopback or found.is_unspecified:
        return Zone.LOOPBACK
    if found.is_link_local:
        return Zone.LINK_LOCAL
    is_local = isinstance(found, IPv6Address) and found.is_site_local
    return Zone.PUBLIC if found.is_global and not found.is_multicast and not is_local else Zone.PRIVATE


def zone_of_host(host: str) -> Zone | None:
    """The zone of a host that is an address in any form that resolvers know, or this machine; None for other names."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return Zone.LOOPBACK
    try:
        return zone_of(name)
    except ValueError:
        pass
    try:
        # 127.1, 0x7f000001 and 2130706433 are addresses too (inet_aton(3)).
        return zone_of(socket.inet_ntoa(socket.inet_aton(name)))
    except (OSError, UnicodeError):
        return None


def _plain(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address within one of IPv6 that only wraps it; any other one as it is."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    last = IPv4Address(int(address) & 0xFFFFFFFF)
    if address in _NAT64:
        return last
    # ::127.0.0.1, the IPv4-compatible form; :: and ::1 are addresses of their own.
    return last if 1 < int(address) <= 0xFFFFFFFF else address
