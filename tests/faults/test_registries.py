"""A short storm over two registries; `python -m tests.faults.registries` has longer ones (docs/faults.md)."""

from pathlib import Path

from tests.faults.registries.soak import Soak, Terms


async def test_every_job_among_faults_succeeds_or_names_the_reason(tmp_path: Path):
    terms = Terms(seconds=60, seed=4711, rounds=20, job_seconds=80)
    findings = await Soak(terms, progress=print).run(tmp_path)
    assert findings.faults == []
    assert sum(findings.statuses.values()) >= 20
    assert len(findings.made) >= 12
