"""Three regions in memory with rules between them, and a fake sync service that copies images."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import update

from tagferry.accounts.access import AccessControl
from tagferry.accounts.model import Caller
from tagferry.accounts.organizations import Organizations
from tagferry.accounts.repositories import Repositories
from tagferry.accounts.users import Users
from tagferry.automation.rules.runner import RuleRunner
from tagferry.automation.rules.service import RuleService
from tagferry.automation.rules.store import Rule, Rules, RuleSpec
from tagferry.automation.watch.watcher import TagWatcher
from tagferry.db.engine import Database
from tagferry.db.tables import SyncJobRow
from tagferry.names import Digest, Namespace, RegionId, Repository, RepositoryName, RepositoryRef, Tag
from tagferry.regions import Region, Regions
from tagferry.sync.jobs.history import SyncHistory
from tagferry.sync.jobs.model import JobHandle, JobStatus, SyncRequest
from tagferry.sync.jobs.searches import ReferrerSearches, Target
from tagferry.sync.service import StartedSync
from tests.support.clock import Clock
from tests.support.images import SampleImage, push
from tests.unit.copy.stores import ScriptedStore

A, B, C = RegionId("a"), RegionId("b"), RegionId("c")
TEAM, REPO, V1 = Namespace("team"), Repository("app"), Tag("v1")
APP = RepositoryName.of(TEAM, REPO)


def source(region: RegionId) -> RepositoryRef:
    """The repository `team/app` of a region."""
    return RepositoryRef(region, TEAM, REPO)


@dataclass
class Courier:
    """Brings images, and records its jobs as the sync service does.

    Attributes:
        requests: what it was asked for.
        waiting: jobs that it has not done yet; while `holding`, all of them.
        arrivals: the tags that were copied and have not been checked yet.
        refusal: raised instead of taking a request.
        rewritten: the images that it writes instead, by the digest of the source.
        search_error: why it does not find all signatures.
    """

    database: Database
    stores: dict[RegionId, ScriptedStore]
    requests: list[SyncRequest] = field(default_factory=list)
    waiting: list[tuple[int, SyncRequest]] = field(default_factory=list)
    arrivals: list[tuple[RepositoryRef, Tag]] = field(default_factory=list)
    refusal: Exception | None = None
    holding: bool = False
    rewritten: dict[Digest, SampleImage] = field(default_factory=dict)
    search_error: str | None = None
    read: dict[int, Digest | None] = field(default_factory=dict)
    samples: dict[Digest, SampleImage] = field(default_factory=dict)

    async def start(self, request: SyncRequest) -> StartedSync:
        assert request.is_automatic
        self.requests.append(request)
        if self.refusal is not None:
            raise self.refusal
        for job_id, earlier in self.waiting:
            if replace(earlier, id=request.id) == request:
                place = JobHandle(id=job_id, status=JobStatus.RUNNING, override=request.override, is_joined=True)
                return StartedSync(request=request, jobs={request.tags[0]: place})
        is_in_place = await self._desired(request) == await self._current(request)
        if is_in_place and not await self._is_unsearched(request):
            return StartedSync(request=request, jobs={})
        row = SyncJobRow(
            request_id=request.id,
            rule_id=request.rule_id,
            created_at=datetime.now(UTC),
            updated_at=datetime.now(UTC),
            domain_id=request.caller.domain_id,
            domain_name=request.caller.domain_name,
            operator_id=request.caller.user_id,
            operator_name=request.caller.name,
            source_region=request.source_region,
            namespace=request.namespace,
            repository=request.repository,
            tag=request.tags[0],
            target_region=request.target_region,
            target_namespace=request.target_namespace,
            override=request.override,
            status=JobStatus.WAITING.value,
        )
        async with self.database.write() as session:
            session.add(row)
        self.waiting.append((row.id, request))
        self.read[row.id] = await self._desired(request)
        if not self.holding:
            await self.deliver()
        place = JobHandle(id=row.id, status=JobStatus.WAITING, override=request.override)
        return StartedSync(request=request, jobs={request.tags[0]: place})

    async def deliver(self, *, crossing: bool = False) -> None:
        """Run the waiting jobs in order or, if `crossing`, each with the source as it was when the job started."""
        self.holding = False
        seen = self.read if crossing else {}
        while self.waiting:
            job_id, request = self.waiting.pop(0)
            wanted, current = seen.get(job_id) or await self._desired(request), await self._current(request)
            assert wanted is not None
            if current is not None and current != wanted and not request.override:
                await self._end(job_id, JobStatus.EXISTED, current)
                continue
            await push(self.stores[request.target_region], APP, self.samples[wanted], request.tags[0])
            await self._end(job_id, JobStatus.SUCCESS, wanted)
            self.arrivals.append((source(request.target_region), request.tags[0]))

    def ways(self) -> list[str]:
        """Return its requests, each as `a>b`."""
        return [f"{request.source_region}>{request.target_region}" for request in self.requests]

    async def _end(self, job_id: int, status: JobStatus, digest: Digest) -> None:
        async with self.database.write() as session:
            values = {
                "status": status.value,
                "digest": digest,
                "search_error": self.search_error,
                "ended_at": datetime.now(UTC),
            }
            await session.execute(update(SyncJobRow).where(SyncJobRow.id == job_id).values(**values))

    async def _is_unsearched(self, request: SyncRequest) -> bool:
        way = RepositoryRef(request.source_region, request.namespace, request.repository)
        target = Target(request.target_region, request.target_namespace)
        return bool(await ReferrerSearches(self.database).unfinished(way, target, request.tags))

    async def _desired(self, request: SyncRequest) -> Digest | None:
        digest = await self.stores[request.source_region].tag(APP, request.tags[0])
        return self.rewritten[digest].digest if digest in self.rewritten else digest

    async def _current(self, request: SyncRequest) -> Digest | None:
        return await self.stores[request.target_region].tag(APP, request.tags[0])


class Circle:
    """Everything around automatic synchronization; nothing runs by itself before `watch.start()`."""

    def __init__(self, database: Database, users: Users, admin: Caller) -> None:
        self.admin = admin
        self.users = users
        self.clock = Clock()
        self.stores = {region: ScriptedStore(region) for region in (A, B, C)}
        self.courier = Courier(database, self.stores)
        self.rules = Rules(database)
        self.database = database
        self.organizations = Organizations(database)
        self.regions = Regions(
            [Region(id=name, url=f"https://{name}.example", store=store) for name, store in self.stores.items()]
        )
        self.watch = self.new_watch()
        self.rule_service = RuleService(
            regions=self.regions,
            access=AccessControl(database),
            repositories=Repositories(database),
            rules=self.rules,
            on_rule_changed=lambda _source: None,
        )

    def new_watch(self, **options: Any) -> TagWatcher:
        """Watching, for rules, with nothing but the database in common with the one before it."""
        given: dict[str, Any] = {"poll_intervals": {}, "clock": self.clock} | options
        sync_history = SyncHistory(self.database)
        dispatch = RuleRunner(
            regions=self.regions,
            rules=self.rules,
            sync_history=sync_history,
            searches=ReferrerSearches(self.database),
            users=self.users,
            start=self.courier.start,
            clock=given["clock"],
        )
        return TagWatcher(regions=self.regions, sync_history=sync_history, **{"followers": [dispatch]} | given)

    async def rule(self, start: RegionId, end: RegionId, **fields: Any) -> Rule:
        """Make a rule from one region's repository to another's."""
        values: dict[str, Any] = {"caller": self.admin, "override": True, "sync_auto": True} | fields
        return await self.rule_service.put(
            RuleSpec(source=source(start), target_region=end, target_namespace=TEAM, **values)
        )

    async def push(self, region: RegionId, sample: SampleImage, tag: Tag = V1, *, seen: bool = True) -> None:
        """Push an image as a client does; where it is `seen`, everything that follows has happened at the end."""
        self.courier.samples[sample.digest] = sample
        await push(self.stores[region], APP, sample, tag)
        if seen:
            await self.see(region, tag)

    async def see(self, region: RegionId, tag: Tag = V1) -> None:
        """Look at a tag, and at whatever arrives somewhere from then on; that must come to an end."""
        await self.watch.check(source(region), tag)
        for _ in range(100):
            if not self.courier.arrivals:
                return
            await self.watch.check(*self.courier.arrivals.pop(0))
        raise AssertionError(f"endless synchronizations: {self.courier.ways()}")

    async def hide_job(self, job_id: int, *, hidden: bool) -> None:
        """Hide that a job is open, as if two processes started their jobs at the same moment."""
        status = JobStatus.CANCEL if hidden else JobStatus.WAITING
        async with self.database.write() as session:
            await session.execute(update(SyncJobRow).where(SyncJobRow.id == job_id).values(status=status.value))

    async def digests(self, tag: Tag = V1) -> list[Digest | None]:
        """Return the digest of the tag in each region."""
        return [await store.tag(APP, tag) for store in self.stores.values()]
