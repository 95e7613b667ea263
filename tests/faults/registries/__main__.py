"""Synchronize between two registries that answer with faults, and check all results (docs/faults.md).

```
python -m tests.faults.registries --minutes 10 --seed 1
```
"""

import argparse
import asyncio
import logging
import sys
import tempfile
import time
from pathlib import Path

import structlog

from tests.faults.registries.soak import Soak, Terms


def main() -> int:
    """Run the command; the exit code is 1 if anything went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.registries", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long jobs are started (default: 10)")
    parser.add_argument("--seed", type=int, default=1, help="makes the images and chooses the faults")
    parser.add_argument("--rate", type=float, default=0.1, help="the share of requests that meet a fault")
    parser.add_argument("--away", type=float, default=6.0, help="seconds in each minute in which a registry is away")
    arguments = parser.parse_args()
    terms = Terms(seconds=arguments.minutes * 60, seed=arguments.seed, rate=arguments.rate, away_seconds=arguments.away)
    # Jobs fail here on purpose; an error in tagferry's log is a fault.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory(prefix="tagferry-soak-") as folder:
        findings = asyncio.run(Soak(terms, progress).run(Path(folder)))
    for name, value in findings.lines():
        print(f"{name:<45} {value}")
    for title, counted in (("made", findings.made), ("reason", findings.reasons), ("refused", findings.refused)):
        for name, count in counted.most_common():
            print(f"{title:<8} {count:6} {name}")
    for fault in findings.faults:
        print(f"VIOLATION: {fault}")
    return 1 if findings.faults else 0


def progress(what: str) -> None:
    """Print the progress."""
    print(f"{time.strftime('%X')} {what}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
