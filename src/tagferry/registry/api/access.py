"""Authorization of registry requests: the interface that the embedding application implements."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, Self

from tagferry.errors import Invalid, InvalidName, Unauthenticated
from tagferry.names import RepositoryName


class Action(Enum):
    """An operation on a repository that needs permission."""

    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"


class InvalidTokenRequest(Invalid):
    """A token request is malformed."""


class InsufficientScope(Unauthenticated):
    """The token's scope does not cover the operation."""


@dataclass(frozen=True, slots=True)
class Scope:
    """The operations that a token allows at most, written `type:name:action,action`.

    Source: the distribution project's "Token Scope Documentation".

    Attributes:
        kind: `repository` or `registry`; other kinds are not supported.
        name: the name of a repository, or `catalog`.
        actions: values of `Action`, or `*` for all; others have no effect.
    """

    kind: str
    name: str
    actions: frozenset[str]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a scope; raises InvalidTokenRequest."""
        kind, _, rest = text.partition(":")
        # The name may begin with a host and port, which also contain a colon.
        name, _, actions = rest.rpartition(":")
        if not (kind and name and actions):
            raise InvalidTokenRequest("scope", "must have the form type:name:action,action", text)
        return cls(kind, name, frozenset(actions.split(",")))

    @classmethod
    def of(cls, repository: RepositoryName, actions: Collection[Action]) -> Self:
        """Return the scope for these actions in a repository."""
        return cls("repository", repository, frozenset(action.value for action in actions))

    def supported(self) -> "Scope | None":
        """Return the part that this registry supports; None for an unsupported kind or an invalid name."""
        if self.kind == CATALOG.kind:
            return self if self == CATALOG else None
        known = self.actions & {"*", *(action.value for action in Action)}
        try:
            name = RepositoryName(self.name)
        except InvalidName:
            return None
        return Scope(self.kind, name, known) if self.kind == "repository" and known else None

    def covers(self, other: "Scope") -> bool:
        """Return whether this scope includes another one."""
        same = (self.kind, self.name) == (other.kind, other.name)
        return same and ("*" in self.actions or other.actions <= self.actions)

    def __str__(self) -> str:
        known = [action.value for action in Action if action.value in self.actions]
        return f"{self.kind}:{self.name}:{','.join([*known, *sorted(self.actions.difference(known))])}"


CATALOG = Scope("registry", "catalog", frozenset({"*"}))
"""The scope for listing repositories."""


@dataclass(frozen=True, slots=True)
class Login:
    """The credentials of a request, and where it came from.

    Attributes:
        authorization: the Authorization header.
        address: the client's address.
        origin: the URL of this registry as the client sees it, e.g. `https://registry.example.com`; None if unknown.
    """

    authorization: str | None
    address: str
    origin: str | None = None


class Authorizer(Protocol):
    """Authenticates callers and authorizes their requests."""

    def challenge(self, login: Login, scopes: Sequence[Scope], error: Unauthenticated) -> str:
        """Return the WWW-Authenticate header of a 401 response.

        Args:
            login: the caller's credentials.
            scopes: the scopes that the request needs.
            error: why the request was refused.
        """
        ...

    async def authorize(
        self, login: Login, actions: frozenset[Action], repository: RepositoryName | None
    ) -> str | None:
        """Authenticate the caller, and authorize all actions.

        Args:
            login: the caller's credentials.
            actions: the actions to authorize.
            repository: the repository; None only authenticates.

        Returns:
            The caller's name; None for an anonymous caller.

        Raises:
            Unauthenticated: missing or invalid credentials.
            Denied: authenticated but not authorized.
            NotFound: of the kind `organization`: the organization of a push does not exist.
        """
        ...

    async def visible(self, login: Login, repositories: Sequence[RepositoryName]) -> Sequence[RepositoryName]:
        """Return the repositories that the caller may pull, in the given order; raises Unauthenticated."""
        ...
