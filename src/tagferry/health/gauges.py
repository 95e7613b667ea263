"""The health of regions as metrics of the process that checks them."""

from tagferry.health.model import HealthState, RegionHealth
from tagferry.metrics import (
    REGION_CERTIFICATE_EXPIRY,
    REGION_CLOCK_DIFFERENCE,
    REGION_DISK_FREE,
    REGION_DISK_USED,
    REGION_LATENCY,
    REGION_UP,
)
from tagferry.names import RegionId

_ALL = (
    REGION_UP,
    REGION_LATENCY,
    REGION_CERTIFICATE_EXPIRY,
    REGION_CLOCK_DIFFERENCE,
    REGION_DISK_FREE,
    REGION_DISK_USED,
)


def show(health: RegionHealth) -> None:
    """Set the gauges of a region."""
    REGION_UP.labels(region=health.region).set(health.state is HealthState.OK)
    if health.latency is not None:
        REGION_LATENCY.labels(region=health.region).set(health.latency)
    if health.certificate_expires_at is not None:
        REGION_CERTIFICATE_EXPIRY.labels(region=health.region).set(health.certificate_expires_at.timestamp())
    if health.clock_difference is not None:
        REGION_CLOCK_DIFFERENCE.labels(region=health.region).set(health.clock_difference)
    if health.disk_free is not None:
        REGION_DISK_FREE.labels(region=health.region).set(health.disk_free)
        if health.disk_total is not None:
            REGION_DISK_USED.labels(region=health.region).set(health.disk_total - health.disk_free)


def forget(region: RegionId) -> None:
    """Remove the gauges of a region that another process checks."""
    for gauge in _ALL:
        gauge.remove(region=region)
