"""What every route of the registry API is given."""

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
"""Told of every manifest that was pushed, with its tag if it was pushed by one, and by whom if that is known."""

OnDelete = Callable[[RepositoryName, Reference], Awaitable[None]]
"""Told of every tag that was deleted, and of every manifest that was deleted with its tags."""


OnPull = Callable[[RepositoryName, Manifest], None]
"""Told of every manifest that is sent."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request whose caller was let pass.

    Attributes:
        caller: the caller's name, if that is known.
        repository: the repository that the path names, if it names one.
        reference: the path's last part: a tag, a digest or an upload's identifier, unparsed.
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
        """Whether the caller may also do this, elsewhere; raises InsufficientScope where its token tells neither."""
        try:
            await self.authorizer.authorize(self.request.login, frozenset({action}), repository)
        except InsufficientScope:
            raise
        except (Unauthenticated, Denied, NotFound, InvalidName):
            return False
        return True

    def matches(self, etag: str) -> bool:
        """Whether the caller holds this entity already (RFC 9110, If-None-Match)."""
        known = self.request.headers.get("if-none-match", "")
        return known.strip() == "*" or etag in re.findall(r'"[^"]*"', known)


Handler = Callable[[Exchange], Awaitable[Response]]
