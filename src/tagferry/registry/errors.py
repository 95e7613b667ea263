"""The errors of the embedded registry; `error_responses` serializes them."""

from tagferry.errors import Conflict, Invalid, NotFound, TagferryError
from tagferry.names import Digest


class MissingReference(NotFound):
    """A manifest that refers to a blob or a manifest which its repository does not hold."""


class InvalidPage(Invalid):
    """A page of a listing that cannot be told: `n` is not a number."""


class TooManyTags(Invalid):
    """A manifest that is pushed with more tags than one request may name."""


class InvalidUpload(Invalid):
    """An upload request that breaks the protocol."""


class UploadBusy(Conflict):
    """An upload that another request still moves forward."""

    def __init__(self, identifier: str) -> None:
        super().__init__(
            "upload", f"upload {identifier} is being written by another request; wait for that request, or abort it"
        )


class SizeMismatch(Invalid):
    """A body of another length than its headers say."""


class ClientStalled(Invalid):
    """A request whose body stopped coming in."""

    def __init__(self, field: str, seconds: float) -> None:
        super().__init__(field, f"stopped: no data arrived for {seconds:g} seconds; send the rest, or all of it again")


class OutOfOrder(Invalid):
    """A chunk that does not begin where the upload stands.

    Attributes:
        received: bytes that the upload holds.
    """

    def __init__(self, start: int, received: int) -> None:
        super().__init__("Content-Range", f"must begin at {received}", start)
        self.received = received


class RangeNotSatisfiable(Invalid):
    """A range of a blob that begins behind its end.

    Attributes:
        size: the blob's bytes.
    """

    def __init__(self, value: str, size: int) -> None:
        super().__init__("Range", f"must begin before the end of the blob's {size} bytes", value)
        self.size = size


class Damaged(TagferryError):
    """Stored content that no longer matches its digest."""

    def __init__(self, digest: Digest | str) -> None:
        super().__init__(f"{digest} is damaged in this registry's storage; push the image again")


class NotAllowed(TagferryError):
    """A method that this path does not have.

    Attributes:
        allowed: the methods that it has.
    """

    def __init__(self, method: str, allowed: tuple[str, ...]) -> None:
        super().__init__(f"{method} is not possible here; use one of {', '.join(allowed)}")
        self.allowed = allowed
