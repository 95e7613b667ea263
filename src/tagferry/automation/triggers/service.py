"""Create, list, switch and delete triggers on behalf of authorized users."""

from collections.abc import Awaitable, Callable

from tagferry.accounts.model import Caller
from tagferry.accounts.repositories import Repositories
from tagferry.automation.triggers.deliveries import Deliveries, Delivery
from tagferry.automation.triggers.store import Trigger, Triggers, TriggerSpec
from tagferry.automation.triggers.webhooks import Webhooks
from tagferry.automation.watch.baseline import read_baseline
from tagferry.names import Digest, RepositoryRef, Tag
from tagferry.regions import Regions


class TriggerService:
    """Manages the triggers of repositories.

    Args:
        regions: the configured regions.
        repositories: the recorded repositories, with or without images.
        triggers: stores the triggers.
        deliveries: stores their deliveries.
        webhooks: the configured webhooks.
        scan: scans a repository after a trigger was enabled.
    """

    def __init__(
        self,
        *,
        regions: Regions,
        repositories: Repositories,
        triggers: Triggers,
        deliveries: Deliveries,
        webhooks: Webhooks,
        scan: Callable[[RepositoryRef], Awaitable[None]],
    ) -> None:
        self._regions = regions
        self._repositories = repositories
        self._triggers = triggers
        self._deliveries = deliveries
        self._webhooks = webhooks
        self._scan = scan

    async def create(
        self, caller: Caller, source: RepositoryRef, repository_id: int, spec: TriggerSpec, *, enabled: bool
    ) -> None:
        """Create a trigger of a repository, for changes from now on.

        Args:
            caller: the creator.
            source: the repository.
            repository_id: the id of its row.
            spec: the trigger's settings.
            enabled: whether the trigger is active.

        Raises:
            Invalid: no webhook is configured for it.
            Conflict: the repository has a trigger of this name, or the maximum number of triggers.
            Unavailable: the registry does not return the tags.
        """
        self._webhooks.require(spec, source.namespace)
        baseline = await self._baseline(source, enabled=enabled)
        await self._triggers.create(caller, repository_id, spec, enabled=enabled, baseline=baseline)
        await self._catch_up(source, enabled=enabled)

    async def of_repository(self, source: RepositoryRef) -> list[tuple[Trigger, list[Delivery]]]:
        """Return the triggers of a repository, oldest first, each with its newest deliveries."""
        triggers = await self._triggers.of_repository(source)
        deliveries = await self._deliveries.history([trigger.id for trigger in triggers])
        return [(trigger, deliveries[trigger.id]) for trigger in triggers]

    async def find(self, source: RepositoryRef, name: str) -> tuple[Trigger, list[Delivery]]:
        """Return a repository's trigger by name, with its newest deliveries; raises NotFound."""
        trigger = await self._triggers.find(source, name)
        return trigger, (await self._deliveries.history([trigger.id]))[trigger.id]

    async def switch(self, source: RepositoryRef, name: str, *, enabled: bool) -> None:
        """Enable a trigger, for changes from now on, or disable it.

        Raises:
            NotFound: the repository has no trigger of this name.
            Invalid: the trigger is to be enabled, and no webhook is configured for it.
            Unavailable: the registry does not return the tags.
        """
        trigger = await self._triggers.find(source, name)
        if enabled:
            self._webhooks.require(trigger.spec, source.namespace)
        baseline = await self._baseline(source, enabled=enabled and not trigger.enabled)
        await self._triggers.switch(trigger.id, enabled=enabled, baseline=baseline)
        await self._catch_up(source, enabled=enabled)

    async def test(self, caller: Caller, source: RepositoryRef, name: str, tag: Tag, digest: Digest) -> str:
        """Record a delivery that tests a trigger's webhook; returns the id of its event.

        Args:
            caller: the user who tests.
            source: the repository.
            name: the trigger's name; it may be disabled.
            tag: the tag that the delivery names.
            digest: the digest that it points to.

        Raises:
            NotFound: the repository has no trigger of this name.
            Invalid: no webhook is configured for it.
            Throttled: it was tested a moment ago.
        """
        trigger = await self._triggers.find(source, name)
        self._webhooks.require(trigger.spec, source.namespace)
        return await self._deliveries.record_test(trigger, tag, digest, by=caller.name)

    async def delete(self, source: RepositoryRef, name: str) -> None:
        """Delete a trigger with its waiting deliveries; raises NotFound."""
        await self._triggers.delete((await self._triggers.find(source, name)).id)

    async def _baseline(self, source: RepositoryRef, *, enabled: bool) -> dict[Tag, Digest]:
        return await read_baseline(self._regions, self._repositories, source) if enabled else {}

    async def _catch_up(self, source: RepositoryRef, *, enabled: bool) -> None:
        # A push between reading the baseline and storing the trigger has to be found by a scan. The scan ends before
        # the caller gets a response: a later one could find the next push first, without knowing its pusher.
        if enabled:
            await self._scan(source)
