"""The errors of a client of a server."""

from tagferry.errors import Refused, Unavailable


class ServerUnreachable(Unavailable):
    """A server cannot be reached, or what answers is none."""


class ServerError(Refused):
    """A server refused a request, or failed.

    Attributes:
        status: the HTTP status.
        text: the server's sentence.
        code: the server's error code.
    """

    def __init__(self, status: int, text: str, *, code: str, request_id: str) -> None:
        super().__init__(f"{text} ({code}, request {request_id})")
        self.status = status
        self.text = text
        self.code = code
