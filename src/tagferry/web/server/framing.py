"""The limits of one HTTP/1.1 message while it is read: its head, and the framing of its body (RFC 9112)."""

import re

from tagferry import bounds

_HOST = re.compile(rb"(?:[A-Za-z0-9._~%!$&'()*+,;=-]+|\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._~%-]+)?\])(?::[0-9]*)?")
_VERSIONS = frozenset({"1.0", "1.1"})


class RefusedMessage(Exception):
    """A request is refused.

    Attributes:
        status: the HTTP status of the response.
        message: the error message of the response.
        bound: the name of the bound that was reached, if any.
    """

    def __init__(self, status: int, message: str, bound: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.bound = bound


class MessageLimits:
    """Counts what has arrived of a message; methods raise RefusedMessage once it is too much.

    Attributes:
        hosts: the values of its Host headers.
        codings: the values of its Transfer-Encoding headers.
        head_bytes: bytes of its head.
        body_bytes: bytes of its content.
        unread_bytes: bytes of its content that arrived after its response.
    """

    __slots__ = (
        "_framing_bytes",
        "_pieces",
        "_trailers",
        "_unparsed_bytes",
        "body_bytes",
        "codings",
        "head_bytes",
        "hosts",
        "unread_bytes",
    )

    def __init__(self) -> None:
        self.hosts: list[bytes] = []
        self.codings: list[bytes] = []
        self.head_bytes = self.body_bytes = self.unread_bytes = 0
        self._unparsed_bytes = self._framing_bytes = self._pieces = self._trailers = 0

    def add_url(self, size: int) -> None:
        """Count a part of the URL."""
        self.head_bytes += size
        if self.head_bytes > bounds.HEAD_BYTES:
            raise _url_too_long()

    def add_unparsed_head(self, size: int, url: bytes) -> None:
        """Count bytes of the head that the parser has not reported yet."""
        self._unparsed_bytes += size
        if self._unparsed_bytes > bounds.HEAD_BYTES:
            raise head_too_long(url)

    def add_framing(self, size: int) -> None:
        """Count bytes of the body that are not content."""
        self._framing_bytes += size
        if self._framing_bytes > bounds.FRAMING_BYTES + self.body_bytes // 8:
            raise RefusedMessage(
                400, "the body has too many bytes of chunk sizes, extensions or trailers", "framing_bytes"
            )

    def add_trailer(self) -> None:
        """Count a field of the trailer."""
        self._trailers += 1
        if self._trailers > bounds.HEADERS:
            raise RefusedMessage(431, f"the trailer must have at most {bounds.HEADERS} fields", "headers")

    def add_content(self, size: int) -> None:
        """Count a piece of the content."""
        self.body_bytes += size
        self._pieces += 1
        if self._pieces > bounds.BODY_PIECES + self.body_bytes // 64:
            raise RefusedMessage(400, "the body has too many small chunks; send larger ones", "body_pieces")

    def add_unread(self, size: int) -> None:
        """Count content that arrived after the response."""
        self.unread_bytes += size
        if self.unread_bytes > bounds.UNREAD_BODY_BYTES:
            raise RefusedMessage(413, "the request was answered before the end of its body", "unread_body_bytes")

    def check_head(self, version: str) -> None:
        """Refuse a head whose framing clients, proxies and servers could interpret differently."""
        if version not in _VERSIONS:
            raise RefusedMessage(505, f"HTTP/{version} is not supported; use HTTP/1.1")
        hosts = self.hosts
        if len(hosts) > 1 or (not hosts and version == "1.1"):
            raise RefusedMessage(400, f"the request must have one Host header: got {len(hosts)}")
        if hosts and not _HOST.fullmatch(hosts[0]):
            raise RefusedMessage(400, "the Host header must be HOST or HOST:PORT")
        if self.codings:
            if version == "1.0":
                raise RefusedMessage(400, "HTTP/1.0 has no Transfer-Encoding; use Content-Length")
            if len(self.codings) > 1 or self.codings[0].lower() != b"chunked":
                raise RefusedMessage(501, "Transfer-Encoding must be chunked")


def head_too_long(url: bytes) -> RefusedMessage:
    """Return the refusal of a head that is too long, which may be due to its URL."""
    if len(url) > bounds.HEAD_BYTES // 2:
        return _url_too_long()
    return RefusedMessage(431, f"the request's head must have at most {bounds.HEAD_BYTES} bytes", "head_bytes")


def _url_too_long() -> RefusedMessage:
    return RefusedMessage(414, f"the URL must be shorter than {bounds.HEAD_BYTES} bytes", "head_bytes")
