"""The copy route of a request or a job."""

from tagferry.copy.route import Route
from tagferry.names import RepositoryName
from tagferry.regions import Regions
from tagferry.sync.jobs.model import SyncJob, SyncRequest


def route_of(regions: Regions, wanted: SyncRequest | SyncJob) -> Route:
    """Return the source and target of a request or a job; raises NotFound."""
    target = regions[wanted.target_region]
    return Route(
        source=regions[wanted.source_region].store,
        source_repository=RepositoryName.of(wanted.namespace, wanted.repository),
        target=target.store,
        target_repository=RepositoryName.of(wanted.target_namespace, wanted.repository),
        accepts=target.accepts,
    )
