"""A request to a registry, before its authorization and final URL are known."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from tagferry import bounds
from tagferry.errors import Unavailable
from tagferry.http.connection import Stream


class Reauthorized(Unavailable):
    """A guarded request was refused for its authorization and can now be sent with a new one."""


class Call(NamedTuple):
    """A request.

    Attributes:
        task: completes the sentence "when asked to ...".
        url: an absolute URL, or a path with a query relative to the registry's address; percent-encoded.
        scopes: what a token must allow (Token Authentication, "scope").
        body: bytes can be sent again, a stream cannot.
        accept: the statuses that the caller handles; any other is raised as an error.
        redirects: whether redirects of a read are followed; those of a write always are.
        limit: maximum size of the response body.
        bytes_to_verify: bytes that the registry has to read again before it can respond.
        whole: size of the requested blob: a body of this size is taken as it is, whatever its label.
        is_content: whether the response is verified by its digest, so that it may come from storage without TLS.
        is_for_token: whether it goes to the registry's token server, which belongs to the registry wherever it is.
        is_guarded: raise `Reauthorized` instead of sending it again with another authorization, since the caller has to
            look at the registry first.
    """

    method: str
    task: str
    url: str
    scopes: tuple[str, ...] = ()
    headers: Mapping[str, str] = MappingProxyType({})
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
        """Return whether it is a write."""
        return self.method not in ("GET", "HEAD")
