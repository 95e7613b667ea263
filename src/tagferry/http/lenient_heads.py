"""Makes a proper head of an answer out of one that only lenient clients read (RFC 9112, sections 2.2, 5 and 6.3).

Registries are behind proxies and appliances of all ages. The parser is strict, so that heads that it refuses are
rewritten in the form that it reads; a head that could mean two things stays refused.
"""

import re

TLS_RECORDS = (b"\x15\x03", b"\x16\x03")
"""How a server's first bytes begin that speaks TLS: an alert, or a handshake."""
_END = re.compile(rb"\r?\n\r?\n")
_FOLD = re.compile(rb"\r?\n[ \t]+")
_LINE = re.compile(rb"\r?\n")
_STATUS = re.compile(rb"\s*HTTP/(\d\.\d) +(?=\d{3}(?: |$))")
_INTERIM = re.compile(rb"\s*HTTP/\d\.\d +1\d\d")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def normalized(data: bytes) -> bytes | None:
    """Rewrite bytes that begin with an answer's head in the form that the parser reads; None if the head is incomplete.

    A version that is unknown counts as the one that is spoken here. Folded lines become one, equal Content-Length
    headers become one, a bare line feed ends a line, blanks around a name and lines that hold no header go, and control
    characters become blanks.
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
    """Return whether an answer with this beginning may be HTTP."""
    word = beginning.lstrip()[:5]
    return b"HTTP/".startswith(word)


def _version(match: re.Match[bytes]) -> bytes:
    return b"HTTP/1.0 " if match[1] == b"1.0" else b"HTTP/1.1 "


def _framed(fields: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The same with one header that says where the body ends, unless they differ."""
    codings = [value.lower() for name, value in fields if name.lower() == b"transfer-encoding"]
    lengths = {one.strip() for name, value in fields if name.lower() == b"content-length" for one in value.split(b",")}
    others = [(name, value) for name, value in fields if name.lower() != b"content-length"]
    if codings == [b"identity"]:
        others = [(name, value) for name, value in others if name.lower() != b"transfer-encoding"]
    elif codings and lengths:
        # The chunks show the end; whatever follows them on the connection is not reliable.
        return [*others, (b"Connection", b"close")]
    lengths.discard(b"")
    if len(lengths) > 1:
        return fields
    return [*others, *((b"Content-Length", length) for length in lengths)]
