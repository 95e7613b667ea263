"""Some attacks, each for a second; `python -m tests.faults.attacks` runs all of them (docs/faults.md)."""

import sys
from pathlib import Path

import pytest

from tests.faults.attacks.__main__ import ATTACKS
from tests.faults.attacks.hostile import hostile_registry
from tests.faults.attacks.stage import Theater
from tests.support.programs import require_program

MEMORY_BYTES = 160 * 1024 * 1024
"""The memory by which an attack may make the server grow."""


@pytest.mark.timeout(900)
async def test_attacks_have_no_effect_on_others(tmp_path: Path):
    require_program("cc")
    async with hostile_registry() as hostile:
        theater = Theater(tmp_path, hostile, Path(sys.executable))
        rows = [await theater.play(attack, 1.0) for attack in ATTACKS if attack.short]
    assert [row.attack for row in rows if row.hung or row.outcome.wrong] == []
    assert {row.attack: row.outcome.failed for row in rows if row.outcome.failed} == {}
    assert {row.attack: row.failures for row in rows if row.failures} == {}
    assert {row.attack: row.cells for row in rows if row.peak - row.resting > MEMORY_BYTES} == {}
