"""The recorded health of regions, on both databases."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from tagferry.db.engine import Database
from tagferry.health.model import CheckKind, HealthState, RegionHealth
from tagferry.health.records import HealthRecords
from tagferry.names import RegionId

NORTH = RegionId("north")
NOW = datetime.now(UTC)
OK = RegionHealth(
    region=NORTH,
    kind=CheckKind.REGISTRY,
    state=HealthState.OK,
    since=NOW,
    checked_at=NOW,
    latency=0.02,
    smoothed_latency=0.03,
    certificate_expires_at=NOW + timedelta(days=90),
)
MINUTE = timedelta(minutes=1)


async def test_health_is_read_as_it_was_recorded(database: Database):
    records = HealthRecords(database)
    await records.save(OK)

    assert await records.load() == {NORTH: OK}


async def test_a_state_keeps_its_beginning_until_it_changes(database: Database):
    records = HealthRecords(database)
    await records.save(OK)
    await records.save(replace(OK, since=NOW + MINUTE, checked_at=NOW + MINUTE))
    assert (await records.load())[NORTH].since == NOW

    failed = replace(
        OK, state=HealthState.UNREACHABLE, reason="no answer", since=NOW + 2 * MINUTE, checked_at=NOW + 2 * MINUTE
    )
    await records.save(failed)
    assert (await records.load())[NORTH] == failed


async def test_a_failed_check_keeps_what_was_known_of_the_registry(database: Database):
    records = HealthRecords(database)
    await records.save(replace(OK, throttled_until=NOW + MINUTE))
    unknown = replace(OK, latency=None, smoothed_latency=None, certificate_expires_at=None, throttled_until=None)
    await records.save(replace(unknown, state=HealthState.UNREACHABLE))

    found = (await records.load())[NORTH]

    assert (found.latency, found.certificate_expires_at) == (OK.latency, OK.certificate_expires_at)
    assert found.throttled_until is None


async def test_a_full_disk_counts_although_the_registry_answers(database: Database):
    records = HealthRecords(database)
    disk = RegionHealth(
        region=NORTH,
        kind=CheckKind.DISK,
        state=HealthState.UNWRITABLE,
        reason="the registry's disk is full",
        since=NOW - MINUTE,
        checked_at=NOW - MINUTE,
        disk_free=0,
        disk_total=2**43,
    )
    await records.save(OK)
    await records.save(disk)

    found = (await records.load())[NORTH]

    assert (found.state, found.reason) == (HealthState.UNWRITABLE, "the registry's disk is full")
    assert (found.disk_total, found.latency, found.checked_at) == (2**43, OK.latency, NOW)


async def test_what_was_not_checked_for_a_day_is_unknown(database: Database):
    records = HealthRecords(database)
    await records.save(OK)

    assert await records.load(now=NOW + timedelta(hours=25)) == {}
