"""URLs as registries write them in headers, brought into the form that is sent (RFC 3986, section 2)."""

import re
from urllib.parse import quote

from tagferry.errors import Invalid

_PROPER = re.compile(r"[\x21-\x5b\x5d-\x7e]*")
_AUTHORITY = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?//[^/?#]*")
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
