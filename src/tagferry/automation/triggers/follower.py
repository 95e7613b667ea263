"""Notify triggers of tag changes, found by a push through this process or by a check."""

import time
from collections.abc import Mapping

from tagferry.automation.triggers.deliveries import Deliveries
from tagferry.automation.triggers.store import Trigger, Triggers
from tagferry.automation.watch.scheduling import Clock, Recheck
from tagferry.names import Digest, Reference, RepositoryRef, Tag
from tagferry.regions import Regions


class TriggerFollower:
    """Records deliveries for the enabled triggers of changed tags; a `Follower` of tags.

    Args:
        regions: the configured regions; triggers in other regions are inactive.
        triggers: the stored triggers, and the digests they have seen.
        deliveries: records the deliveries.
        clock: returns the time in seconds.
    """

    def __init__(
        self, *, regions: Regions, triggers: Triggers, deliveries: Deliveries, clock: Clock = time.monotonic
    ) -> None:
        self._regions = regions
        self._triggers = triggers
        self._deliveries = deliveries
        self._clock = clock

    async def sources(self) -> list[RepositoryRef]:
        """Return the repositories with an enabled trigger."""
        return await self._triggers.sources()

    async def handled(self, source: RepositoryRef) -> list[Mapping[str, str]]:
        """Return the digests last seen, by tag, for each enabled trigger of a repository."""
        seen_digests = await self._triggers.all_seen_digests([trigger.id for trigger in await self._of(source)])
        return list(seen_digests.values())

    async def check(self, source: RepositoryRef, tag: Tag) -> Recheck:
        """Check a tag and record deliveries for a change; raises the errors of the source's registry."""
        triggers = await self._of(source)
        if not triggers:
            return Recheck()
        # Read before the registry: a digest that another process stores in between is newer than the one found here.
        seen_digests = await self._triggers.seen_digests([trigger.id for trigger in triggers], tag)
        found = await self._regions[source.region].store.head_manifest(source.name, tag, confirm_missing=True)
        if found is None:
            return Recheck(found="")
        is_recorded = await self._deliveries.record(triggers, tag, found.digest, seen_digests=seen_digests)
        return Recheck(tag_at=None if is_recorded else self._clock(), found=found.digest)

    async def pushed(self, source: RepositoryRef, tag: Tag, digest: Digest, by: str | None) -> bool:
        """Record the deliveries for a push before the client gets its response; return whether there are triggers.

        The tag must be checked afterwards, since a concurrent push may have changed it.
        """
        triggers = await self._of(source)
        if triggers:
            seen_digests = await self._triggers.seen_digests([trigger.id for trigger in triggers], tag)
            await self._deliveries.record(triggers, tag, digest, seen_digests=seen_digests, pushed_by=by)
        return bool(triggers)

    async def forget(self, source: RepositoryRef, *references: Reference) -> None:
        """Forget the digests seen for deleted tags, given by tag or by digest."""
        await self._triggers.forget(source, *references)

    async def _of(self, source: RepositoryRef) -> list[Trigger]:
        if source.region not in self._regions:
            return []
        return await self._triggers.of_repository(source, only_enabled=True)
