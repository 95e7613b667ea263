"""Who may do what: the question that the registry asks of whoever embeds it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, Self

from tagferry.errors import Invalid, InvalidName, Unauthenticated
from tagferry.names import RepositoryName


class Action(Enum):
    """What a caller wants to do with a repository."""

    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"


class InvalidTokenRequest(Invalid):
    """A request for a token that cannot be read."""


class InsufficientScope(Unauthenticated):
    """A token that was not asked for what its holder wants to do with it."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What a token is good for at most; in text `type:name:action,action`.

    Source: the distribution project's "Token Scope Documentation".

    Attributes:
        kind: `repository`, `registry`, or anything else, of which there is nothing here.
        name: a repository's name, or `catalog`.
        actions: those of `Action`, or `*` for all; others are good for nothing.
    """

    kind: str
    name: str
    actions: frozenset[str]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read one; raises InvalidTokenRequest."""
        kind, _, rest = text.partition(":")
        # A name may begin with a host and its port.
        name, _, actions = rest.rpartition(":")
        if not (kind and name and actions):
            raise InvalidTokenRequest("scope", "must have the form type:name:action,action", text)
        return cls(kind, name, frozenset(actions.split(",")))

    @classmethod
    def of(cls, repository: RepositoryName, actions: Collection[Action]) -> Self:
        """What these actions in a repository need."""
        return cls("repository", repository, frozenset(action.value for action in actions))

    def here(self) -> "Scope | None":
        """What of it there is in a registry; None where that is nothing, as of another kind or an impossible name."""
        if self.kind == CATALOG.kind:
            return self if self == CATALOG else None
        known = self.actions & {"*", *(action.value for action in Action)}
        try:
            name = RepositoryName(self.name)
        except InvalidName:
            return None
        return Scope(self.kind, name, known) if self.kind == "repository" and known else None

    def covers(self, other: "Scope") -> bool:
        """Whether a token with this scope is good for all of another one."""
        same = (self.kind, self.name) == (other.kind, other.name)
        return same and ("*" in self.actions or other.actions <= self.actions)

    def __str__(self) -> str:
        known = [action.value for action in Action if action.value in self.actions]
        return f"{self.kind}:{self.name}:{','.join([*known, *sorted(self.actions.difference(known))])}"


CATALOG = Scope("registry", "catalog", frozenset({"*"}))
"""What it needs to list the repositories."""


@dataclass(frozen=True, slots=True)
class Login:
    """What a caller shows.

    Attributes:
        authorization: the Authorization header.
        address: where the connection comes from.
        origin: how the caller addresses this registry, as `https://registry.example.com`; None where it does not tell.
    """

    authorization: str | None
    address: str
    origin: str | None = None


class Authorizer(Protocol):
    """Tells who a caller is and what the caller may do."""

    def challenge(self, login: Login, scopes: Sequence[Scope], error: Unauthenticated) -> str:
        """The WWW-Authenticate header of a 401.

        Args:
            login: what the caller showed.
            scopes: what its request needs.
            error: why it was refused.
        """
        ...

    async def authorize(
        self, login: Login, actions: frozenset[Action], repository: RepositoryName | None
    ) -> str | None:
        """Let the caller pass, or raise.

        Args:
            login: what the caller shows.
            actions: all that the caller wants to do.
            repository: where; None asks only that the caller has passed a login.

        Returns:
            The caller's name; None for somebody who shows nothing.

        Raises:
            Unauthenticated: nobody, or wrong credentials.
            Denied: the caller is known and may not.
            NotFound: of the kind `organization`: what is pushed to does not exist.
        """
        ...

    async def visible(self, login: Login, repositories: Sequence[RepositoryName]) -> Sequence[RepositoryName]:
        """Those of the repositories that the caller may pull, in the order given; raises Unauthenticated."""
        ...
