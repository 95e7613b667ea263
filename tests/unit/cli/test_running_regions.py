"""The regions of several processes, and of the configuration file."""

from datetime import UTC, datetime

import pytest

from tagferry.cli.running_regions import regions_of
from tagferry.workers import ConfiguredRegion, ProcessInfo

SERVED = ConfiguredRegion(
    id="cn-north-4",
    listen="0.0.0.0:5004",
    registry="embedded",
    url="http://registry-1.example.com:5004",
    organizations="managed",
)
REMOTE = ConfiguredRegion(**{**SERVED, "listen": None, "registry": SERVED["url"]})


def process(name: str, *configured: ConfiguredRegion) -> ProcessInfo:
    now = datetime.now(UTC)
    return ProcessInfo(
        name=name,
        version="1.0.0",
        regions=[],
        slots=32,
        running=0,
        is_leader=False,
        started_at=now,
        seen_at=now,
        is_lost=False,
        configured=configured,
    )


@pytest.mark.parametrize("machines", [("registry-1", "worker-1"), ("worker-1", "registry-1")])
def test_a_region_is_shown_as_the_process_knows_it_that_serves_it(machines: tuple[str, ...]):
    processes = [process(f"{name}:17", SERVED if name == "registry-1" else REMOTE) for name in machines]

    for host, in_file in (("registry-1", SERVED), ("worker-1", REMOTE)):
        found = regions_of(processes, [in_file], host=host)

        assert found.regions == [SERVED]
        assert found.notes == []


def test_a_process_of_this_machine_should_agree_with_the_file():
    found = regions_of([process("worker-1:17", SERVED)], [REMOTE], host="worker-1")

    assert found.notes == ["worker-1:17 works with another configuration than the file; apply it with: tagferry reload"]
