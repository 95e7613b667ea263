"""The paths of repositories, whose names have slashes too."""

from starlette.convertors import Convertor, register_url_convertor

_BELOW = (
    "access",
    "accessories",
    "references",
    "retentions",
    "sync_images",
    "sync_job",
    "sync_plan",
    "sync_repo",
    "tags",
    "triggers",
)
"""What stands below a repository."""


class _RepositoryPath(Convertor[str]):
    """A repository's name up to the end of a path, however its slashes are sent.

    A part behind a slash is not its own where it names something below a repository, so that a wrong method there is
    not taken for one on a repository of that name. Such a repository is meant where the slash is sent as `$`.
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
"""A repository itself; what stands below it has paths of its own."""
BELOW_REPOSITORY = f"{REPOSITORIES}/{{repository:path}}"
"""A repository in the paths of what belongs to it, whose last parts show where its name ends."""
