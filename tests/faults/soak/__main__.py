"""Run mixed work with faults for a long time; exit code 1 if anything went wrong or grew (docs/faults.md).

python -m tests.faults.soak --minutes 60 --seed 1 [--kills]
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.soak.run import Soak, Terms

_KILL_SECONDS = 90.0


def main() -> int:
    """Run the soak."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--users", type=int, default=4)
    parser.add_argument("--kills", action="store_true", help="kill the server about every 90 seconds")
    parser.add_argument("--keep", type=Path, help="a folder for logs and data, to be kept")
    arguments = parser.parse_args()
    terms = Terms(
        seconds=arguments.minutes * 60,
        seed=arguments.seed,
        users=arguments.users,
        kill_seconds=_KILL_SECONDS if arguments.kills else None,
    )
    with tempfile.TemporaryDirectory(prefix="tagferry-soak-") as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        findings = Soak(folder, terms, progress).run()
    for name, value in findings.lines():
        print(f"{name:<55} {value}")
    for fault in findings.faults:
        print(f"FAULT: {fault}")
    print("flat" if not [*findings.series.growing()] else "growing")
    return 1 if findings.faults else 0


def progress(what: str) -> None:
    """Print the progress."""
    print(f"{time.strftime('%X')} {what}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
