"""Refuse filters of jobs that name nothing known. An empty list would hide a misspelled name."""

from tagferry.accounts.access import AccessControl
from tagferry.accounts.known_names import ORGANIZATION_RULE, USER_RULE, organization_exists, user_exists
from tagferry.accounts.model import Caller
from tagferry.db.engine import Database
from tagferry.errors import Invalid
from tagferry.names import Namespace
from tagferry.regions import Regions
from tagferry.sync.jobs.all_jobs import AllJobs, JobFilter
from tagferry.sync.jobs.visibility import readable_namespaces


class KnownTerms:
    """Decides whether the names in a filter are known to a caller.

    A name is known if it exists, or if the caller may see a job that has it, since jobs outlive the regions,
    organizations and users that they name. Names that the caller may not read are unknown.

    Args:
        database: has the organizations and the users.
        regions: every region by its id.
        access: has the regions whose organizations are those of their registry.
        listing: lists of the job records.
    """

    def __init__(self, database: Database, *, regions: Regions, access: AccessControl, listing: AllJobs) -> None:
        self._database = database
        self._regions = regions
        self._access = access
        self._listing = listing

    async def require(self, caller: Caller, wanted: JobFilter) -> None:
        """Raise Invalid for the first region, organization or user of a filter that is unknown."""
        for field, region, of_region in (
            ("region", wanted.region, JobFilter(region=wanted.region)),
            ("remote_region", wanted.target_region, JobFilter(target_region=wanted.target_region)),
        ):
            if region is not None and not (region in self._regions or await self._has_jobs(caller, of_region)):
                known = ", ".join(one.id for one in self._regions)
                raise Invalid(field, f"must be one of the known regions ({known})", str(region))
        for field, name, of_organization in (
            ("namespace", wanted.namespace, JobFilter(namespace=wanted.namespace)),
            ("remote_namespace", wanted.target_namespace, JobFilter(target_namespace=wanted.target_namespace)),
        ):
            if name is not None and not (
                await self._knows_organization(caller, name) or await self._has_jobs(caller, of_organization)
            ):
                raise Invalid(field, ORGANIZATION_RULE, str(name))
        if wanted.operator and not (
            await self._knows_user(caller, wanted.operator)
            or await self._has_jobs(caller, JobFilter(operator=wanted.operator))
        ):
            raise Invalid("operator", f"{USER_RULE}, or the id of one", wanted.operator)

    async def _knows_organization(self, caller: Caller, name: Namespace) -> bool:
        async with self._database.read() as session:
            if caller.is_admin:
                # The registry of an open region may have organizations that are not recorded.
                return bool(self._access.open_regions) or await organization_exists(session, name)
            readable = await readable_namespaces(session, caller)
        return readable is None or name in readable

    async def _knows_user(self, caller: Caller, name: str) -> bool:
        # Only administrators may find out which users exist.
        if not caller.is_admin:
            return True
        async with self._database.read() as session:
            return await user_exists(session, name)

    async def _has_jobs(self, caller: Caller, wanted: JobFilter) -> bool:
        """Return whether the caller may see such a job, also if the time for the search was not sufficient."""
        page = await self._listing.page(caller, wanted, limit=1)
        return bool(page.jobs) or page.marker is not None
