"""The benchmark of the console runs, with a very small installation."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.programs import require_program

pytestmark = pytest.mark.long

CHECKOUT = Path(__file__).parents[2]


@pytest.mark.timeout(300)
def test_the_benchmark_of_the_console_measures_pages_and_open_consoles(tmp_path: Path):
    for program in ("setpriv", "docker-registry"):
        require_program(program)
    small = ["--database", "sqlite", "--fraction", "100000", "--samples", "1", "--one-start"]
    few = ["--only", "overview", "--only", "retention preview", "--consoles", "2", "--requests", "2", "--copies", "2"]
    command = [sys.executable, "-m", "bench.console", *small, *few, "--out", str(tmp_path)]

    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=280)

    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "console.json").read_text())
    visits = document["pages"]["SQLite"]
    assert {"overview", "overview, as a member", "retention preview by number"} <= visits.keys()
    assert all(one["first"] > 0 and one["cold_bytes"] > one["warm_bytes"] > 0 for one in visits.values())
    assert [one["consoles"] for one in document["consoles"]["SQLite"]] == [0, 2]
    assert document["exit"]["SQLite"] > 0
    assert "| overview |" in (tmp_path / "console.md").read_text()
