"""Which jobs a caller may see, as a condition of a query: the same decision as for the list of one repository."""

from sqlalchemy import ColumnElement, and_, exists, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from tagferry.accounts.access import is_shared, today
from tagferry.accounts.model import Caller
from tagferry.db.tables import (
    OrganizationPermissionRow,
    OrganizationRow,
    RepositoryPermissionRow,
    RepositoryRow,
    RepositoryShareRow,
    SyncJobRow,
)
from tagferry.names import Namespace

_NAMESPACES = 32
"""Organizations of a caller whose jobs are read one organization after another; with more, all jobs are looked at."""


def readable_job(caller: Caller, job: type[SyncJobRow] = SyncJobRow) -> ColumnElement[bool]:
    """Return the condition that a caller who is not an administrator may see a job.

    A permission in the source organization or in the source repository shows all of its jobs. To guests, who may read
    a repository because it is public or shared with their domain, only the jobs of their own domain are shown. A job
    belongs to an organization, not to its name, so that jobs of a former one are not shown.

    Args:
        caller: the caller.
        job: the jobs, or an alias of rows with all columns that decide.
    """
    organization = exists().where(
        OrganizationPermissionRow.organization_id == job.source_organization_id,
        OrganizationPermissionRow.user_id == caller.user_id,
    )
    permission = exists().where(
        RepositoryPermissionRow.repository_id == RepositoryRow.id, RepositoryPermissionRow.user_id == caller.user_id
    )
    repository = (
        select(RepositoryRow.id)
        .where(
            RepositoryRow.region == job.source_region,
            RepositoryRow.namespace == job.namespace,
            RepositoryRow.name == job.repository,
            or_(
                RepositoryRow.organization_id == job.source_organization_id,
                RepositoryRow.organization_id.is_(None),
            ),
            or_(permission, and_(job.domain_id == caller.domain_id, _is_open_to(caller))),
        )
        .exists()
    )
    return or_(organization, repository)


async def readable_namespaces(session: AsyncSession, caller: Caller) -> frozenset[Namespace] | None:
    """Return the names of all organizations in which the caller may see jobs; None if there are many."""
    organizations = (
        select(OrganizationRow.name)
        .join(OrganizationPermissionRow, OrganizationPermissionRow.organization_id == OrganizationRow.id)
        .where(OrganizationPermissionRow.user_id == caller.user_id)
    )
    permitted = select(RepositoryPermissionRow.repository_id).where(RepositoryPermissionRow.user_id == caller.user_id)
    repositories = select(RepositoryRow.namespace).where(or_(RepositoryRow.id.in_(permitted), _is_open_to(caller)))
    names = organizations.union(repositories).limit(_NAMESPACES + 1)
    found = frozenset(Namespace(name) for name in await session.scalars(names))
    return found if len(found) <= _NAMESPACES else None


def _is_open_to(caller: Caller) -> ColumnElement[bool]:
    shared = exists().where(
        RepositoryShareRow.repository_id == RepositoryRow.id,
        RepositoryShareRow.domain_name == caller.domain_name,
        is_shared(today()),
    )
    return or_(RepositoryRow.is_public, shared)
