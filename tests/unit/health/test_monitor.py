"""Regions are checked at an interval, by one process, and a dead one delays no other."""

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from tagferry import events
from tagferry.accounts.model import Caller
from tagferry.db.engine import Database
from tagferry.errors import DatabaseUnavailable, Denied, NotFound
from tagferry.health.checks import RegionCheck
from tagferry.health.model import CheckKind, HealthState, RegionHealth
from tagferry.health.monitor import RegionMonitor
from tagferry.health.records import HealthRecords
from tagferry.metrics import REGION_UP
from tagferry.names import RegionId
from tagferry.regions import Region, Regions
from tests.support.deployment import eventually
from tests.support.memory_store import MemoryStore

ADMIN = Caller("1", "admin", "2", "tagferry", is_admin=True)
CAROL = Caller("3", "carol", "2", "tagferry", is_admin=False)
QUICK = timedelta(milliseconds=10)


class FakeCheck(RegionCheck):
    """Finds the health that a test has set."""

    def __init__(self) -> None:
        super().__init__(seconds=1)
        self.states: dict[RegionId, HealthState] = {}
        self.hanging: set[RegionId] = set()
        self.seen: set[RegionId] = set()
        self.runs: Counter[str] = Counter()

    def _found(self, region: Region) -> RegionHealth:
        now = datetime.now(UTC)
        state = self.states.get(region.id, HealthState.OK)
        return RegionHealth(region=region.id, kind=CheckKind.REGISTRY, state=state, since=now, checked_at=now)

    async def run(self, region: Region) -> RegionHealth | None:
        self.runs[region.id] += 1
        if region.id in self.hanging:
            await asyncio.Event().wait()
        if region.id.startswith("broken"):
            raise RuntimeError("a bug")
        if region.id.startswith("cancelled"):
            # As by something that the check waits for.
            raise asyncio.CancelledError
        return self._found(region)

    def observed(self, region: Region, *, since: datetime) -> RegionHealth | None:
        return self._found(region) if region.id in self.seen else None


Making = Callable[..., RegionMonitor]


@pytest.fixture
def check() -> FakeCheck:
    return FakeCheck()


@pytest.fixture
def make(database: Database, check: FakeCheck) -> Making:
    def monitor(*names: str, is_leader: bool = True, interval: timedelta | None = QUICK) -> RegionMonitor:
        async def leads() -> bool:
            return is_leader

        regions = [Region(id=RegionId(name), url=f"http://{name}", store=MemoryStore(name)) for name in names]
        return RegionMonitor(
            regions=Regions(regions),
            records=HealthRecords(database),
            check=check,
            is_leader=leads,
            interval=interval,
            random_share=lambda: 0.5,
        )

    return monitor


async def states(monitor: RegionMonitor) -> dict[str, str]:
    return {region: health.state.value for region, health in (await monitor.health()).items()}


async def running(monitor: RegionMonitor, until: Callable[[], bool]) -> None:
    work = asyncio.create_task(monitor.keep_checking())

    async def is_over() -> bool:
        return until()

    try:
        await eventually(is_over)
    finally:
        work.cancel()
        await asyncio.wait([work])


async def test_the_leader_checks_all_regions_again_and_again(make: Making, check: FakeCheck):
    check.states[RegionId("south")] = HealthState.REFUSED
    monitor = make("north", "south")

    await running(monitor, lambda: min(check.runs["north"], check.runs["south"]) >= 3)

    assert await states(monitor) == {"north": "ok", "south": "refused"}
    assert REGION_UP.labels(region="south").value == 0


async def test_another_process_asks_no_registry_and_records_what_its_copies_show(make: Making, check: FakeCheck):
    check.seen.add(RegionId("south"))
    monitor = make("north", "south", is_leader=False)
    work = asyncio.create_task(monitor.keep_checking())

    async def is_recorded() -> bool:
        return await states(monitor) == {"south": "ok"}

    await eventually(is_recorded)
    work.cancel()
    await asyncio.wait([work])
    assert check.runs == Counter()


async def test_a_region_that_copies_use_is_not_asked(make: Making, check: FakeCheck):
    check.seen.add(RegionId("north"))
    monitor = make("north", "south")

    await running(monitor, lambda: check.runs["south"] >= 3)

    assert check.runs["north"] == 0


async def test_dead_regions_do_not_delay_the_others(make: Making, check: FakeCheck, database: Database):
    dead = [f"dead-{number}" for number in range(30)]
    for name in dead:
        check.states[RegionId(name)] = HealthState.UNREACHABLE
    monitor = make("north", *dead)
    await running(monitor, lambda: all(check.runs[RegionId(name)] >= 1 for name in dead))
    check.hanging |= set(map(RegionId, dead))
    before = check.runs["north"]

    await running(monitor, lambda: check.runs["north"] >= before + 3)


@pytest.mark.parametrize("other", ["broken", "cancelled"])
async def test_an_unexpected_error_in_one_region_does_not_affect_the_others(make: Making, check: FakeCheck, other: str):
    monitor = make(other, "north")

    with capture_logs() as logged:
        await running(monitor, lambda: min(check.runs["north"], check.runs[other]) >= 3)

    assert await states(monitor) == {"north": "ok"}
    assert {line["event"] for line in logged} == {"a check failed unexpectedly"}


async def test_changes_of_the_state_are_logged_once(make: Making, check: FakeCheck):
    monitor, north = make("north"), RegionId("north")
    with capture_logs() as logged:
        for state in (HealthState.OK, HealthState.UNREACHABLE, HealthState.UNREACHABLE, HealthState.OK):
            check.states[north] = state
            await monitor.check_now(ADMIN, north)

    assert [line["event"] for line in logged] == ["region failed its check", "region passed its check again"]


async def test_only_administrators_check_a_region_at_once(make: Making, check: FakeCheck):
    monitor = make("north", interval=None)

    health = await monitor.check_now(ADMIN, RegionId("north"))
    with pytest.raises(Denied, match="not an administrator"):
        await monitor.check_now(CAROL, RegionId("north"))
    with pytest.raises(NotFound):
        await monitor.check_now(ADMIN, RegionId("west"))

    assert health is not None
    assert health.state is HealthState.OK
    assert check.runs == Counter({"north": 1})


async def test_requests_for_a_check_share_one(make: Making, check: FakeCheck):
    monitor = make("north", interval=None)

    await asyncio.gather(*(monitor.check_now(ADMIN, RegionId("north")) for _ in range(20)))

    assert check.runs["north"] == 1


async def test_a_lost_database_is_logged_and_the_checks_go_on(
    make: Making, check: FakeCheck, database: Database, monkeypatch: pytest.MonkeyPatch
):
    async def lost(_: object, __: RegionHealth) -> None:
        raise DatabaseUnavailable("the database does not answer")

    monkeypatch.setattr(events, "_logged", {})
    monkeypatch.setattr(HealthRecords, "save", lost)
    with capture_logs() as logged:
        await running(make("north"), lambda: check.runs["north"] >= 3)

    assert [line["event"] for line in logged] == ["could not record the health of a region"]
