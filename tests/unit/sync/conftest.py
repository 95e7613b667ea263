"""Two regions in memory, a database on disk, and users with different permissions."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from cryptography.fernet import Fernet

from tagferry.accounts.access import AccessControl
from tagferry.accounts.model import Caller, Permission
from tagferry.accounts.organizations import Organizations
from tagferry.accounts.users import Users
from tagferry.accounts.vault import Vault
from tagferry.coordination.backend import coordination_of
from tagferry.coordination.pubsub import MessageBus, message_bus_of
from tagferry.copy.engine import CopyEngine
from tagferry.db.engine import Database
from tagferry.db.tables import WorkerRow
from tagferry.names import Namespace, RegionId, Repository, Tag
from tagferry.regions import Region, Regions
from tagferry.supervision import Supervisor
from tagferry.sync.jobs.completion import JobWaiter
from tagferry.sync.jobs.live import LiveJobs
from tagferry.sync.jobs.model import SyncJob, SyncRequest
from tagferry.sync.jobs.queue import JobQueue, QueueLimits
from tagferry.sync.jobs.repository_jobs import RepositoryJobs
from tagferry.sync.jobs.retries import JobRetry
from tagferry.sync.jobs.searches import ReferrerSearches
from tagferry.sync.jobs.store import JobStore
from tagferry.sync.jobs.worker import Worker
from tagferry.sync.service import SyncService
from tests.unit.copy.stores import ScriptedStore

NORTH, SOUTH = RegionId("cn-north-4"), RegionId("cn-south-1")
TEAM, RELEASE, REPO = Namespace("team"), Namespace("release"), Repository("app")
V1, V2, V3 = Tag("v1"), Tag("v2"), Tag("v3")


ONCE = JobRetry(interactive=timedelta(), automatic=timedelta())
"""Jobs whose registry is unavailable fail immediately, as most tests need it."""


class QuickVault(Vault):
    """Hashes no passwords, since these tests need none."""

    async def hash_password(self, password: str) -> str:
        return ""


async def record_worker(database: Database, worker_id: int) -> None:
    """Record a worker of this id; on PostgreSQL only a recorded worker can claim."""
    async with database.write() as session:
        await session.merge(WorkerRow(id=worker_id, name="test", started_at=datetime.now(UTC)))


@dataclass
class Process:
    """The components of one tagferry process."""

    service: SyncService
    worker: Worker
    jobs: JobStore
    queue: JobQueue
    bus: MessageBus
    live: LiveJobs

    async def stop(self) -> None:
        """Stop like a process that is terminated, without waiting for running copies."""
        await self.service.close()
        await self.worker.close()
        await self.bus.close()


@dataclass
class World:
    """Everything around the service.

    Attributes:
        caller: may read at the source and edit at the target.
        process: the running process.
    """

    database: Database
    users: Users
    organizations: Organizations
    source: ScriptedStore
    target: ScriptedStore
    caller: Caller
    process: Process | None = None
    numbers: Any = field(default_factory=lambda: count(1))

    @property
    def jobs(self) -> JobStore:
        """The records of jobs."""
        assert self.process is not None
        return self.process.jobs

    async def start_process(
        self,
        *,
        max_concurrent_requests_per_user: int = 64,
        max_tags_per_request: int = 500,
        slots: int = 32,
        limits: QueueLimits | None = None,
        seconds: float | None = None,
        retry: JobRetry = ONCE,
    ) -> SyncService:
        """Stop the running process, if any, and start one that shares only the database with it."""
        if self.process is not None:
            await self.process.stop()
        bus, membership = message_bus_of(self.database, Supervisor()), coordination_of(self.database)
        await bus.open()
        jobs, engine = JobStore(self.database, bus), CopyEngine()
        regions = Regions(
            [
                Region(id=NORTH, url="https://north.example", store=self.source),
                Region(id=SOUTH, url="https://south.example:5000", store=self.target),
            ]
        )
        queue = JobQueue(self.database, bus, membership, regions=[NORTH, SOUTH], limits=limits)
        worker = Worker(
            engine=engine,
            jobs=jobs,
            queue=queue,
            membership=membership,
            bus=bus,
            regions=regions,
            slots=slots,
            retry=retry,
        )
        live = LiveJobs(self.database, bus)
        service = SyncService(
            regions=regions,
            access=AccessControl(self.database),
            jobs=jobs,
            pages=RepositoryJobs(self.database),
            engine=engine,
            worker=worker,
            waiter=JobWaiter(jobs, bus),
            searches=ReferrerSearches(self.database),
            live=live,
            max_tags_per_request=max_tags_per_request,
            max_concurrent_requests_per_user=max_concurrent_requests_per_user,
            seconds=seconds,
        )
        self.process = Process(service, worker, jobs, queue, bus, live)
        await worker.start(Supervisor())
        return service

    def request(self, *tags: Tag, **other: Any) -> SyncRequest:
        """Return a request for these tags, from the north's `team/app` to the south's `release/app`."""
        fields: dict[str, Any] = {
            "id": f"request-{next(self.numbers)}",
            "caller": self.caller,
            "source_region": NORTH,
            "namespace": TEAM,
            "repository": REPO,
            "target_region": SOUTH,
            "target_namespace": RELEASE,
        }
        return SyncRequest(tags=tags, **fields | other)

    async def sync(self, *tags: Tag, service: SyncService | None = None, **other: Any) -> list[Tag]:
        """Start a sync, wait, and return the failed tags."""
        if service is None:
            assert self.process is not None
            service = self.process.service
        return await service.wait(await service.start(self.request(*tags, **other)), seconds=60)

    async def recorded(self) -> list[SyncJob]:
        """The source repository's jobs, oldest first."""
        jobs, _ = await RepositoryJobs(self.database).of_repository(NORTH, TEAM, REPO, limit=1000, descending=False)
        return jobs

    async def statuses(self) -> list[tuple[str, str]]:
        return [(job.tag, job.status) for job in await self.recorded()]


@pytest.fixture
async def world(database: Database) -> AsyncIterator[World]:
    users = Users(database, QuickVault([Fernet.generate_key().decode()]))
    organizations = Organizations(database)
    admin = await users.create("admin", "correct horse", domain="acme", is_admin=True)
    caller = await users.create("carol", "correct horse", domain="acme")
    await organizations.create(admin, NORTH, TEAM)
    await organizations.create(admin, SOUTH, RELEASE)
    await organizations.grant(NORTH, TEAM, "carol", Permission.READ)
    await organizations.grant(SOUTH, RELEASE, "carol", Permission.EDIT)
    world = World(
        database=database,
        users=users,
        organizations=organizations,
        source=ScriptedStore("source"),
        target=ScriptedStore("target"),
        caller=caller,
    )
    await world.start_process()
    yield world
    world.source.reading.set()
    assert world.process is not None
    await world.process.stop()


@pytest.fixture
def service(world: World) -> SyncService:
    """The service that the world starts with."""
    assert world.process is not None
    return world.process.service
