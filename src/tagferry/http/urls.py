"""URLs of headers, normalized for requests and shortened for messages.

Source: RFC 3986, section 2.
"""

import re
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import quote, urlsplit

from tagferry.errors import Invalid

Origin = tuple[str, str, int]
"""Scheme, host and port."""

PORTS = {"http": 80, "https": 443}
"""The supported schemes and their default ports."""
_URL = re.compile(r"(https?://[^/?#]+)([^#]*)", re.IGNORECASE)
_BRACKETED = re.compile(r"\[[^][]*\](?::\d*)?")
_NAME = re.compile(r"[A-Za-z0-9._~-]+")
_PROPER = re.compile(r"[\x21-\x5b\x5d-\x7e]*")
_AUTHORITY = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?//[^/?#]*")
LONGEST_HOST = 253
"""Maximum length of a host name (RFC 1035, section 2.3.4)."""
_MAX_SHOWN = 300
"""Characters of a URL that a message shows."""
_PRINTABLE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "\\")


def encoded(location: str) -> str:
    """Percent-encode the invalid characters of a Location or Link, as browsers and Go's client do.

    Args:
        location: absolute or relative; header bytes above 127 are decoded as Latin-1.

    Raises:
        Invalid: the host includes a backslash or a blank, which clients interpret differently.
    """
    location = location.strip()
    if _PROPER.fullmatch(location):
        return location
    match = _AUTHORITY.match(location)
    authority = match[0] if match else ""
    if re.search(r"[\\\s]", authority):
        raise Invalid("Location", "must name a host without blanks and backslashes", location)
    return _text(authority) + quote(location[len(authority) :].encode("latin-1", "ignore"), safe=_PRINTABLE)


def _text(authority: str) -> str:
    """Decode a host name as UTF-8 if possible."""
    try:
        return authority.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return authority


def origin_of(url: str) -> Origin:
    """Return the origin of a URL; raise ValueError if it is not http or https."""
    return split(url)[0]


def split(url: str) -> tuple[Origin, str]:
    """Return the origin and the request target of a URL; raise ValueError as `origin_of`."""
    match = _URL.match(url)
    if match is None:
        raise ValueError("the URL is not http or https")
    target = match[2]
    return _origin(match[1]), target if target.startswith("/") else f"/{target}"


@lru_cache(maxsize=1024)
def _origin(base: str) -> Origin:
    parts = urlsplit(base)
    netloc = parts.netloc.rpartition("@")[2]
    # If a host has brackets anywhere, Python reads what is between them and ignores the rest.
    if ("[" in netloc or "]" in netloc) and _BRACKETED.fullmatch(netloc) is None:
        raise ValueError("the host has misplaced brackets")
    host = parts.hostname or ""
    if not host:
        raise ValueError("the URL has no host")
    if not host.isascii():
        host = host.encode("idna").decode("ascii")
    if ":" in host:
        ip_address(host)
    elif _NAME.fullmatch(host) is None:
        raise ValueError("the host name is invalid")
    return parts.scheme, host, parts.port or PORTS[parts.scheme]


def redacted(url: str) -> str:
    """Return a URL for messages: shortened, and without credentials, query and fragment, which may be secret."""
    shown = urlsplit(url)._replace(netloc=host_of(url), query="", fragment="").geturl()
    return shown if len(shown) <= _MAX_SHOWN else f"{shown[:_MAX_SHOWN]}…"


def host_of(url: str) -> str:
    """Return the host and explicit port of a URL for messages, without credentials."""
    host = urlsplit(url).netloc.rpartition("@")[2]
    return host if len(host) <= _MAX_SHOWN else f"{host[:_MAX_SHOWN]}…"


def authority(origin: Origin, *, with_port: bool = False) -> str:
    """Return host and port of an origin; the default port is left out unless requested."""
    scheme, host, port = origin
    literal = f"[{host}]" if ":" in host else host
    return literal if port == PORTS[scheme] and not with_port else f"{literal}:{port}"
