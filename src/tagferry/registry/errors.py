"""The errors of the embedded registry; `registry.api.errors` maps them to responses."""

from tagferry.errors import Conflict, Invalid, NotFound, TagferryError
from tagferry.names import Digest


class MissingReference(NotFound):
    """A manifest refers to a blob or manifest that its repository does not hold."""


class InvalidPage(Invalid):
    """The page size `n` of a list is not a number."""


class TooManyTags(Invalid):
    """A push names more tags than one request may."""


class InvalidUpload(Invalid):
    """An upload request violates the protocol."""


class UploadBusy(Conflict):
    """Another request is writing to the upload."""

    def __init__(self, identifier: str) -> None:
        super().__init__(
            "upload", f"upload {identifier} is in use by another request; wait for that request, or abort it"
        )


class SizeMismatch(Invalid):
    """The length of a body differs from its headers."""


class ClientStalled(Invalid):
    """The client stopped sending a request's body."""

    def __init__(self, field: str, seconds: float) -> None:
        super().__init__(
            field, f"stopped: no data arrived for {seconds:g} seconds; send the rest, or repeat the request"
        )


class OutOfOrder(Invalid):
    """A chunk does not begin at the end of its upload.

    Attributes:
        received: the bytes that the upload has received.
    """

    def __init__(self, start: int, received: int) -> None:
        super().__init__("Content-Range", f"must begin at {received}", start)
        self.received = received


class RangeNotSatisfiable(Invalid):
    """The requested range begins after the end of the blob.

    Attributes:
        size: the blob's size in bytes.
    """

    def __init__(self, value: str, size: int) -> None:
        super().__init__("Range", f"must begin before the end of the blob's {size} bytes", value)
        self.size = size


class Damaged(TagferryError):
    """Stored content does not match its digest."""

    def __init__(self, digest: Digest | str) -> None:
        super().__init__(f"{digest} is damaged in this registry's storage; push the image again")


class NotAllowed(TagferryError):
    """The path does not support the method.

    Attributes:
        allowed: the methods that the path supports.
    """

    def __init__(self, method: str, allowed: tuple[str, ...]) -> None:
        super().__init__(f"method {method} is not supported here; use one of {', '.join(allowed)}")
        self.allowed = allowed
