"""Listening sockets, and why an address cannot be listened on."""

import contextlib
import errno
import socket
import sys
from collections.abc import Iterator
from ipaddress import IPv6Address
from pathlib import Path

from tagferry.addresses import parse_address
from tagferry.errors import Unavailable

_BACKLOG = 2048
_LISTENING = "0A"
"""The state of a listening socket in the kernel's tables."""
_PACING = b"bbr"
"""How the names of congestion controls begin that delay segments on purpose."""
_NOT_PACING = b"reno"
"""The congestion control that every Linux has, and lets every user choose."""
_ANY = "use an address of this machine, such as 127.0.0.1, or 0.0.0.0 for all of them"


class AddressUnusable(Unavailable):
    """An address cannot be listened on.

    Attributes:
        address: the address, as HOST:PORT.
        fault: what is wrong with it, such as "is in use by another process".
        remedy: what to do about it.
        holder: the id of the process that listens on it, if it can be found.
    """

    def __init__(self, address: str, fault: str, remedy: str, *, holder: int | None = None) -> None:
        super().__init__(f"cannot listen on {address}: it {fault}; {remedy}")
        self.address = address
        self.fault = fault
        self.remedy = remedy
        self.holder = holder


def bind(address: str) -> socket.socket:
    """Return a socket that is bound to HOST:PORT and does not listen yet, so that clients cannot connect.

    Raises:
        AddressUnusable: the address is in use, not of this machine or not allowed.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, int(port)))
        _avoid_pacing(bound)
    except (OSError, UnicodeError) as error:
        # A host that is no name at all is a UnicodeError.
        bound.close()
        raise _unusable(address, host, int(port), error) from None
    return bound


def _avoid_pacing(bound: socket.socket) -> None:
    """Let the kernel send to clients on this machine without pacing, on a loopback address.

    BBR sets a timer for each 64 KiB, which spares a network. Within a machine, it only costs CPU, on both sides.
    """
    address = parse_address(bound.getsockname()[0])
    if address is None or not address.is_loopback or not hasattr(socket, "TCP_CONGESTION"):
        return
    # The system decides if a sandbox refuses.
    with contextlib.suppress(OSError):
        if bound.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).startswith(_PACING):
            # Connections inherit it.
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, _NOT_PACING)


def listen(bound: socket.socket, address: str) -> None:
    """Let clients connect, whose connections are accepted later; raises AddressUnusable."""
    try:
        bound.listen(_BACKLOG)
    except OSError as error:
        host, port = bound.getsockname()[:2]
        raise _unusable(address, host, port, error) from None


def overlap(one: socket.socket, other: socket.socket) -> bool:
    """Return whether two bound sockets have the same port, and the same or all addresses."""
    (host, port), (other_host, other_port) = one.getsockname()[:2], other.getsockname()[:2]
    if port != other_port:
        return False
    first, second = parse_address(host), parse_address(other_host)
    if first is None or second is None or first == second:
        return True
    # The address of all IPv6 addresses is also that of all IPv4 addresses.
    return any(
        found.is_unspecified and (isinstance(found, IPv6Address) or found.version == peer.version)
        for found, peer in ((first, second), (second, first))
    )


def _unusable(address: str, host: str, port: int, error: OSError | UnicodeError) -> AddressUnusable:
    if isinstance(error, socket.gaierror | UnicodeError):
        return AddressUnusable(address, "has a host that cannot be resolved", _ANY)
    match error.errno:
        case errno.EADDRINUSE:
            holder = _holder(host, port)
            name = f"process {holder} ({_program(holder)})" if holder is not None else "another process"
            return AddressUnusable(
                address, f"is in use by {name}", "stop that process, or use another port", holder=holder
            )
        case errno.EADDRNOTAVAIL:
            return AddressUnusable(address, "is not an address of this machine", _ANY)
        case errno.EACCES:
            remedy = "use a higher port behind a proxy, or give the process the capability CAP_NET_BIND_SERVICE"
            return AddressUnusable(address, f"needs a privilege, as all ports below {_first_port()} do", remedy)
        case errno.EAFNOSUPPORT:
            return AddressUnusable(address, "is an IPv6 address, and this machine has no IPv6", "use an IPv4 address")
        case _:
            return AddressUnusable(address, f"cannot be used ({(error.strerror or str(error)).lower()})", _ANY)


def _first_port() -> int:
    """Return the first port for which no privilege is needed."""
    try:
        return int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text("utf-8"))
    except (OSError, ValueError):
        return 1024


def _holder(host: str, port: int) -> int | None:
    """Return the id of the process that listens on a port of a host, if the kernel shows it (Linux)."""
    sockets = {f"socket:[{inode}]" for found, inode in _listening(port) if _is_same(found, host)}
    if not sockets:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        try:
            descriptors = list((process / "fd").iterdir())
        except OSError:
            # It has ended, or is another user's.
            continue
        for descriptor in descriptors:
            try:
                if str(descriptor.readlink()) in sockets:
                    return int(process.name)
            except OSError:
                continue
    return None


def _program(process: int) -> str:
    try:
        return Path(f"/proc/{process}/comm").read_text("utf-8", "replace").strip()
    except OSError:
        return "unknown"


def _listening(port: int) -> Iterator[tuple[str, str]]:
    """Yield the addresses and the inodes of the sockets that listen on a port."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text("utf-8").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            address, _, found = fields[1].partition(":")
            if fields[3] == _LISTENING and int(found, 16) == port:
                yield _decoded(address), fields[9]


def _decoded(address: str) -> str:
    """Return an address of the kernel's table, which is in hexadecimal words of the machine's byte order."""
    order = -1 if sys.byteorder == "little" else 1
    words = [bytes.fromhex(address[start : start + 8])[::order] for start in range(0, len(address), 8)]
    family = socket.AF_INET if len(words) == 1 else socket.AF_INET6
    return socket.inet_ntop(family, b"".join(words))


def _is_same(found: str, host: str) -> bool:
    """Return whether a socket on one address excludes another one on a host's addresses."""
    one = parse_address(found)
    try:
        others = {parse_address(str(info[4][0])) for info in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    is_any = any(other is not None and other.is_unspecified for other in others)
    return one is None or one.is_unspecified or is_any or one in others
