"""Selects the proxy for a request, by the rules of Go's clients (golang.org/x/net/http/httpproxy)."""

import base64
import os
import re
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from tagferry.addresses import parse_address
from tagferry.digits import whole_number
from tagferry.errors import Invalid
from tagferry.http.urls import PORTS, Origin, authority, origin_of

NONE = "none"
"""The setting that disables proxies, whatever the environment says."""
_Network = IPv4Network | IPv6Network
_MAX_ORIGINS = 1024


class Proxy(NamedTuple):
    """An HTTP proxy.

    Attributes:
        origin: its address; https means TLS to the proxy.
        authorization: the value of `Proxy-Authorization`, or an empty string.
    """

    origin: Origin
    authorization: str = ""

    def __str__(self) -> str:
        return f"{self.origin[0]}://{authority(self.origin, with_port=True)}"

    def __repr__(self) -> str:
        # Without the password.
        return f"Proxy({self})"


class Proxies:
    """Finds the proxy for an origin.

    Args:
        setting: the URL of a proxy for all requests, or `none`; None to use the environment.
        environment: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, in upper or lower case.
    """

    def __init__(self, setting: str | None = None, environment: Mapping[str, str] | None = None) -> None:
        self._setting = setting
        self._environment = os.environ if environment is None else environment
        self._exempt = _Exempt(self._variable("NO_PROXY")[1])
        self._proxies: dict[Origin, Proxy | None] = {}

    def find(self, origin: Origin) -> Proxy | None:
        """Return the proxy for requests to an origin, or None for a direct connection.

        Raises:
            Invalid: names the setting or variable that is not the URL of a proxy.
        """
        if origin not in self._proxies:
            if len(self._proxies) >= _MAX_ORIGINS:
                self._proxies.clear()
            self._proxies[origin] = self._find(origin)
        return self._proxies[origin]

    def _find(self, origin: Origin) -> Proxy | None:
        if self._setting is not None:
            return None if self._setting == NONE else parse(self._setting, "proxy")
        name, value = self._variable(f"{origin[0].upper()}_PROXY")
        if not value:
            name, value = self._variable("ALL_PROXY")
        if not value or _is_loopback(origin[1]) or self._exempt.covers(origin):
            return None
        return parse(value, name)

    def _variable(self, name: str) -> tuple[str, str]:
        """Return the name under which a variable is set, and its value."""
        for spelled in (name, name.lower()):
            if spelled == "HTTP_PROXY" and "REQUEST_METHOD" in self._environment:
                # In a CGI environment, this variable holds the client's `Proxy` header (CVE-2016-5385).
                continue
            if value := self._environment.get(spelled, "").strip():
                return spelled, value
        return name, ""


def parse(text: str, name: str) -> Proxy:
    """Parse the URL of a proxy, which may include a user and a password.

    Args:
        text: `http://[user:password@]host[:port]`, or https; `http://` may be omitted.
        name: the setting or variable that holds it.

    Raises:
        Invalid: the text is not the URL of an HTTP proxy.
    """
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        if parts.scheme.startswith("socks"):
            raise Invalid(name, "must be the URL of an HTTP proxy; SOCKS is not supported")
        if parts.scheme not in PORTS:
            raise Invalid(name, "must be the URL of a proxy, which starts with http:// or https://")
        if "@" in f"{parts.path}{parts.query}{parts.fragment}":
            # The beginning of the password would be parsed as a port, and sent to the resolver with the host.
            raise Invalid(name, "must be the URL of a proxy; percent-encode its user and password")
        origin = origin_of(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}")
    except ValueError:
        raise Invalid(name, "must be the URL of a proxy, as http://proxy.example.com:3128") from None
    if parts.username is None:
        return Proxy(origin)
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
    return Proxy(origin, f"Basic {base64.b64encode(pair).decode()}")


class _Exempt:
    """The exemptions of `NO_PROXY`: hosts, domains, addresses and networks, each for all ports or for one."""

    def __init__(self, text: str) -> None:
        self._everything = False
        self._networks: list[tuple[_Network, int | None]] = []
        self._domains: list[tuple[str, bool, int | None]] = []
        for entry in re.split(r"[\s,]+", text.lower()):
            self._add(entry)

    def covers(self, origin: Origin) -> bool:
        _, host, port = origin
        if self._everything:
            return True
        address = parse_address(host)
        if address is not None:
            return any(address in network and only in (None, port) for network, only in self._networks)
        name = f".{host.lower().rstrip('.')}"
        return any(
            only in (None, port) and name.endswith(suffix) and (is_host or name != suffix)
            for suffix, is_host, only in self._domains
        )

    def _add(self, entry: str) -> None:
        if not entry:
            return
        if entry == "*":
            self._everything = True
        elif (network := _network(entry)) is not None:
            self._networks.append((network, None))
        else:
            host, port = _split_port(entry)
            if (network := _network(host)) is not None:
                self._networks.append((network, port))
            elif host := _ascii(host.removeprefix("*").rstrip(".")):
                # `.example.com` covers only subdomains; `example.com` also covers itself.
                self._domains.append((f".{host.removeprefix('.')}", not host.startswith("."), port))


def _split_port(entry: str) -> tuple[str, int | None]:
    host, colon, port = entry.rpartition(":")
    if colon and (not port or whole_number(port) is not None):
        return host.strip("[]"), whole_number(port)
    return entry.strip("[]"), None


def _network(text: str) -> _Network | None:
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        return None
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    return network if mapped is None or network.prefixlen < 128 else ip_network(mapped)


def _ascii(name: str) -> str:
    """Return a name in the ASCII form in which it is resolved."""
    try:
        return name if name.isascii() else name.encode("idna").decode("ascii")
    except UnicodeError:
        return name


def _is_loopback(host: str) -> bool:
    address = parse_address(host)
    name = host.lower().rstrip(".")
    return address.is_loopback if address is not None else name == "localhost" or name.endswith(".localhost")
