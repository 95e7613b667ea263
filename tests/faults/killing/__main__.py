"""Run the faults and print the results; exit code 1 for any violation.

python -m tests.faults.killing served  [--kills 100] [--seed N]   SQLite: kill the one process
python -m tests.faults.killing workers [--kills 100] [--seed N]   PostgreSQL: kill one of three workers
python -m tests.faults.killing losses  [--seed N]                 PostgreSQL: lose workers in three ways (as root)
"""

import argparse
import os
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.killing.kills import Findings, Plan, kill_served, kill_workers
from tests.faults.killing.losses import LossFindings, lose_workers

_OWN_NETWORK = "FAULTS_IN_OWN_NETWORK"


def main() -> int:
    """Run the selected faults."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.killing")
    parser.add_argument("fault", choices=("served", "workers", "losses"))
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--keep", type=Path, help="a folder for logs and data, to be kept")
    arguments = parser.parse_args()
    if arguments.fault == "losses" and _OWN_NETWORK not in os.environ:
        command = ["unshare", "-n", "--", sys.executable, "-m", "tests.faults.killing", *sys.argv[1:]]
        os.execvpe(command[0], command, {**os.environ, _OWN_NETWORK: "1"})
    progress(f"--seed {arguments.seed}")
    with tempfile.TemporaryDirectory(prefix="tagferry-faults-") as temporary:
        folder = arguments.keep or Path(temporary)
        findings: Findings | LossFindings
        if arguments.fault == "served":
            findings = kill_served(folder, Plan(arguments.kills, arguments.seed, kills_a_round=2), progress)
        elif arguments.fault == "losses":
            findings = lose_workers(folder, arguments.seed, progress)
        else:
            findings = kill_workers(
                folder, Plan(arguments.kills, arguments.seed, kills_a_round=2, rounds_at_once=4), progress
            )
    for name, value in findings.lines():
        print(f"{name:<45} {value}")
    for fault in findings.faults:
        print(f"FAULT: {fault}")
    return 1 if findings.faults else 0


def progress(what: str) -> None:
    """Print the progress."""
    print(f"{time.strftime('%X')} {what}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
