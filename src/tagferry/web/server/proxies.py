"""The client's address and scheme: those of the connection, or from the headers of trusted proxies.

The last address in `X-Forwarded-For` that is not a trusted proxy's counts; any client may have written those before it.
`Forwarded` (RFC 7239) is not read.

`X-Forwarded-Proto` is also used from this machine. Otherwise registry clients behind a proxy that terminates TLS would
be sent to http for their tokens, with their passwords. It affects the answer to that request only.
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
    """Return a test whether an address is in one of these networks, given as CIDRs or single addresses."""
    parsed = tuple(ip_network(network) for network in networks)
    return lambda address: bool(parsed) and _is_in(parsed, address)


class TrustedProxies:
    """Puts the client's address and scheme into each request's scope.

    Args:
        app: what is served.
        networks: the trusted proxies', as CIDRs or single addresses.
    """

    def __init__(self, app: ASGIApp, networks: Iterable[str]) -> None:
        self._app = app
        self._is_trusted = trust(networks)

    # No coroutine, which would be one more to go through at every turn of every request.
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
        forwarded = [value for name, value in scope["headers"] if name == _FOR]
        if not self._is_trusted(peer):
            if forwarded:
                log.warning("X-Forwarded-For is ignored: its sender is not in trusted_proxies", address=peer)
            if peer in _LOOPBACK and _scheme(scope) == "https":
                scope["scheme"] = "https"
            return
        client = self._client(b",".join(forwarded))
        if client is not None:
            # The port remains that of the proxy's connection, to distinguish connections.
            scope["client"] = (str(client), scope["client"][1])
        if (scheme := _scheme(scope)) in _SCHEMES:
            scope["scheme"] = scheme

    def _client(self, forwarded: bytes) -> IpAddress | None:
        """The last address that is no trusted proxy's; the first one of a row of trusted ones; None without one."""
        found: IpAddress | None = None
        hops = forwarded.decode("latin-1").rsplit(",", bounds.FORWARDED_HOPS)[-bounds.FORWARDED_HOPS :]
        for hop in reversed(hops):
            address = _parsed(hop)
            if address is None:
                # The addresses before an invalid one cannot be checked.
                return found
            found = address
            if not self._is_trusted(str(address)):
                return found
        return found


def _scheme(scope: Scope) -> str:
    """What the last proxy says that its client came by; empty where it says nothing."""
    schemes = [value for name, value in scope["headers"] if name == _PROTO]
    return schemes[-1].rpartition(b",")[2].strip().lower().decode("latin-1") if schemes else ""


@lru_cache(maxsize=1024)
def _is_in(networks: Sequence[IPv4Network | IPv6Network], address: str) -> bool:
    parsed = _parsed(address)
    return parsed is not None and any(parsed in network for network in networks)


def _parsed(text: str) -> IpAddress | None:
    """An address as proxies write it: with a port or without, IPv6 in brackets or without; None where it is none."""
    text = text.strip(' \t"')[:64]
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    return parse_address(text)
