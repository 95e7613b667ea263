"""URLs as registries write them in headers, in the form that is sent, and in the form that messages show.

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
"""The schemes that are spoken, and the port of each where a URL names none."""
_URL = re.compile(r"(https?://[^/?#]+)([^#]*)", re.IGNORECASE)
_BRACKETED = re.compile(r"\[[^][]*\](?::\d*)?")
_NAME = re.compile(r"[A-Za-z0-9._~-]+")
_PROPER = re.compile(r"[\x21-\x5b\x5d-\x7e]*")
_AUTHORITY = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?//[^/?#]*")
LONGEST_HOST = 253
"""Characters of a host's name (RFC 1035, section 2.3.4)."""
_SHOWN = 300
"""Characters of an address that a message shows."""
_PRINTABLE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "\\")


def encoded(location: str) -> str:
    """A Location or Link with what it must not hold percent-encoded, as browsers and Go's client do it.

    Args:
        location: absolute or relative; bytes above 127 are those of Latin-1, as they come in headers.

    Raises:
        Invalid: its host holds a backslash or a blank, which clients disagree about.
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
    """A host's name in the letters that its bytes mean."""
    try:
        return authority.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return authority


def origin_of(url: str) -> Origin:
    """Where a URL leads to; raises ValueError where it is no http or https address."""
    return split(url)[0]


def split(url: str) -> tuple[Origin, str]:
    """Where a URL leads to, and what to ask for there; raises ValueError as `origin_of`."""
    match = _URL.match(url)
    if match is None:
        raise ValueError("it is not an address of the web")
    target = match[2]
    return _origin(match[1]), target if target.startswith("/") else f"/{target}"


@lru_cache(maxsize=1024)
def _origin(beginning: str) -> Origin:
    parts = urlsplit(beginning)
    place = parts.netloc.rpartition("@")[2]
    # Of a host that has brackets anywhere, Python reads what is between them, and ignores what is around them.
    if ("[" in place or "]" in place) and _BRACKETED.fullmatch(place) is None:
        raise ValueError("its host is no address in brackets")
    host = parts.hostname or ""
    if not host:
        raise ValueError("it names no host")
    if not host.isascii():
        host = host.encode("idna").decode("ascii")
    if ":" in host:
        ip_address(host)
    elif _NAME.fullmatch(host) is None:
        raise ValueError("its host is not a valid name")
    return parts.scheme, host, parts.port or PORTS[parts.scheme]


def redacted(url: str) -> str:
    """Return a URL for messages: without credentials, query and fragment, which may be secret, and not too long."""
    shown = urlsplit(url)._replace(netloc=host_of(url), query="", fragment="").geturl()
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"


def host_of(url: str) -> str:
    """Return a URL's host for messages, with the port that it names and without credentials."""
    host = urlsplit(url).netloc.rpartition("@")[2]
    return host if len(host) <= _SHOWN else f"{host[:_SHOWN]}…"


def authority(origin: Origin, *, with_port: bool = False) -> str:
    """Host and port of an origin as a URL has them, without a port that goes without saying unless it is wanted."""
    scheme, host, port = origin
    literal = f"[{host}]" if ":" in host else host
    return literal if port == PORTS[scheme] and not with_port else f"{literal}:{port}"
