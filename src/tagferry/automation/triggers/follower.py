"""Tells triggers what tags point to: at a push by whoever took it, otherwise by looking."""

import time
from collections.abc import Mapping

from tagferry.automation.triggers.deliveries import Deliveries
from tagferry.automation.triggers.store import Trigger, Triggers
from tagferry.automation.watch.scheduling import Clock, Recheck
from tagferry.names import Digest, Reference, RepositoryRef, Tag
from tagferry.regions import Regions


class TriggerFollower:
    """Has every trigger that is switched on hear of every tag of its repository; a `Follower` of tags.

    Args:
        regions: those that this process knows; triggers of others rest.
        triggers: the triggers, and what they have heard.
        deliveries: where the calls are recorded that they make.
        clock: seconds.
    """

    def __init__(
        self, *, regions: Regions, triggers: Triggers, deliveries: Deliveries, clock: Clock = time.monotonic
    ) -> None:
        self._regions = regions
        self._triggers = triggers
        self._deliveries = deliveries
        self._clock = clock

    async def sources(self) -> list[RepositoryRef]:
        """The repositories that have a trigger which is switched on."""
        return await self._triggers.sources()

    async def handled(self, source: RepositoryRef) -> list[Mapping[str, str]]:
        """What each trigger of a repository has heard of its tags."""
        seen_digests = await self._triggers.all_seen_digests([trigger.id for trigger in await self._of(source)])
        return list(seen_digests.values())

    async def check(self, source: RepositoryRef, tag: Tag) -> Recheck:
        """Look at a tag, and let the triggers hear of it; raises what the source's registry raises."""
        triggers = await self._of(source)
        if not triggers:
            return Recheck()
        # Read before the registry is asked: what was told by others since is then not told back.
        seen_digests = await self._triggers.seen_digests([trigger.id for trigger in triggers], tag)
        found = await self._regions[source.region].store.head_manifest(source.name, tag, confirm_missing=True)
        if found is None or await self._deliveries.record(triggers, tag, found.digest, seen_digests=seen_digests):
            return Recheck()
        return Recheck(tag_at=self._clock())

    async def pushed(self, source: RepositoryRef, tag: Tag, digest: Digest, by: str | None) -> None:
        """Let the triggers hear of a push at once, so that it is on record before whoever pushed is answered.

        Somebody may have pushed to the tag at the same time: it has to be looked at afterwards in any case.
        """
        triggers = await self._of(source)
        if triggers:
            seen_digests = await self._triggers.seen_digests([trigger.id for trigger in triggers], tag)
            await self._deliveries.record(triggers, tag, digest, seen_digests=seen_digests, pushed_by=by)

    async def forget(self, source: RepositoryRef, *references: Reference) -> None:
        """Take tags, or all tags of these digests, that were deleted for never heard of."""
        await self._triggers.forget(source, *references)

    async def _of(self, source: RepositoryRef) -> list[Trigger]:
        if source.region not in self._regions:
            return []
        return await self._triggers.of_repository(source, only_enabled=True)
