"""The triggers of repositories, on behalf of users."""

from collections.abc import Sequence

from tagferry.accounts.access import AccessControl
from tagferry.accounts.model import Caller, Permission
from tagferry.automation.triggers.deliveries import Delivery
from tagferry.automation.triggers.service import TriggerService
from tagferry.automation.triggers.store import Trigger, TriggerSpec
from tagferry.catalog.pages import TagQuery
from tagferry.errors import NotFound
from tagferry.inventory.repositories import RepositoryInventory
from tagferry.names import RepositoryName, RepositoryRef
from tagferry.regions import Region


class TriggerInventory:
    """The triggers of repositories, for callers of every API.

    Changes raise NotFound for a repository that does not exist, and Denied for callers who cannot edit it, in addition
    to the errors of `TriggerService`.

    Args:
        access: authorizes the caller.
        repositories: the repositories.
        triggers: manages the triggers.
    """

    def __init__(self, *, access: AccessControl, repositories: RepositoryInventory, triggers: TriggerService) -> None:
        self._access = access
        self._repositories = repositories
        self._triggers = triggers

    async def all(
        self, caller: Caller, region: Region, name: RepositoryName
    ) -> Sequence[tuple[Trigger, Sequence[Delivery]]]:
        """Return the triggers of a repository, oldest first, each with its newest calls. Guests see none."""
        if await self._is_guest(caller, region, name):
            return []
        return await self._triggers.of_repository(RepositoryRef.of(region.id, name))

    async def find(
        self, caller: Caller, region: Region, name: RepositoryName, trigger: str
    ) -> tuple[Trigger, Sequence[Delivery]]:
        """Return a trigger by name, with its newest calls; raises NotFound, also for guests."""
        if await self._is_guest(caller, region, name):
            raise NotFound("trigger", str(trigger), where=f'of "{name}" in {region.id}')
        return await self._triggers.find(RepositoryRef.of(region.id, name), trigger)

    async def create(
        self, caller: Caller, region: Region, name: RepositoryName, spec: TriggerSpec, *, enabled: bool
    ) -> None:
        """Create a trigger."""
        record = await self._repositories.record_to_change(caller, region, name, Permission.EDIT)
        await self._triggers.create(caller, RepositoryRef.of(region.id, name), record, spec, enabled=enabled)

    async def switch(
        self, caller: Caller, region: Region, name: RepositoryName, trigger: str, *, enabled: bool
    ) -> None:
        """Enable or disable a trigger."""
        await self._triggers.switch(await self._source(caller, region, name), trigger, enabled=enabled)

    async def test(self, caller: Caller, region: Region, name: RepositoryName, trigger: str) -> str:
        """Call the trigger's webhook once with the newest image, as a test; returns the id of the event.

        Raises:
            NotFound: the repository has no such trigger, or no tag.
            Throttled: the trigger was tested a moment ago.
        """
        source = await self._source(caller, region, name)
        newest = TagQuery("", by_name=False, descending=True)
        found = await self._repositories.find_tags(region, name, newest, limit=1)
        if not found.records:
            raise NotFound("tag", "", "push one first", where=f'of "{name}"')
        (record,) = found.records
        return await self._triggers.test(caller, source, trigger, record.tag, record.digest)

    async def delete(self, caller: Caller, region: Region, name: RepositoryName, trigger: str) -> None:
        """Delete a trigger with its history and its waiting calls."""
        await self._triggers.delete(await self._source(caller, region, name), trigger)

    async def _source(self, caller: Caller, region: Region, name: RepositoryName) -> RepositoryRef:
        await self._access.require(caller, region.id, name, Permission.EDIT)
        return RepositoryRef.of(region.id, name)

    async def _is_guest(self, caller: Caller, region: Region, name: RepositoryName) -> bool:
        """Return whether the caller is a guest of an existing repository; raises NotFound or Denied."""
        access = await self._access.require(caller, region.id, name, Permission.READ)
        await self._repositories.find_record(region, name)
        return access.is_guest
