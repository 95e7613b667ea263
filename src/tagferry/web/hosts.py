"""The hosts of a region, so that a signature for one region's `Host` cannot be used at another region."""

from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from tagferry.addresses import parse_address
from tagferry.errors import BadSignature
from tagferry.names import RegionId
from tagferry.settings import RegionSettings

_DEFAULT_PORTS = (80, 443)
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_SHOWN = 100


class RegionHosts:
    """The hosts that requests to a region may be signed for: `listen`, the host of `public_url`, and `hosts`.

    If a region listens beyond loopback and has neither `public_url` nor `hosts`, its names are unknown. Then any host
    with the port of `listen` is accepted, unless another region uses that port.

    Args:
        region: the region.
        regions: the settings of all regions.
    """

    def __init__(self, region: RegionId, regions: Mapping[str, RegionSettings]) -> None:
        self._region = region
        settings = regions[region]
        others = [other for name, other in regions.items() if name != region]
        host, port = _split(settings.listen or "")
        self._own = {*_named(settings), *_spelled(host.lower(), port)}
        if host in (*_LOOPBACK, "[::]", "0.0.0.0") and port not in {_split(other.listen or "")[1] for other in others}:  # noqa: S104 - compared
            self._own.update(one for name in _LOOPBACK for one in _spelled(name, port))
        is_named = settings.public_url is not None or bool(settings.hosts)
        is_unique = port not in {port for other in others for port in _ports_of(other)}
        self._any_with_port = port if is_unique and not is_named and not _is_loopback(host) else None

    def require(self, host: str | None) -> None:
        """Check the host that a request was signed for. None, from the SDK for Go, means that it was signed for any.

        Raises:
            BadSignature: the host is not one of the region's.
        """
        if host is None:
            return
        if host.lower() in self._own or (self._any_with_port is not None and _split(host)[1] == self._any_with_port):
            return
        raise BadSignature(
            f'the request was signed for the Host "{host[:_SHOWN]}", which is not a host of region {self._region}; if '
            f"clients use this name, add it to regions.{self._region}.hosts in the configuration, and make proxies "
            "keep the Host header"
        )


def _named(settings: RegionSettings) -> Iterator[str]:
    """Yield the hosts that a region's settings name, in lower case, with and without default ports."""
    if settings.public_url is not None:
        yield from _spelled(*_of_url(settings.public_url))
    for host in settings.hosts:
        yield from _spelled(*_split(host))


def _ports_of(settings: RegionSettings) -> Iterator[int | None]:
    """Yield the ports of a region, in this process or another."""
    for host in (settings.listen or "", *_named(settings)):
        yield _split(host)[1]
    if not settings.is_embedded:
        yield _of_url(settings.registry)[1]


def _of_url(url: str) -> tuple[str, int | None]:
    parts = urlsplit(url.lower())
    return _split(parts.netloc, default=443 if parts.scheme == "https" else 80)


def _spelled(name: str, port: int | None) -> Iterator[str]:
    if port is not None:
        yield f"{name}:{port}"
    if port is None or port in _DEFAULT_PORTS:
        yield name
    if port is None:
        yield from (f"{name}:{default}" for default in _DEFAULT_PORTS)


def _split(host: str, *, default: int | None = None) -> tuple[str, int | None]:
    name, colon, port = host.rpartition(":")
    if not colon or not port.isdecimal() or len(port) > 5:
        return host, default
    return name, int(port)


def _is_loopback(host: str) -> bool:
    address = parse_address(host.strip("[]"))
    return host == "localhost" if address is None else address.is_loopback
