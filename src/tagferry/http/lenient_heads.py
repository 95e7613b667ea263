"""Normalizes response heads that only lenient clients accept (RFC 9112, sections 2.2, 5 and 6.3).

Registries run behind proxies and appliances of all ages. The parser is strict, so heads that it refuses are rewritten
to a form that it accepts. Ambiguous heads stay refused.
"""

import re

TLS_RECORDS = (b"\x15\x03", b"\x16\x03")
"""The first bytes of a server that speaks TLS: an alert or a handshake."""
_END = re.compile(rb"\r?\n\r?\n")
_FOLD = re.compile(rb"\r?\n[ \t]+")
_LINE = re.compile(rb"\r?\n")
_STATUS = re.compile(rb"\s*HTTP/(\d\.\d) +(?=\d{3}(?: |$))")
_INTERIM = re.compile(rb"\s*HTTP/\d\.\d +1\d\d")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def normalized(data: bytes) -> bytes | None:
    """Rewrite bytes that begin with a response head to a form that the parser accepts; None if the head is incomplete.

    An unknown version becomes HTTP/1.1. Folded lines are joined, equal Content-Length headers are merged, and a bare
    line feed ends a line. Blanks around names and lines without a header are removed. Control characters become blanks.
    """
    heads = b""
    while True:
        end = _END.search(data)
        if end is None:
            return None
        head, data = data[: end.start()], data[end.end() :]
        heads += _normalized(head)
        if _INTERIM.match(head) is None:
            return heads + data


def _normalized(head: bytes) -> bytes:
    status, *lines = _LINE.split(_FOLD.sub(b" ", head))
    status = _STATUS.sub(_version, status, count=1)
    parted = (line.partition(b":") for line in lines)
    fields = [(name.strip(), _CONTROL.sub(b" ", value).strip()) for name, _, value in parted]
    fields = _framed([(name, value) for name, value in fields if _NAME.fullmatch(name)])
    return b"\r\n".join([status, *(name + b": " + value for name, value in fields)]) + b"\r\n\r\n"


def may_be_http(beginning: bytes) -> bool:
    """Return whether a response that begins like this may be HTTP."""
    word = beginning.lstrip()[:5]
    return b"HTTP/".startswith(word)


def _version(match: re.Match[bytes]) -> bytes:
    return b"HTTP/1.0 " if match[1] == b"1.0" else b"HTTP/1.1 "


def _framed(fields: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the fields with a single header that delimits the body, unless the headers contradict each other."""
    codings = [value.lower() for name, value in fields if name.lower() == b"transfer-encoding"]
    lengths = {one.strip() for name, value in fields if name.lower() == b"content-length" for one in value.split(b",")}
    others = [(name, value) for name, value in fields if name.lower() != b"content-length"]
    if codings == [b"identity"]:
        others = [(name, value) for name, value in others if name.lower() != b"transfer-encoding"]
    elif codings and lengths:
        # The chunks delimit the body; the connection is not reused, since data after them is unreliable.
        return [*others, (b"Connection", b"close")]
    lengths.discard(b"")
    if len(lengths) > 1:
        return fields
    return [*others, *((b"Content-Length", length) for length in lengths)]
