"""Who may have images brought from where to where; whatever asks for that is let in here."""

from dataclasses import dataclass

from tagferry.accounts.model import Caller, Organization, Permission
from tagferry.accounts.organizations import Organizations
from tagferry.errors import Invalid, NotFound
from tagferry.names import Namespace, RegionId
from tagferry.sync.regions import Regions


@dataclass(frozen=True, slots=True)
class Admitted:
    """The organizations of both ends; None where only an open region's registry knows one."""

    source: Organization | None
    target: Organization | None


async def admit(
    regions: Regions,
    organizations: Organizations,
    caller: Caller,
    *,
    source: tuple[RegionId, Namespace],
    target: tuple[RegionId, Namespace],
) -> Admitted:
    """Let the caller pass who may read the one place and write the other.

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
            "and remoteNamespace must not both be those of the source",
            f"{target_region}/{target_namespace}",
        )
    read = await organizations.require(caller, *source, Permission.READ)
    return Admitted(source=read, target=await admit_target(organizations, caller, target))


async def admit_target(
    organizations: Organizations, caller: Caller, target: tuple[RegionId, Namespace]
) -> Organization | None:
    """Let the caller pass who may write the target; raises NotFound and Denied."""
    try:
        return await organizations.require(caller, *target, Permission.EDIT)
    except NotFound as error:
        raise NotFound("organization", error.name, "remoteNamespace must exist in the target region") from None
