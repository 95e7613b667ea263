"""The health of a region's registry, as plain data."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from tagferry.names import RegionId


class HealthState(StrEnum):
    """The state of a region's registry.

    - `ok`: it answers, and accepts tagferry's credentials. An embedded one can write to its disk.
    - `refused`: it answers, but refuses tagferry's credentials, or is no registry.
    - `unreachable`: it cannot be reached, does not answer in time, or answers with errors.
    - `unwritable`: an embedded registry cannot write to its disk.
    """

    OK = "ok"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    UNWRITABLE = "unwritable"


class CheckKind(StrEnum):
    """The subject of a check: a registry over HTTP, or the disk of an embedded one."""

    REGISTRY = "registry"
    DISK = "disk"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionHealth:
    """The last known health of a region's registry. Unknown values are None.

    Attributes:
        reason: why the state is not `ok`, in one sentence without secrets; empty otherwise. It may name hosts of the
            internal network.
        since: since when it has this state.
        latency: seconds from the last request to the first byte of its response.
        smoothed_latency: an average of the latencies, in which newer ones count more.
        certificate_expires_at: when the registry's TLS certificate expires.
        clock_difference: seconds by which the registry's clock is ahead of this machine's; it is not recorded.
        throttled_until: until when the registry has asked tagferry to wait.
        disk_free: bytes that are free on the disk of an embedded registry.
        disk_total: bytes of that disk.
    """

    region: RegionId
    kind: CheckKind
    state: HealthState
    reason: str = ""
    since: datetime
    checked_at: datetime
    latency: float | None = None
    smoothed_latency: float | None = None
    certificate_expires_at: datetime | None = None
    clock_difference: float | None = None
    throttled_until: datetime | None = None
    disk_free: int | None = None
    disk_total: int | None = None
