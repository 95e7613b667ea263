"""Inject faults at system calls; exit code 1 for any violation (docs/faults.md).

python -m tests.faults.calls every  [--few] [--operation WORDS]   an embedded registry's disk, each call in turn
python -m tests.faults.calls power  [--operation WORDS]           the same with a loss of power
python -m tests.faults.calls random [--kills 1000] [--seed N]     a busy server, killed at random calls
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.calls.every_call import ALL, FEW, try_every_call
from tests.faults.calls.every_call import Findings as EveryCall
from tests.faults.calls.operations import OPERATIONS
from tests.faults.calls.power_loss import ORDERED, STRICT, lose_power
from tests.faults.calls.random_kills import Findings as RandomKills
from tests.faults.calls.random_kills import Plan, kill_at_random
from tests.faults.calls.shim import Shim

_INSIDE = "FAULTS_WITH_SHIM"
_FEW_CALLS = 8


def main() -> int:
    """Run the selected faults."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.calls")
    parser.add_argument("what", choices=("every", "power", "random"))
    parser.add_argument("--few", action="store_true", help="only what the tests do")
    parser.add_argument("--operation", default="", help="only operations whose names hold these words")
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--users", type=int, default=4)
    arguments = parser.parse_args()
    if arguments.what == "random":
        return _kill_at_random(Plan(arguments.kills, arguments.seed, users=arguments.users))
    if _INSIDE not in os.environ:
        return _again_with_shim()
    # In memory if there is room, since the effect of a sync on a real disk does not matter here.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108
    with tempfile.TemporaryDirectory(prefix="tagferry-calls-", dir=memory) as folder:
        operations = [operation for operation in OPERATIONS if arguments.operation in operation.name]
        if arguments.what == "power":
            kinds = (STRICT,) if arguments.few else (STRICT, ORDERED)
            return _report(lose_power(Path(folder), Shim.inherited(), operations, kinds, progress=progress))
        findings = try_every_call(
            Path(folder),
            Shim.inherited(),
            FEW if arguments.few else ALL,
            operations,
            most=_FEW_CALLS if arguments.few else None,
            progress=progress,
        )
    return _report(findings)


def _kill_at_random(plan: Plan) -> int:
    with tempfile.TemporaryDirectory(prefix="tagferry-kills-") as folder:
        return _report(kill_at_random(Path(folder), plan, progress))


def _report(findings: EveryCall | RandomKills) -> int:
    for name, value in findings.lines():
        print(f"{name:<55} {value}")
    for fault in findings.faults:
        print(f"FAULT: {fault}")
    return 1 if findings.faults else 0


def _again_with_shim() -> int:
    with tempfile.TemporaryDirectory(prefix="tagferry-shim-") as folder:
        environment = {**os.environ, **Shim(Path(folder)).environment(), _INSIDE: "1"}
        return os.spawnve(
            os.P_WAIT, sys.executable, [sys.executable, "-m", "tests.faults.calls", *sys.argv[1:]], environment
        )


def progress(what: str) -> None:
    """Print the progress."""
    print(f"{time.strftime('%X')} {what}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
