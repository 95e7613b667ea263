"""The context of all pages about one repository: the repository of the path, and the caller's permission for it."""

from dataclasses import dataclass

from tagferry.accounts.access import Access
from tagferry.accounts.model import Permission
from tagferry.names import Namespace, RegionId, Repository, RepositoryName, RepositoryRef
from tagferry.regions import Region
from tagferry.web.console.context import PageContext
from tagferry.web.console.paths import IMAGES, repository_path

BELOW = f"{IMAGES}/{{region}}/{{namespace}}/{{repository}}"
"""The path of a repository's page, and the beginning of the paths of pages about it."""


@dataclass(frozen=True, slots=True)
class OpenedRepository:
    """The repository that a page is about, for a caller who may read it.

    Attributes:
        region: its region.
        name: its full name.
        can_edit: whether the caller may push.
        can_manage: whether the caller may delete.
        is_guest: whether the caller may only read, because it is public or shared.
        can_synchronize: whether the caller may copy it to any other organization.
    """

    region: Region
    name: RepositoryName
    access: Access
    can_synchronize: bool

    @property
    def reference(self) -> RepositoryRef:
        """The region, organization and repository."""
        return RepositoryRef.of(self.region.id, self.name)

    @property
    def path(self) -> str:
        """The path of its page."""
        return repository_path(self.region.id, self.name)

    @property
    def namespace(self) -> str:
        """The name of its organization."""
        return self.name.unchecked_namespace

    @property
    def repository(self) -> str:
        """Its name inside of the organization."""
        return self.name.unchecked_repository

    @property
    def can_edit(self) -> bool:
        """True if the caller may push."""
        return self.access.permission >= Permission.EDIT

    @property
    def can_manage(self) -> bool:
        """True if the caller may delete."""
        return self.access.permission >= Permission.MANAGE

    @property
    def is_guest(self) -> bool:
        """True if the caller may only read, because the repository is public or shared."""
        return self.access.is_guest

    def api(self, base_url: str, below: str = "") -> str:
        """Return an address of the management API about it."""
        return f"{base_url}/v2/manage/namespaces/{self.namespace}/repos/{self.repository.replace('/', '$')}{below}"


async def open_repository(context: PageContext, permission: Permission = Permission.READ) -> OpenedRepository:
    """Return the repository of the page's path.

    Raises:
        NotFound: the region or the organization does not exist.
        Denied: the caller lacks the permission.
    """
    parameters = context.path_parameters
    region = context.services.regions[RegionId(parameters["region"])]
    name = RepositoryName.of(Namespace(parameters["namespace"]), Repository.from_path(parameters["repository"]))
    access = await context.services.access.require(context.caller, region.id, name, permission)
    writable = await context.services.access.writable(context.caller)
    regions = [one.id for one in context.services.regions]
    can_synchronize = writable.has_copy_target(RepositoryRef.of(region.id, name), regions)
    return OpenedRepository(region, name, access, can_synchronize)


async def can_open(context: PageContext, region: RegionId, name: RepositoryName) -> bool:
    """Return whether the caller may open the pages of a repository, for links to it."""
    return region in context.services.regions and name in await context.services.access.readable(context.caller, region)
