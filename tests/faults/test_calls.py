"""Faults at system calls; `python -m tests.faults.calls` runs all kinds, with any number of kills."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.calls.random_kills import Plan, kill_at_random
from tests.support.programs import require_program


@pytest.mark.timeout(600)
@pytest.mark.parametrize("what", ["every", "power"])
def test_a_registry_survives_kills_a_full_disk_and_losses_of_power(what: str):
    require_program("cc")
    command = [sys.executable, "-m", "tests.faults.calls", what, "--few"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=590, check=False)
    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr[-4000:]


@pytest.mark.timeout(600)
def test_acknowledged_content_survives_kills_at_random_calls(tmp_path: Path):
    require_program("cc")
    findings = kill_at_random(tmp_path, Plan(kills=4, seed=4711, users=3, at_start=0.5), progress=print)
    assert findings.faults == []
    assert findings.kills >= 4
    assert findings.figures.looks
