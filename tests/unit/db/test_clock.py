"""Nothing is deleted by age while the clock is implausible."""

from datetime import UTC, datetime, timedelta

import pytest

from tagferry.db.clock import LONGEST_GAP, Clock
from tagferry.db.engine import Database
from tagferry.db.tables import ClockRow, DomainRow, UserRow

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


class Machine:
    """A machine whose clock and seconds since boot are set independently."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.wall_time = datetime.now(UTC)
        self.uptime = 1000.0
        self.clock = self.start()

    def start(self) -> Clock:
        self.clock = Clock(self.database, settling=HOUR, now=lambda: self.wall_time, elapsed=lambda: self.uptime)
        return self.clock

    def passes(self, time: timedelta) -> None:
        self.wall_time += time
        self.uptime += time.total_seconds()

    async def is_plausible(self) -> bool:
        return await self.clock.is_plausible()

    async def recorded(self) -> datetime | None:
        async with self.database.read() as session:
            row = await session.get(ClockRow, 1)
            return row.seen_at if row is not None else None


@pytest.fixture
def machine(database: Database) -> Machine:
    # PostgreSQL has a clock of its own, which would differ from the clocks of these tests.
    database.__class__ = type("Alone", (Database,), {"is_shared": False})
    return Machine(database)


async def test_the_clock_of_a_new_installation_is_plausible(machine: Machine):
    assert await machine.is_plausible()
    assert await machine.recorded() == machine.wall_time


@pytest.mark.parametrize("jump", [365 * DAY, -365 * DAY, timedelta(minutes=2)])
async def test_after_a_jump_the_clock_is_implausible_for_the_settling_time(machine: Machine, jump: timedelta):
    assert await machine.is_plausible()

    machine.wall_time += jump

    assert not await machine.is_plausible()
    machine.passes(HOUR - timedelta(seconds=1))
    assert not await machine.is_plausible()
    machine.passes(timedelta(seconds=1))
    assert await machine.is_plausible()
    assert await machine.recorded() == machine.wall_time


@pytest.mark.parametrize("jump", [3 * 365 * DAY, -3 * 365 * DAY, LONGEST_GAP + timedelta(seconds=1)])
async def test_a_jump_across_restarts_is_detected_after_every_start(machine: Machine, jump: timedelta):
    assert await machine.is_plausible()
    before = machine.wall_time
    for _ in range(2):
        machine.wall_time = before + jump
        machine.start()
        assert not await machine.is_plausible()
        assert await machine.recorded() == before
    machine.passes(HOUR)
    assert await machine.is_plausible()


async def test_a_clock_that_is_corrected_within_the_settling_time_stays_implausible_until_it_ends(machine: Machine):
    assert await machine.is_plausible()
    right = machine.wall_time
    machine.wall_time = right + 365 * DAY
    machine.start()
    assert not await machine.is_plausible()

    machine.wall_time = right + timedelta(minutes=1)

    assert not await machine.is_plausible()
    machine.passes(HOUR)
    assert await machine.is_plausible()


async def test_a_short_stop_and_a_slow_drift_are_plausible(machine: Machine):
    assert await machine.is_plausible()
    machine.wall_time += LONGEST_GAP
    machine.uptime = 3.0
    machine.start()
    for _ in range(10):
        assert await machine.is_plausible()
        machine.passes(HOUR)
        machine.wall_time += timedelta(seconds=30)


async def test_without_a_recorded_time_the_latest_event_counts(machine: Machine):
    async with machine.database.write() as session:
        session.add(DomainRow(id="1", name="acme"))
        await session.flush()
        session.add(
            UserRow(
                id="2", domain_id="1", name="a", password_hash="", is_admin=False, created_at=machine.wall_time - DAY
            )
        )

    assert not await machine.is_plausible()


async def test_the_clock_is_implausible_for_as_long_as_that_of_the_database_differs(database: Database):
    if not database.is_shared:
        pytest.skip("SQLite has no clock of its own")
    machine = Machine(database)
    assert await machine.is_plausible()
    machine.wall_time += DAY
    for _ in range(3):
        assert not await machine.is_plausible()
        machine.passes(HOUR)
    machine.wall_time = datetime.now(UTC)
    assert not await machine.is_plausible()
    machine.uptime += HOUR.total_seconds()
    machine.wall_time = datetime.now(UTC)
    machine.start()
    assert await machine.is_plausible()
