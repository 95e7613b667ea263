"""The paths of repositories, whose names may contain slashes."""

from starlette.convertors import Convertor, register_url_convertor

_BELOW = (
    "access",
    "accessories",
    "comparison",
    "references",
    "retentions",
    "sync_images",
    "sync_job",
    "sync_plan",
    "sync_repo",
    "tags",
    "triggers",
)
"""The path segments of resources below a repository."""


class _RepositoryPath(Convertor[str]):
    """A repository's name at the end of a path, with any encoding of its slashes.

    A segment after a slash that is in `_BELOW` is not part of the name. Otherwise, a request with a wrong method for a
    resource below a repository would match a repository of that name. Such a name can be sent with `$` for the slash.
    """

    regex = rf"[^/]+(?:/(?!(?:{'|'.join(_BELOW)})(?:/|$))[^/]+)*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("repository", _RepositoryPath())

ORGANIZATIONS = "/v2/manage/namespaces"
REPOSITORIES = f"{ORGANIZATIONS}/{{namespace}}/repos"
REPOSITORY = f"{REPOSITORIES}/{{repository:repository}}"
"""The path of a repository itself."""
BELOW_REPOSITORY = f"{REPOSITORIES}/{{repository:path}}"
"""The path of a repository as a prefix of the paths of its resources, which end the name."""
