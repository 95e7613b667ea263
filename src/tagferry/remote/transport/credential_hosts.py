"""The hosts that may receive a registry's credentials: those of its own domain and those in the configuration.

A registry names its token server in its challenges. A hostile registry could name any host to obtain the password.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tagferry.addresses import parse_address
from tagferry.docker_hub import URL as DOCKER_HUB
from tagferry.http.urls import Origin, origin_of

if TYPE_CHECKING:
    from publicsuffixlist import PublicSuffixList

_PAIRS = {origin_of(DOCKER_HUB)[1]: frozenset({"auth.docker.io"})}
"""Registries whose token server is known."""
_SHARED = frozenset(
    {
        "amazonaws.com",
        "amazonaws.com.cn",
        "azurecr.cn",
        "azurecr.io",
        "azurecr.us",
        "jfrog.io",
        "myhuaweicloud.com",
        "windows.net",
    }
)
"""Domains whose hosts belong to different customers, and that the Public Suffix List lacks."""


class HostList:
    """Hosts named in the configuration.

    Args:
        entries: HOST or HOST:PORT; a host without a port covers all its ports.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        self._entries: set[tuple[str, int | None]] = set()
        for entry in entries:
            host = origin_of(f"https://{entry}")[1]
            self._entries.add((host, urlsplit(f"//{entry}").port))

    def covers(self, origin: Origin) -> bool:
        """Return whether the list includes an origin."""
        _, host, port = origin
        return (host, None) in self._entries or (host, port) in self._entries


def may_get_credentials(own: Origin, origin: Origin, named: HostList) -> bool:
    """Return whether a token server may receive the credentials of a registry.

    Args:
        own: the registry.
        origin: the token server.
        named: the hosts that the configuration names for the registry.
    """
    if origin == own:
        return True
    scheme, host, _ = origin
    if scheme == "http" and own[0] == "https":
        return False
    if named.covers(origin) or host == own[1]:
        return True
    return scheme == "https" and (host in _PAIRS.get(own[1], ()) or _are_of_one_domain(own[1], host))


def _are_of_one_domain(first: str, second: str) -> bool:
    domain = _domain(first)
    return domain is not None and domain == _domain(second)


@lru_cache(maxsize=1024)
def _domain(host: str) -> str | None:
    """Return a host's domain below a public suffix, such as example.co.uk; None if there is none."""
    name = host.lower().rstrip(".")
    if parse_address(name) is not None or any(name.endswith(f".{shared}") for shared in _SHARED):
        return None
    return _suffixes().privatesuffix(name)


@lru_cache(maxsize=1)
def _suffixes() -> "PublicSuffixList":
    # Imported here: its 10,000 rules are needed only if a token server is on another host.
    from publicsuffixlist import PublicSuffixList

    return PublicSuffixList()
