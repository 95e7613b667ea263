"""`python -m tests.fuzzing.parsers`: fuzz every parser of untrusted input with atheris.

Prints a line for each target. The exit code is 1 if one raised an unexpected error, or took more than ten seconds or
1 GiB of memory for one input. Such an input is printed; add it to the target's corpus, which the tests run.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.fuzzing.parsers.targets import TARGETS

CORPUS = Path(__file__).parents[1] / "corpus"
_LONGEST_INPUT = 1 << 16
_INPUT_SECONDS = 10
_MEMORY_MIB = 1024
_START_SECONDS = 120.0
_EXECUTED = re.compile(r"stat::number_of_executed_units:\s+(\d+)")
_ADDED = re.compile(r"stat::new_units_added:\s+(\d+)")
_SLOWEST = re.compile(r"stat::slowest_unit_time_sec:\s+(\d+)")


@dataclass(frozen=True)
class Outcome:
    """The result of fuzzing one target."""

    target: str
    executed: int
    added: int
    said: str
    inputs: tuple[bytes, ...]
    failed: bool


def fuzz(target: str, seconds: int, seed: int, keep: Path | None) -> Outcome:
    """Fuzz one target for some seconds; inputs that reach new code are added to a folder in `keep`, if there is one."""
    with tempfile.TemporaryDirectory(prefix="tagferry-fuzz-") as folder:
        found = Path(folder) / "found"
        artifacts = Path(folder) / "artifacts"
        artifacts.mkdir()
        shutil.copytree(CORPUS / target, found)
        command = [
            *(sys.executable, "-m", "tests.fuzzing.parsers.one", target),
            *(f"-max_total_time={seconds}", f"-seed={seed}", f"-max_len={_LONGEST_INPUT}", "-len_control=20"),
            *(f"-timeout={_INPUT_SECONDS}", f"-rss_limit_mb={_MEMORY_MIB}", "-print_final_stats=1"),
            *(f"-artifact_prefix={artifacts}/", str(found)),
        ]
        try:
            done = subprocess.run(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=seconds + _START_SECONDS,
                check=False,
            )
            said, code = done.stdout.decode(errors="replace"), done.returncode
        except subprocess.TimeoutExpired as late:
            said, code = (late.stdout or b"").decode(errors="replace") + "\nit did not end in time", -1
        if keep is not None:
            shutil.copytree(found, keep / target, dirs_exist_ok=True)
        executed, added = _EXECUTED.search(said), _ADDED.search(said)
        return Outcome(
            target,
            int(executed[1]) if executed else 0,
            int(added[1]) if added else 0,
            said,
            tuple(path.read_bytes() for path in sorted(artifacts.iterdir())),
            failed=code != 0 or executed is None,
        )


def main() -> int:
    """Run the fuzzer; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzzing.parsers", description=__doc__)
    parser.add_argument("--seconds", type=int, default=10, help="for each target (10)")
    parser.add_argument("--seed", type=int, default=1, help="makes the inputs (1)")
    parser.add_argument("--only", default="", help="targets, joined by commas (all)")
    parser.add_argument("--jobs", type=int, default=2, help="targets at once (2)")
    parser.add_argument("--keep", type=Path, help="a folder for the inputs that reach new code")
    options = parser.parse_args()
    wanted = options.only.split(",") if options.only else list(TARGETS)
    if unknown := [name for name in wanted if name not in TARGETS]:
        parser.error(f"--only: there is no target {unknown[0]!r}; there are {', '.join(TARGETS)}")
    failed = 0
    with ThreadPoolExecutor(options.jobs) as pool:
        for outcome in pool.map(lambda name: fuzz(name, options.seconds, options.seed, options.keep), wanted):
            failed += outcome.failed
            print(
                f"{outcome.target:20} {outcome.executed:>10,} inputs {outcome.added:>6,} reached new code", flush=True
            )
            if outcome.failed:
                print(outcome.said)
                for content in outcome.inputs:
                    print(f"the input: {content[:2000]!r}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
