"""The repositories that a caller may push to, in all regions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import BindParameter, Boolean, bindparam, literal, or_, select, union_all

from tagferry.accounts.model import Permission
from tagferry.db.remembered import Rows
from tagferry.db.tables import (
    OrganizationPermissionRow,
    OrganizationRow,
    RepositoryPermissionRow,
    RepositoryRow,
)
from tagferry.names import RegionId, RepositoryName, RepositoryRef

_IS_ADMIN: BindParameter[bool] = bindparam("is_admin", type_=Boolean)
_EDITING = int(Permission.EDIT)


@dataclass(frozen=True, slots=True)
class WritableRepositories:
    """The repositories that a caller may push to: the decisions of `AccessControl.require` for `EDIT`, all at once.

    Attributes:
        organizations: the names of the organizations that may be written as a whole, by region.
        repositories: further repositories, with their organizations, by region.
        open_regions: the regions of which everything may be written.
    """

    organizations: Mapping[str, frozenset[str]]
    repositories: Mapping[str, frozenset[str]]
    open_regions: frozenset[RegionId] = frozenset()

    def __len__(self) -> int:
        return sum(len(names) for found in (self.organizations, self.repositories) for names in found.values())

    def contains(self, region: RegionId, name: RepositoryName) -> bool:
        """Return whether the caller may push to a repository, which need not exist."""
        return (
            region in self.open_regions
            or name.unchecked_namespace in self.organizations.get(region, ())
            or name in self.repositories.get(region, ())
        )

    def namespaces(self, region: RegionId, repository: str) -> list[str]:
        """Return the recorded organizations of a region in which the caller may push to this repository, by name."""
        whole = self.organizations.get(region, frozenset())
        single = (name.partition("/") for name in self.repositories.get(region, ()))
        return sorted(whole.union(organization for organization, _, rest in single if rest == repository))

    def has_any(self, regions: Iterable[RegionId]) -> bool:
        """Return whether the caller may push to anything in one of these regions."""
        return any(
            region in found
            for found in (self.open_regions, self.organizations, self.repositories)
            for region in regions
        )

    def has_copy_target(self, source: RepositoryRef, regions: Iterable[RegionId]) -> bool:
        """Return whether the caller may copy a repository to another organization, in one of these regions."""
        return any(
            region in self.open_regions
            or any((region, name) != own for name in self.namespaces(region, source.repository))
            for own in [(source.region, source.namespace)]
            for region in regions
        )


def writable_of(rows: Rows) -> WritableRepositories:
    """Return what the rows of `WRITABLE` say."""
    organizations: dict[str, set[str]] = {}
    repositories: dict[str, set[str]] = {}
    for region, namespace, repository in rows:
        if repository:
            repositories.setdefault(region, set()).add(f"{namespace}/{repository}")
        else:
            organizations.setdefault(region, set()).add(namespace)
    return WritableRepositories(_frozen(organizations), _frozen(repositories))


def _frozen(names: Mapping[str, set[str]]) -> dict[str, frozenset[str]]:
    return {region: frozenset(found) for region, found in names.items()}


_FOUND = union_all(
    select(OrganizationRow.region, OrganizationRow.name, literal("").label("repository")).where(
        or_(
            _IS_ADMIN,
            OrganizationRow.id.in_(
                select(OrganizationPermissionRow.organization_id).where(
                    OrganizationPermissionRow.user_id == bindparam("user_id"),
                    OrganizationPermissionRow.permission >= _EDITING,
                )
            ),
        )
    ),
    select(RepositoryRow.region, RepositoryRow.namespace.label("name"), RepositoryRow.name.label("repository")).where(
        RepositoryRow.id.in_(
            select(RepositoryPermissionRow.repository_id).where(
                RepositoryPermissionRow.user_id == bindparam("user_id"),
                RepositoryPermissionRow.permission >= _EDITING,
            )
        )
    ),
).subquery("found")
WRITABLE = select(_FOUND.c.region, _FOUND.c.name, _FOUND.c.repository)
"""The organizations and single repositories that a user may write: region, organization, and repository or ""."""
