"""The scopes of registry tokens, `type:name:action,action`.

Source: the distribution project's "Token Scope Documentation".
"""

from collections.abc import Iterable

from tagferry.names import RepositoryName


def pull_scope(repository: RepositoryName) -> str:
    """Return the scope of requests that read from a repository."""
    return f"repository:{repository}:pull"


def push_scope(repository: RepositoryName) -> str:
    """Return the scope of requests that write to a repository."""
    return f"repository:{repository}:pull,push"


def delete_scope(repository: RepositoryName) -> str:
    """Return the scope of requests that delete from a repository."""
    return f"repository:{repository}:pull,delete"


def missing_scopes(held: Iterable[str], wanted: Iterable[str]) -> list[str]:
    """Return the wanted scopes that no held scope covers."""
    ours = list(held)
    return [scope for scope in wanted if not any(_covers(one, scope) for one in ours)]


def repository_of(scopes: Iterable[str]) -> str:
    """Return the repository of the first scope that names one; an empty string if there is none."""
    for scope in scopes:
        kind, _, rest = scope.partition(":")
        if kind == "repository":
            return rest.rpartition(":")[0]
    return ""


def actions_of(scope: str) -> frozenset[str]:
    """Return the actions of a scope `type:name:action,action`."""
    return frozenset(scope.rpartition(":")[2].split(","))


def _covers(ours: str, requested: str) -> bool:
    """Return whether a scope `type:name:action,action` grants everything that another one requests."""
    return ours.rpartition(":")[0] == requested.rpartition(":")[0] and actions_of(requested) <= actions_of(ours)
