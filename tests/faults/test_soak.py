"""A short soak; `python -m tests.faults.soak` runs for any time (docs/faults.md)."""

from pathlib import Path

import pytest

from tests.faults.soak.run import Soak, Terms


@pytest.mark.timeout(600)
def test_mixed_work_among_faults_and_misbehavior_loses_nothing(tmp_path: Path):
    findings = Soak(tmp_path, Terms(seconds=6, seed=4711, users=2, storm_requests=2), progress=print).run()
    assert findings.faults == []
    assert findings.figures.done.total()
    assert findings.chores.total()
    assert findings.nuisances.total()
