"""Triggers of a repository in memory, and the follower that notifies them of its tags."""

from datetime import UTC, datetime, timedelta
from typing import Any

from tagferry.accounts.repositories import Repositories
from tagferry.automation.triggers.deliveries import Deliveries, DueDelivery
from tagferry.automation.triggers.follower import TriggerFollower
from tagferry.automation.triggers.service import TriggerService
from tagferry.automation.triggers.store import Trigger, Triggers, TriggerSpec
from tagferry.automation.triggers.webhooks import Webhook, Webhooks
from tagferry.automation.watch.watcher import TagWatcher
from tagferry.coordination.pubsub import LocalMessageBus
from tagferry.names import Digest, Tag
from tagferry.sync.jobs.history import SyncHistory
from tests.support.images import image, push
from tests.unit.automation.circle import APP, V1, A, Circle, source

OLD, NEW, OTHER = image(seed="old"), image(seed="new"), image(seed="other")
V2 = Tag("v2")
SPEC = TriggerSpec(
    name="deploy",
    trigger_type="all",
    condition=".*",
    application="web",
    app_type="deployments",
    cluster_ns="default",
    cluster_id="production",
)


def spec(**fields: Any) -> TriggerSpec:
    return TriggerSpec(**{name: getattr(SPEC, name) for name in TriggerSpec.__dataclass_fields__} | fields)


def later(**time: float) -> datetime:
    return datetime.now(UTC) + timedelta(**time)


class Hooked:
    """Triggers of `team/app` in region A, which has an image, and the follower that notifies them."""

    def __init__(self, circle: Circle) -> None:
        self.circle = circle
        self.triggers = Triggers(circle.database)
        self.bus = LocalMessageBus()
        self.deliveries = Deliveries(circle.database, self.bus)
        self.repositories = Repositories(circle.database)
        self.announcer = TriggerFollower(
            regions=circle.regions, triggers=self.triggers, deliveries=self.deliveries, clock=circle.clock
        )
        self.watch = TagWatcher(
            followers=[self.announcer],
            regions=circle.regions,
            sync_history=SyncHistory(circle.database),
            poll_intervals={},
        )
        self.book = TriggerService(
            regions=circle.regions,
            repositories=self.repositories,
            triggers=self.triggers,
            deliveries=self.deliveries,
            webhooks=Webhooks([Webhook(url="http://hook.example/", cluster_id="production")]),
            scan=self.watch.try_scan,
        )

    async def make(self, *, enabled: bool = True, **fields: Any) -> Trigger:
        record = await self.repositories.find_or_create(self.circle.admin, A, APP)
        wanted = spec(**fields)
        await self.book.create(self.circle.admin, source(A), record.id, wanted, enabled=enabled)
        return await self.triggers.find(source(A), wanted.name)

    async def push(self, sample: Any, tag: Tag = V1) -> None:
        """Let a tag point to another image, without a notification."""
        await push(self.circle.stores[A], APP, sample, tag)

    async def due(self, **options: Any) -> list[DueDelivery]:
        return await self.deliveries.due(later(seconds=1), **{"limit": 100} | options)

    async def told(self) -> list[tuple[str, Tag, Digest]]:
        """Return the deliveries of all triggers, in order."""
        found = await self.book.of_repository(source(A))
        calls = [(delivery.id, trigger.spec.name, delivery) for trigger, calls in found for delivery in calls]
        return [(name, delivery.tag, delivery.digest) for _, name, delivery in sorted(calls, key=lambda one: one[0])]
