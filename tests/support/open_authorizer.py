"""An authorizer for registries that only a test can reach."""

from collections.abc import Sequence

from tagferry.errors import Unauthenticated
from tagferry.names import RepositoryName
from tagferry.registry.api.access import Action, Login, Scope


class OpenAuthorizer:
    """Authorizes every request."""

    def challenge(self, login: Login, scopes: Sequence[Scope], error: Unauthenticated) -> str:
        return "Bearer"

    async def authorize(
        self, login: Login, actions: frozenset[Action], repository: RepositoryName | None
    ) -> str | None:
        return None

    async def visible(self, login: Login, repositories: Sequence[RepositoryName]) -> Sequence[RepositoryName]:
        return repositories
