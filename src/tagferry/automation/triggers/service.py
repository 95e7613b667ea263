"""The face of triggers towards people who were let in."""

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
    """Makes, shows, switches and ends triggers.

    Args:
        regions: where images are.
        repositories: which were created, with or without images.
        triggers: where triggers are kept.
        deliveries: the calls that they make.
        webhooks: what triggers may call.
        look: looks at all of a repository, with a trigger that was switched on.
    """

    def __init__(
        self,
        *,
        regions: Regions,
        repositories: Repositories,
        triggers: Triggers,
        deliveries: Deliveries,
        webhooks: Webhooks,
        look: Callable[[RepositoryRef], Awaitable[None]],
    ) -> None:
        self._regions = regions
        self._repositories = repositories
        self._triggers = triggers
        self._deliveries = deliveries
        self._webhooks = webhooks
        self._look = look

    async def create(
        self, caller: Caller, source: RepositoryRef, repository_id: int, spec: TriggerSpec, *, enabled: bool
    ) -> None:
        """Make a repository's trigger, for what changes from now on.

        Args:
            caller: who makes it.
            source: the repository.
            repository_id: the id of its record.
            spec: what the trigger does.
            enabled: whether it does that.

        Raises:
            Invalid: the configuration has no webhook for it.
            Conflict: the repository has one of this name, or as many as it may have.
            Unavailable: the registry cannot be asked for its tags.
        """
        self._webhooks.require(spec, source.namespace)
        baseline = await self._baseline(source, enabled=enabled)
        await self._triggers.create(caller, repository_id, spec, enabled=enabled, baseline=baseline)
        await self._catch_up(source, enabled=enabled)

    async def of_repository(self, source: RepositoryRef) -> list[tuple[Trigger, list[Delivery]]]:
        """A repository's triggers, oldest first, each with its newest calls."""
        triggers = await self._triggers.of_repository(source)
        deliveries = await self._deliveries.history([trigger.id for trigger in triggers])
        return [(trigger, deliveries[trigger.id]) for trigger in triggers]

    async def find(self, source: RepositoryRef, name: str) -> tuple[Trigger, list[Delivery]]:
        """A repository's trigger of this name with its newest calls; raises NotFound."""
        trigger = await self._triggers.find(source, name)
        return trigger, (await self._deliveries.history([trigger.id]))[trigger.id]

    async def switch(self, source: RepositoryRef, name: str, *, enabled: bool) -> None:
        """Switch a repository's trigger on, for what changes from now on, or off.

        Raises:
            NotFound: there is none of this name.
            Invalid: the configuration has no webhook for it any more, and it shall be on.
            Unavailable: the registry cannot be asked for its tags.
        """
        trigger = await self._triggers.find(source, name)
        if enabled:
            self._webhooks.require(trigger.spec, source.namespace)
        baseline = await self._baseline(source, enabled=enabled and not trigger.enabled)
        await self._triggers.switch(trigger.id, enabled=enabled, baseline=baseline)
        await self._catch_up(source, enabled=enabled)

    async def delete(self, source: RepositoryRef, name: str) -> None:
        """End a trigger, with the calls that are waiting; raises NotFound."""
        await self._triggers.delete((await self._triggers.find(source, name)).id)

    async def _baseline(self, source: RepositoryRef, *, enabled: bool) -> dict[Tag, Digest]:
        return await read_baseline(self._regions, self._repositories, source) if enabled else {}

    async def _catch_up(self, source: RepositoryRef, *, enabled: bool) -> None:
        # What was pushed since the baseline was taken met no trigger. It is looked for before the caller is answered:
        # a look that is late could find the next push, of which it knows less than whoever takes that.
        if enabled:
            await self._look(source)
