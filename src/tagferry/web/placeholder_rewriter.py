"""Support for the vendor's SDK samples, which run unmodified.

The published samples never set the organization and the repository. The SDK for Python then sends the path's
placeholders literally, the SDK for Go sends empty names. If a region's configuration has a `placeholder_repository`,
it replaces them; otherwise such requests are rejected. A DELETE is always rejected, since an empty name may be a
mistake, which must not delete anything.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

from tagferry.names import RepositoryName

_PREFIXES = ("/v2/manage/namespaces/", "/v3/manage/namespaces/")
_NAMESPACE, _REPOSITORY = ("", "{namespace}"), ("", "{repository}")
_COLLECTIONS = ("repos", "repositories")


class PlaceholderRewriter:
    """Middleware that replaces placeholders in the routed path. The signature is verified over the original path."""

    def __init__(self, app: ASGIApp, repository: RepositoryName) -> None:
        self._app = app
        self._namespace = str(repository.namespace)
        self._repository = repository.repository.replace("/", "$")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] != "DELETE" and scope["path"].startswith(_PREFIXES):
            scope = {**scope, "path": self._replaced(scope["path"])}
        await self._app(scope, receive, send)

    def _replaced(self, path: str) -> str:
        """Return the path with the configured names. A repository is replaced only if its organization is."""
        prefix = next(one for one in _PREFIXES if path.startswith(one))
        namespace, *below = path.removeprefix(prefix).split("/")
        if namespace not in _NAMESPACE:
            return path
        if len(below) > 1 and below[0] in _COLLECTIONS and below[1] in _REPOSITORY:
            below[1] = self._repository
        return prefix + "/".join((self._namespace, *below))
