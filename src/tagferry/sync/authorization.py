"""Authorization of synchronizations and of the rules that start them."""

from dataclasses import dataclass

from tagferry.accounts.access import Access, AccessControl
from tagferry.accounts.model import Caller, Permission
from tagferry.errors import Invalid, NotFound
from tagferry.names import Namespace, RegionId, Repository, RepositoryName
from tagferry.regions import Regions


@dataclass(frozen=True, slots=True)
class SyncAccess:
    """The caller's access to the source and the target of a synchronization."""

    source: Access
    target: Access


async def authorize_sync(
    regions: Regions,
    access: AccessControl,
    caller: Caller,
    *,
    repository: Repository,
    source: tuple[RegionId, Namespace],
    target: tuple[RegionId, Namespace],
) -> SyncAccess:
    """Require permission to read the source repository and to write the target repository.

    Raises:
        Invalid: the target region is unknown, or the target is the source.
        NotFound: one of the organizations does not exist.
        Denied: the caller may not read the source or not write the target.
    """
    target_region, target_namespace = target
    if target_region not in regions:
        known = ", ".join(region.id for region in regions)
        raise Invalid("remoteRegionId", f"must be one of the known regions ({known})", str(target_region))
    if source == target:
        raise Invalid(
            "remoteRegionId",
            "must be another region than the source's, or remoteNamespace another organization",
            f"{target_region}/{target_namespace}",
        )
    return SyncAccess(
        source=await authorize_source(access, caller, source, repository),
        target=await authorize_target(access, caller, target, repository),
    )


async def authorize_source(
    access: AccessControl, caller: Caller, source: tuple[RegionId, Namespace], repository: Repository
) -> Access:
    """Require permission to read the source; raises NotFound and Denied."""
    region, namespace = source
    return await access.require(caller, region, RepositoryName.of(namespace, repository), Permission.READ)


async def authorize_target(
    access: AccessControl, caller: Caller, target: tuple[RegionId, Namespace], repository: Repository
) -> Access:
    """Require permission to write the target; raises NotFound and Denied."""
    region, namespace = target
    try:
        return await access.require(caller, region, RepositoryName.of(namespace, repository), Permission.EDIT)
    except NotFound as error:
        hint = f"remoteNamespace must be one of the target region's: {error.hint}"
        raise NotFound("organization", error.name, hint, where=error.where) from None
