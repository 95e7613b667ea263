"""The names of a list of repositories: what the database records, combined with what the registry lists."""

from collections.abc import Collection, Sequence
from itertools import groupby

from tagferry.accounts.readable import ReadableRepositories
from tagferry.catalog import list_repositories, repositories_with_tags
from tagferry.names import Namespace, RepositoryName
from tagferry.regions import Region

_ASKED_AT_MOST = 500
"""The maximum number of repositories for which one list checks whether they still have an image."""


def listed_namespaces(readable: ReadableRepositories, namespace: str | None) -> Collection[Namespace] | None:
    """Return the organizations of a list, as far as the caller can read them; None for all."""
    namespaces = readable.namespaces
    return namespaces & {namespace} if namespaces is not None and namespace else namespaces


async def listed_names(
    region: Region,
    recorded: Collection[RepositoryName],
    readable: ReadableRepositories,
    namespace: str | None,
    part: str | None,
) -> Sequence[RepositoryName]:
    """Return the names of a list in lexical order: the recorded ones, and those in the registry.

    A name with neither a record nor a tag is omitted, since some registries keep listing deleted repositories. If many
    names have no record, this is not checked.

    Args:
        region: the region.
        recorded: the names of the recorded repositories of `listed_namespaces`.
        readable: what the caller can read.
        namespace: only repositories of this organization.
        part: only repositories with this in their name.

    Raises:
        Unsupported: the region's registry does not list its repositories.
    """
    names: Sequence[RepositoryName] = await list_repositories(region.store, listed_namespaces(readable, namespace))
    if not set(recorded) <= set(names):
        names = sorted({*recorded, *names})
    names = _readable(names, readable, namespace)
    if part:
        names = [name for name in names if part in name.unchecked_repository]
    unrecorded = [name for name in names if name not in recorded] if recorded else names
    if vacant := await _vacant(region, unrecorded):
        names = [name for name in names if name not in vacant]
    return names


def _readable(
    names: Sequence[RepositoryName], readable: ReadableRepositories, namespace: str | None
) -> list[RepositoryName]:
    found: list[RepositoryName] = []
    # Names are sorted, so that those of an organization are next to each other.
    for organization, group in groupby(names, key=lambda name: name.unchecked_namespace):
        if namespace and organization != namespace:
            continue
        if readable.is_everything or organization in readable.organizations:
            found += group
        else:
            found += [name for name in group if name in readable]
    return found


async def _vacant(region: Region, names: Sequence[RepositoryName]) -> set[RepositoryName]:
    """Return the repositories that are known to have no tag, or none if there are too many to check."""
    if len(names) > _ASKED_AT_MOST:
        return set()
    return set(names) - await repositories_with_tags(region.store, names)
