"""Attack a running server, and print a table of the outcomes; exit code 1 if an attack succeeded (docs/faults.md).

python -m tests.faults.attacks [--only WORDS] [--seconds 10] [--python VENV/bin/python]
"""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.attacks import accounts_and_records, anonymous, authenticated, registries
from tests.faults.attacks.hostile import hostile_registry
from tests.faults.attacks.stage import HEADINGS, Attack, Row, Theater

ATTACKS: tuple[Attack, ...] = (
    *anonymous.ATTACKS,
    *authenticated.ATTACKS,
    *registries.ATTACKS,
    *accounts_and_records.ATTACKS,
)


def main() -> int:
    """Run the selected attacks."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.attacks")
    parser.add_argument("--only", default="", help="only attacks whose names hold these words")
    parser.add_argument("--seconds", type=float, default=10.0, help="about how long each takes")
    parser.add_argument("--python", type=Path, help="the Python of a virtual environment with another tagferry")
    arguments = parser.parse_args()
    attacks = [attack for attack in ATTACKS if arguments.only in attack.name]
    rows = asyncio.run(_play(attacks, arguments.seconds, arguments.python or Path(sys.executable)))
    print("| " + " | ".join(HEADINGS) + " |")
    print("|" + "---|" * len(HEADINGS))
    for row in rows:
        print("| " + " | ".join(row.cells) + " |")
    return 1 if any(row.hung or row.outcome.wrong or row.outcome.failed for row in rows) else 0


async def _play(attacks: list[Attack], seconds: float, python: Path) -> list[Row]:
    rows = []
    with tempfile.TemporaryDirectory(prefix="tagferry-attacks-") as folder:
        async with hostile_registry() as hostile:
            theater = Theater(Path(folder), hostile, python)
            for attack in attacks:
                rows.append(await theater.play(attack, seconds))
                print(f"{time.strftime('%X')} {'; '.join(rows[-1].cells)}", flush=True)
    return rows


if __name__ == "__main__":
    sys.exit(main())
