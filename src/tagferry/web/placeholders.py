"""Lets the vendor's SDK samples run as they are.

The published samples never set the organization and the repository, so the SDKs send the path's placeholders
literally. Where a region's configuration says which repository they stand for, that one is meant; otherwise they
are refused like any other bad name.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

from tagferry.names import RepositoryName

_NAMESPACE, _REPOSITORY = "{namespace}", "{repository}"


class Placeholders:
    """Replaces the placeholders in the path that is routed; what was signed stays as it was sent."""

    def __init__(self, app: ASGIApp, repository: RepositoryName) -> None:
        self._app = app
        self._namespace = str(repository.namespace)
        self._repository = repository.repository.replace("/", "$")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _NAMESPACE in scope["path"]:
            path = scope["path"].replace(_NAMESPACE, self._namespace).replace(_REPOSITORY, self._repository)
            scope = {**scope, "path": path}
        await self._app(scope, receive, send)
