"""A region in memory whose repository has a policy, and what carries it out."""

import asyncio
from collections.abc import AsyncIterator, Collection
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tagferry.automation.retention.history import DeletionHistory
from tagferry.automation.retention.observed import ObservedTags
from tagferry.automation.retention.rules import RuleSet
from tagferry.automation.retention.runner import RetentionRunner
from tagferry.automation.retention.store import Policies, Policy
from tagferry.db.engine import Database
from tagferry.db.tables import RepositoryRow
from tagferry.errors import Unsupported
from tagferry.names import Reference, RegionId, RepositoryName, Tag
from tagferry.oci.images import TagRecord
from tagferry.regions import Region, Regions
from tests.support.clock import Calendar
from tests.support.images import SampleImage, image, push
from tests.support.memory_store import MemoryStore

NORTH, APP = RegionId("cn-north-4"), RepositoryName("team/app")


def rule(template: str, number: int, *exceptions: tuple[str, str]) -> dict[str, Any]:
    """A rule as SWR's API has it."""
    name = "days" if template == "date_rule" else "num"
    selectors = [{"kind": kind, "pattern": pattern} for kind, pattern in exceptions]
    return {"template": template, "params": {name: str(number)}, "tag_selectors": selectors}


class DatedStore(MemoryStore):
    """Knows when its tags were pushed, or not, as a test says.

    Attributes:
        has_push_times: whether it reports push times.
        tagless: it deletes no tag alone.
        changes: pushed to a tag just before it is deleted.
        failure: raised instead of deleting.
        slow: nothing is deleted while this is not set.
    """

    def __init__(self) -> None:
        super().__init__("north")
        self.has_push_times = True
        self.tagless = False
        self.changes: dict[Reference, SampleImage] = {}
        self.failure: Exception | None = None
        self.slow = asyncio.Event()
        self.slow.set()

    async def describe_tags(self, repository: RepositoryName, only: Collection[Tag] | None = None) -> list[TagRecord]:
        records = await super().describe_tags(repository, only)
        return records if self.has_push_times else [record._replace(updated=None) for record in records]

    async def delete_manifest(
        self, repository: RepositoryName, reference: Reference, *, seen: TagRecord | None = None
    ) -> None:
        await self.slow.wait()
        if self.failure is not None:
            raise self.failure
        if self.tagless and isinstance(reference, Tag):
            raise Unsupported("registry north does not delete a tag")
        if (sample := self.changes.pop(reference, None)) is not None and isinstance(reference, Tag):
            await push(self, repository, sample, reference)
        if seen is not None and seen.updated is None:
            (there,) = await super().describe_tags(repository, only=[seen.tag])
            seen = seen._replace(updated=there.updated)
        await super().delete_manifest(repository, reference, seen=seen)

    def age(self, tag: str, **ago: float) -> None:
        """Let a tag have been pushed so long ago."""
        tags = self._contents(APP).tags
        tags[Tag(tag)] = tags[Tag(tag)]._replace(updated=datetime.now(UTC) - timedelta(**ago))


class Keeper:
    """The region, its repository `team/app`, and retention with nothing but the database to remember anything."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.store = DatedStore()
        self.regions = Regions([Region(id=NORTH, url="https://north.example", store=self.store)])
        self.policies, self.observed_tags, self.history = (
            Policies(database),
            ObservedTags(database),
            DeletionHistory(database),
        )
        self.calendar = Calendar()
        self.forgotten: list[tuple[RegionId, RepositoryName, Tag]] = []
        self.leading = True
        self.plausible = True
        self.asked = 0
        self.retention = self.new_retention()
        self.repository_id = 0

    def new_retention(self, *, interval: timedelta = timedelta(days=1), run_limit: int = 100) -> RetentionRunner:
        return RetentionRunner(
            regions=self.regions,
            policies=self.policies,
            observed_tags=self.observed_tags,
            history=self.history,
            forget=self._forget,
            is_leader=self._leads,
            interval=interval,
            clock=self.calendar,
            is_plausible=self._is_plausible,
            run_limit=run_limit,
        )

    async def push(self, *tags: str, days: float | None = None) -> None:
        """Push an image of its own under each of these tags, so many days ago or, the first first, now."""
        for tag in tags:
            await push(self.store, APP, image(seed=tag), Tag(tag))
            if days is not None:
                self.store.age(tag, days=days)

    async def tags(self) -> list[str]:
        return [record.tag for record in await self.store.describe_tags(APP)]

    async def policy(self, *rules: dict[str, Any]) -> Policy:
        """Give the repository this policy, or other rules for the one that it has."""
        found = await self.policies.of_repository(self.repository_id)
        if found is None:
            await self.policies.create(self.repository_id, RuleSet.parse(rules))
        else:
            await self.policies.update(self.repository_id, found.id, RuleSet.parse(rules))
        found = await self.policies.of_repository(self.repository_id)
        assert found is not None
        return found

    async def deleted(self) -> list[tuple[str, str]]:
        """The recorded deletions, newest first."""
        found, total = await self.history.of_repository(self.repository_id, limit=100, offset=0)
        assert total == len(found)
        return [(deletion.tag, deletion.template.value) for deletion in found]

    async def add_repository(self) -> None:
        """Record the repository."""
        self.repository_id = await self._record(APP.repository)

    async def another_repository(self) -> int:
        """Record another one, which has no image."""
        return await self._record("other")

    async def _record(self, name: str) -> int:
        said = {"category": "other", "description": "", "is_public": False, "creator_id": "", "creator_name": ""}
        now = datetime.now(UTC)
        row = RepositoryRow(region=NORTH, namespace=APP.namespace, name=name, created_at=now, updated_at=now, **said)
        async with self.database.write() as session:
            session.add(row)
        return row.id

    async def _forget(self, region: RegionId, name: RepositoryName, tag: Tag) -> None:
        self.forgotten.append((region, name, tag))

    async def _is_plausible(self) -> bool:
        return self.plausible

    async def _leads(self) -> bool:
        self.asked += 1
        return self.leading


@pytest.fixture
async def keeper(database: Database) -> AsyncIterator[Keeper]:
    keeper = Keeper(database)
    await keeper.add_repository()
    yield keeper
    await keeper.retention.close()
