"""The baseline of a repository: its tags and digests when a rule or trigger is enabled."""

from tagferry.accounts.repositories import Repositories
from tagferry.errors import NotFound
from tagferry.names import Digest, RepositoryRef, Tag
from tagferry.regions import Regions


async def read_baseline(regions: Regions, repositories: Repositories, source: RepositoryRef) -> dict[Tag, Digest]:
    """Return the tags of a repository with their digests; empty if it has no images yet. Raises NotFound."""
    store = regions[source.region].store
    try:
        return {record.tag: record.digest for record in await store.describe_tags(source.name)}
    except NotFound:
        if await repositories.find(source.region, source.name) is None:
            raise
    return {}
