"""The arguments of the registry API's handlers."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tagferry.errors import Denied, InvalidName, NotFound, Unauthenticated
from tagferry.names import Digest, Reference, RepositoryName, Tag
from tagferry.oci.model import Manifest
from tagferry.registry.api.access import Action, Authorizer, InsufficientScope
from tagferry.registry.api.asgi import Request, Response
from tagferry.registry.storage.store import DiskStore

OnPush = Callable[[RepositoryName, Tag | None, Digest, str | None], Awaitable[None]]
"""Called after each push of a manifest, with its tag, if any, and the caller's name, if known."""

OnDelete = Callable[[RepositoryName, Reference], Awaitable[None]]
"""Called after each deletion of a tag, or of a manifest with its tags."""

OnPull = Callable[[RepositoryName, Manifest], None]
"""Called for each manifest that is sent."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """An authorized request.

    Attributes:
        caller: the caller's name; None if anonymous.
        repository: the repository in the path, if any.
        reference: the last part of the path: a tag, a digest or the identifier of an upload, unparsed.
    """

    request: Request
    store: DiskStore
    authorizer: Authorizer
    on_push: OnPush | None
    on_delete: OnDelete | None
    on_pull: OnPull | None
    caller: str | None
    repository: RepositoryName
    reference: str

    async def permits(self, action: Action, repository: RepositoryName) -> bool:
        """Return whether the caller may perform an action in another repository; raises InsufficientScope."""
        try:
            await self.authorizer.authorize(self.request.login, frozenset({action}), repository)
        except InsufficientScope:
            raise
        except (Unauthenticated, Denied, NotFound, InvalidName):
            return False
        return True

    def matches(self, etag: str) -> bool:
        """Return whether the client has this entity already (RFC 9110, If-None-Match)."""
        known = self.request.headers.get("if-none-match")
        if known is None:
            return False
        return known.strip() == "*" or etag in re.findall(r'"[^"]*"', known)


Handler = Callable[[Exchange], Awaitable[Response]]
