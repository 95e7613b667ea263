"""Two kills of a running tagferry; `python -m tests.faults.killing` makes any number (docs/faults.md)."""

from pathlib import Path

from tests.faults.killing.kills import Plan, kill_served

MIB = 1024 * 1024


def test_nothing_is_lost_seen_in_part_or_done_twice_after_kills(tmp_path: Path):
    plan = Plan(kills=2, seed=4711, large=4 * MIB, bytes_per_second=3 * MIB, kills_a_round=2, calm_rounds=1)
    findings = kill_served(tmp_path, plan, progress=print)
    assert findings.faults == []
    assert len(findings.losses) == 2
    assert findings.sightings
