"""A request to a registry, before it is known where and with which authorization it is sent."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tagferry import bounds
from tagferry.errors import Unavailable
from tagferry.http.connection import Stream


class Reauthorized(Unavailable):
    """A guarded request was refused for its authorization, and can be sent with another one now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request.

    Attributes:
        task: completes the sentence "when asked to ...".
        url: an absolute URL, or a path with a query below the registry's address; encoded already.
        scopes: what a token must allow (Token Authentication, "scope").
        body: bytes can be sent again, a stream cannot.
        accept: the statuses that the caller handles; any other is raised as an error.
        redirects: whether another address may answer a question instead; what writes is always led on.
        limit: bytes that the answer's body may have.
        bytes_to_verify: bytes that the registry has to read again before it can answer.
        whole: bytes of the blob that is asked for: a body of as many is taken as it is, however it is labelled.
        is_content: whether the answer is verified by its digest, so that it may come from storage without TLS.
        is_for_token: whether it goes to the registry's token server, which belongs to it wherever it is.
        is_guarded: whether the caller has to look at the registry before this is sent as another user, or with another
            token, than at first; `Reauthorized` is raised instead.
    """

    method: str
    task: str
    url: str
    scopes: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Stream = b""
    accept: frozenset[int] = frozenset({200})
    redirects: bool = False
    limit: int = bounds.MANIFEST_BYTES
    bytes_to_verify: int = 0
    whole: int | None = None
    is_content: bool = False
    is_for_token: bool = False
    is_guarded: bool = False

    @property
    def writes(self) -> bool:
        """Return whether it asks for a change."""
        return self.method not in ("GET", "HEAD")
