"""The client's address and scheme, from the connection or from the headers of trusted proxies.

The client's address is the last one in `X-Forwarded-For` that is not a trusted proxy's, since any client may have
written those before it. `Forwarded` (RFC 7239) is ignored.

`X-Forwarded-Proto` is also accepted from this machine. Otherwise registry clients behind a proxy that terminates TLS
would be directed to http for their tokens, with their passwords. It affects only the response to that request.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network

from starlette.types import ASGIApp, Receive, Scope, Send

from tagferry import bounds
from tagferry.addresses import IpAddress, parse_address
from tagferry.events import SparseEvents

_FOR, _PROTO = b"x-forwarded-for", b"x-forwarded-proto"
_MAPPED = "::ffff:"
_SCHEMES = frozenset({"http", "https"})
_LOOPBACK = frozenset({"127.0.0.1", "::1"})

log = SparseEvents(__name__, seconds=3600.0)


def trust(networks: Iterable[str]) -> Callable[[str], bool]:
    """Return a predicate for addresses in these networks, which are CIDRs or single addresses."""
    parsed = tuple(ip_network(network) for network in networks)
    return lambda address: bool(parsed) and _is_in(parsed, address)


class TrustedProxies:
    """Middleware that sets the client's address and scheme in the scope of each request.

    Args:
        app: the application behind it.
        networks: the trusted proxies, as CIDRs or single addresses.
    """

    def __init__(self, app: ASGIApp, networks: Iterable[str]) -> None:
        self._app = app
        self._is_trusted = trust(networks)

    # Not a coroutine: one more would cost time in each step of every request.
    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        client = scope.get("client")
        if client is not None:
            address = str(client[0])
            if address.startswith(_MAPPED):
                # An IPv4 client of a listener on [::].
                scope["client"] = client = (str(_parsed(address) or address), client[1])
            self._read_headers(scope, str(client[0]))
        return self._app(scope, receive, send)

    def _read_headers(self, scope: Scope, peer: str) -> None:
        forwarded, protocols = [], []
        for name, value in scope["headers"]:
            if name == _FOR:
                forwarded.append(value)
            elif name == _PROTO:
                protocols.append(value)
        if not self._is_trusted(peer):
            if forwarded:
                log.warning("ignored X-Forwarded-For: its sender is not in trusted_proxies", address=peer)
            if protocols and peer in _LOOPBACK and _scheme(protocols) == "https":
                scope["scheme"] = "https"
            return
        client = self._client(b",".join(forwarded))
        if client is not None:
            # The port is that of the proxy's connection, to distinguish connections.
            scope["client"] = (str(client), scope["client"][1])
        if protocols and (scheme := _scheme(protocols)) in _SCHEMES:
            scope["scheme"] = scheme

    def _client(self, forwarded: bytes) -> IpAddress | None:
        """Return the last address that is not a trusted proxy's, the first if all are trusted, or None."""
        found: IpAddress | None = None
        hops = forwarded.decode("latin-1").rsplit(",", bounds.FORWARDED_HOPS)[-bounds.FORWARDED_HOPS :]
        for hop in reversed(hops):
            address = _parsed(hop)
            if address is None:
                # Addresses before an invalid one cannot be trusted.
                return found
            found = address
            if not self._is_trusted(str(address)):
                return found
        return found


def _scheme(protocols: Sequence[bytes]) -> str:
    """Return the client's scheme as the last proxy reports it."""
    return protocols[-1].rpartition(b",")[2].strip().lower().decode("latin-1")


@lru_cache(maxsize=1024)
def _is_in(networks: Sequence[IPv4Network | IPv6Network], address: str) -> bool:
    parsed = _parsed(address)
    return parsed is not None and any(parsed in network for network in networks)


def _parsed(text: str) -> IpAddress | None:
    """Parse an address as proxies write it, with or without a port, with or without brackets; None if invalid."""
    text = text.strip(' \t"')[:64]
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    return parse_address(text)
