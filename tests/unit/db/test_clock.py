"""A clock that jumps is not believed by those who delete what is old."""

from datetime import UTC, datetime, timedelta

import pytest

from tagferry.db.clock import LONGEST_GAP, Clock
from tagferry.db.engine import Database
from tagferry.db.tables import ClockRow, DomainRow, UserRow

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


class Machine:
    """A machine whose calendar and whose seconds since its start are moved apart by tests."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.calendar = datetime.now(UTC)
        self.uptime = 1000.0
        self.clock = self.start()

    def start(self) -> Clock:
        self.clock = Clock(self.database, settling=HOUR, now=lambda: self.calendar, elapsed=lambda: self.uptime)
        return self.clock

    def passes(self, time: timedelta) -> None:
        self.calendar += time
        self.uptime += time.total_seconds()

    async def is_plausible(self) -> bool:
        return await self.clock.is_plausible()

    async def on_record(self) -> datetime | None:
        async with self.database.read() as session:
            row = await session.get(ClockRow, 1)
            return row.seen_at if row is not None else None


@pytest.fixture
def machine(database: Database) -> Machine:
    # A database has a clock of its own, with which these calendars would not agree.
    database.__class__ = type("Alone", (Database,), {"is_shared": False})
    return Machine(database)


async def test_the_time_of_a_new_installation_is_believed(machine: Machine):
    assert await machine.is_plausible()
    assert await machine.on_record() == machine.calendar


@pytest.mark.parametrize("jump", [365 * DAY, -365 * DAY, timedelta(minutes=2)])
async def test_a_jump_while_the_process_runs_is_waited_out(machine: Machine, jump: timedelta):
    assert await machine.is_plausible()

    machine.calendar += jump

    assert not await machine.is_plausible()
    machine.passes(HOUR - timedelta(seconds=1))
    assert not await machine.is_plausible()
    machine.passes(timedelta(seconds=1))
    assert await machine.is_plausible()
    assert await machine.on_record() == machine.calendar


@pytest.mark.parametrize("jump", [3 * 365 * DAY, -3 * 365 * DAY, LONGEST_GAP + timedelta(seconds=1)])
async def test_a_jump_over_a_restart_is_waited_out_however_often_it_starts(machine: Machine, jump: timedelta):
    assert await machine.is_plausible()
    before = machine.calendar
    for _ in range(2):
        machine.calendar = before + jump
        machine.start()
        assert not await machine.is_plausible()
        assert await machine.on_record() == before
    machine.passes(HOUR)
    assert await machine.is_plausible()


async def test_a_clock_that_is_corrected_within_the_hour_has_done_no_harm(machine: Machine):
    assert await machine.is_plausible()
    right = machine.calendar
    machine.calendar = right + 365 * DAY
    machine.start()
    assert not await machine.is_plausible()

    machine.calendar = right + timedelta(minutes=1)

    assert not await machine.is_plausible()
    machine.passes(HOUR)
    assert await machine.is_plausible()


async def test_a_short_stop_and_a_slow_drift_raise_no_doubt(machine: Machine):
    assert await machine.is_plausible()
    machine.calendar += LONGEST_GAP
    machine.uptime = 3.0
    machine.start()
    for _ in range(10):
        assert await machine.is_plausible()
        machine.passes(HOUR)
        machine.calendar += timedelta(seconds=30)


async def test_before_a_time_is_on_record_what_happened_last_tells(machine: Machine):
    async with machine.database.write() as session:
        session.add(DomainRow(id="1", name="acme"))
        await session.flush()
        session.add(
            UserRow(
                id="2", domain_id="1", name="a", password_hash="", is_admin=False, created_at=machine.calendar - DAY
            )
        )

    assert not await machine.is_plausible()


async def test_a_database_whose_clock_differs_is_never_outwaited(database: Database):
    if not database.is_shared:
        pytest.skip("SQLite has no clock of its own")
    machine = Machine(database)
    assert await machine.is_plausible()
    machine.calendar += DAY
    for _ in range(3):
        assert not await machine.is_plausible()
        machine.passes(HOUR)
    machine.calendar = datetime.now(UTC)
    assert not await machine.is_plausible()
    machine.uptime += HOUR.total_seconds()
    machine.calendar = datetime.now(UTC)
    machine.start()
    assert await machine.is_plausible()
