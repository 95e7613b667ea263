"""Who may do what: the question that the registry asks of whoever embeds it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from tagferry.names import RepositoryName


class Action(Enum):
    """What a caller wants to do with a repository."""

    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Login:
    """What a caller shows.

    Attributes:
        authorization: the Authorization header.
        address: where the connection comes from.
    """

    authorization: str | None
    address: str


class Gate(Protocol):
    """Tells who a caller is and what the caller may do."""

    @property
    def challenge(self) -> str:
        """The WWW-Authenticate header of every 401, as `Basic realm="tagferry", charset="UTF-8"`."""
        ...

    async def check(self, login: Login, actions: frozenset[Action], repository: RepositoryName | None) -> str | None:
        """Let the caller pass, or raise.

        Args:
            login: what the caller shows.
            actions: all that the caller wants to do.
            repository: where; None asks only that the caller is known.

        Returns:
            The caller's name; None for somebody who shows nothing.

        Raises:
            Unauthenticated: nobody, or wrong credentials.
            Denied: the caller is known and may not.
            NotFound: of the kind `organization`: what is pushed to does not exist.
        """
        ...

    async def visible(self, login: Login, repositories: Sequence[RepositoryName]) -> Sequence[RepositoryName]:
        """Those of the repositories that the caller may pull, in the order given."""
        ...
