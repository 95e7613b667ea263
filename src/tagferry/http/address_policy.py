"""Address policy: the network zones to which a registry may redirect requests.

A registry names other hosts in redirects, Locations and challenges. Requests to them are sent from this machine and
could reach services that are closed to others: on loopback, in a private network, or a cloud's metadata service. So a
registry may name private addresses only if it has one itself. The address of a name is known only when the connection
is made, and is checked then.
"""

import socket
from enum import IntEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import NamedTuple

_NAT64 = IPv6Network("64:ff9b::/96")


class Zone(IntEnum):
    """The zone from which an address is reachable, in order from the widest to the narrowest."""

    PUBLIC = 0
    PRIVATE = 1
    LINK_LOCAL = 2
    LOOPBACK = 3

    def __str__(self) -> str:
        return self.name.lower().replace("_", "-")


class AddressPolicy(NamedTuple):
    """The addresses to which connections may be made.

    Attributes:
        zone: the zone of the host that named the address. Public addresses and addresses in the same zone are allowed;
            private addresses are allowed unless the zone is public. None allows all addresses.
    """

    zone: Zone | None = None

    def allows(self, zone: Zone) -> bool:
        """Return whether connections to addresses in this zone are allowed."""
        if self.zone is None or zone in (Zone.PUBLIC, self.zone):
            return True
        return zone is Zone.PRIVATE and self.zone is not Zone.PUBLIC


ANY_ADDRESS = AddressPolicy()


class AddressForbidden(Exception):
    """The address policy forbids connections to a host's address."""

    def __init__(self, zone: Zone) -> None:
        super().__init__(f"the host has a {zone} address")
        self.zone = zone


@lru_cache(maxsize=1024)
def zone_of(address: str) -> Zone:
    """Return the zone of an IP address; raise ValueError if the text is not an IP address."""
    found = _plain(ip_address(address.partition("%")[0]))
    # A connection to the unspecified address reaches this machine.
    if found.is_loopback or found.is_unspecified:
        return Zone.LOOPBACK
    if found.is_link_local:
        return Zone.LINK_LOCAL
    is_local = isinstance(found, IPv6Address) and found.is_site_local
    return Zone.PUBLIC if found.is_global and not found.is_multicast and not is_local else Zone.PRIVATE


def zone_of_host(host: str) -> Zone | None:
    """Return the zone of localhost or of an address in any form that resolvers accept; None for other names."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return Zone.LOOPBACK
    try:
        return zone_of(name)
    except ValueError:
        pass
    try:
        # 127.1, 0x7f000001 and 2130706433 are addresses, too (inet_aton(3)).
        return zone_of(socket.inet_ntoa(socket.inet_aton(name)))
    except (OSError, UnicodeError):
        return None


def _plain(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that an IPv6 address embeds; other addresses unchanged."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    last = IPv4Address(int(address) & 0xFFFFFFFF)
    if address in _NAT64:
        return last
    # ::127.0.0.1 has the IPv4-compatible form; :: and ::1 are ordinary addresses.
    return last if 1 < int(address) <= 0xFFFFFFFF else address
