"""Two regions in memory, a database on disk, and people with different permissions."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from tagferry.accounts.model import Caller, Permission
from tagferry.accounts.organizations import Organizations
from tagferry.accounts.users import Users
from tagferry.accounts.vault import Vault
from tagferry.copy.run import CopyEngine
from tagferry.db.engine import Database
from tagferry.names import Namespace, RegionId, Repository, Tag
from tagferry.sync.jobs import Jobs
from tagferry.sync.model import SyncJob, SyncRequest
from tagferry.sync.regions import Region, Regions
from tagferry.sync.runner import Runner
from tagferry.sync.service import SyncService
from tests.unit.copy.stores import ScriptedStore

NORTH, SOUTH = RegionId("cn-north-4"), RegionId("cn-south-1")
TEAM, RELEASE, REPO = Namespace("team"), Namespace("release"), Repository("app")
V1, V2, V3 = Tag("v1"), Tag("v2"), Tag("v3")


class QuickVault(Vault):
    """Hashes no passwords, since nobody logs in here."""

    async def hash_password(self, password: str) -> str:
        return ""


@dataclass
class World:
    """Everything around the service.

    Attributes:
        caller: may read at the source and edit at the target.
        services: every service that was started, the current one last.
    """

    database: Database
    users: Users
    organizations: Organizations
    jobs: Jobs
    source: ScriptedStore
    target: ScriptedStore
    caller: Caller
    services: list[SyncService] = field(default_factory=list)
    numbers: Any = field(default_factory=lambda: count(1))

    def start_process(self, *, active_requests: int = 64, tag_limit: int = 500) -> SyncService:
        """A service with nothing but the database in common with those before it."""
        jobs, engine = Jobs(self.database), CopyEngine()
        service = SyncService(
            regions=Regions(
                [
                    Region(id=NORTH, url="https://north.example", store=self.source),
                    Region(id=SOUTH, url="https://south.example:5000", store=self.target),
                ]
            ),
            organizations=self.organizations,
            jobs=jobs,
            engine=engine,
            runner=Runner(engine, jobs),
            tag_limit=tag_limit,
            active_requests=active_requests,
        )
        self.services.append(service)
        return service

    def request(self, *tags: Tag, **other: Any) -> SyncRequest:
        """A request for these tags, from the one region's `team/app` to the other's `release/app`."""
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
        """Ask, wait, and give what failed."""
        service = service or self.services[-1]
        return await service.wait(await service.start(self.request(*tags, **other)), seconds=10)

    async def recorded(self) -> list[SyncJob]:
        """The source repository's jobs, oldest first."""
        jobs, _ = await self.jobs.of_repository(NORTH, TEAM, REPO, limit=1000, descending=False)
        return jobs

    async def statuses(self) -> list[tuple[str, str]]:
        return [(job.tag, job.status) for job in await self.recorded()]


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database(f"sqlite+aiosqlite:///{tmp_path / 'tagferry.db'}")
    await opened.migrate()
    yield opened
    await opened.close()


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
        jobs=Jobs(database),
        source=ScriptedStore("source"),
        target=ScriptedStore("target"),
        caller=caller,
    )
    world.start_process()
    yield world
    world.source.reading.set()
    for service in world.services:
        await service.close()


@pytest.fixture
def service(world: World) -> SyncService:
    """The service that the world starts with."""
    return world.services[0]
