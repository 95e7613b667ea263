"""The process that checks a region exports the findings."""

from datetime import UTC, datetime

from tagferry.health.gauges import forget, show
from tagferry.health.model import CheckKind, HealthState, RegionHealth
from tagferry.names import RegionId
from tests.support.metrics import sample

REGION = RegionId("checked")
NOW = datetime(2030, 1, 1, tzinfo=UTC)


def test_a_registry_has_its_state_latency_and_certificate():
    show(
        RegionHealth(
            region=REGION,
            kind=CheckKind.REGISTRY,
            state=HealthState.OK,
            since=NOW,
            checked_at=NOW,
            latency=0.25,
            certificate_expires_at=NOW,
            clock_difference=-1200.0,
        )
    )

    assert sample("tagferry_region_up", region=REGION) == 1
    assert sample("tagferry_region_latency_seconds", region=REGION) == 0.25
    assert sample("tagferry_region_certificate_expiry_timestamp_seconds", region=REGION) == NOW.timestamp()
    assert sample("tagferry_region_clock_difference_seconds", region=REGION) == -1200
    assert sample("tagferry_region_disk_free_bytes", region=REGION) is None

    forget(REGION)
    assert sample("tagferry_region_clock_difference_seconds", region=REGION) is None
    assert sample("tagferry_region_up", region=REGION) is None
    assert sample("tagferry_region_latency_seconds", region=REGION) is None


def test_an_embedded_registry_has_its_disk():
    show(
        RegionHealth(
            region=REGION,
            kind=CheckKind.DISK,
            state=HealthState.UNWRITABLE,
            since=NOW,
            checked_at=NOW,
            disk_free=300,
            disk_total=1000,
        )
    )

    assert sample("tagferry_region_up", region=REGION) == 0
    assert sample("tagferry_region_disk_free_bytes", region=REGION) == 300
    assert sample("tagferry_region_disk_used_bytes", region=REGION) == 700
    forget(REGION)
