"""`python -m tests.fuzzing`: generate requests from the OpenAPI document with schemathesis, and check the responses.

The exit code is 1 if a response is a server error or not in the document.
"""

import argparse
import asyncio
import os
import re
import sys
import tempfile
from pathlib import Path

from tagferry import logs
from tagferry.accounts.model import Permission
from tagferry.names import Tag
from tests.support import images
from tests.support.deployment import NORTH, SOUTH, Deployment, deployed, name_in

_CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
_SECONDS = 900.0
_FIGURES = re.compile(r"Tested: (\d+).*?(\d+) generated, (.*?)\n", re.DOTALL)


async def fuzz(examples: int, seed: int, paths: str) -> int:
    """Test the matching paths as each kind of caller; returns the number of kinds that found a fault."""
    faults = 0
    with tempfile.TemporaryDirectory(prefix="tagferry-fuzz-") as folder:
        async with deployed(Path(folder) / "data") as ferry:
            for region in (NORTH, SOUTH):
                await images.push(ferry.store(region), name_in("team"), images.index(), Tag("v1"))
            password, _ = await ferry.user("editor", team=Permission.EDIT)
            tokens = {
                "an administrator": await ferry.token(),
                "a user": await ferry.token(user="editor", password=password),
                "nobody": None,
            }
            for who, token in tokens.items():
                headers = ["-H", f"X-Auth-Token: {token}"] if token else []
                code, said = await _run(ferry, [*headers, "--include-path-regex", paths], examples=examples, seed=seed)
                figures = _FIGURES.search(said)
                if code != 0 or figures is None:
                    sys.stdout.write(said)
                    faults += 1
                else:
                    operations, cases, outcome = figures.groups()
                    sys.stdout.write(f"{who}: {operations} operations, {cases} cases, {outcome}\n")
                sys.stdout.flush()
    return faults


async def _run(ferry: Deployment, options: list[str], *, examples: int, seed: int) -> tuple[int, str]:
    """Return schemathesis's exit code and output."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{ferry.urls[NORTH]}/openapi.json", *options),
        *("--checks", _CHECKS, "--max-examples", str(examples), "--seed", str(seed), "--no-color"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    try:
        async with asyncio.timeout(_SECONDS):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, said.decode(errors="replace")


def main() -> int:
    """Run the fuzzer; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzzing", description=__doc__)
    parser.add_argument("--examples", type=int, default=10, help="at most so many made-up requests of each kind (10)")
    parser.add_argument("--seed", type=int, default=1, help="makes the requests (1)")
    parser.add_argument("--paths", default=".", help="only operations whose paths match this regular expression (all)")
    options = parser.parse_args()
    logs.configure(style="console", level="error")
    return 1 if asyncio.run(fuzz(options.examples, options.seed, options.paths)) else 0


if __name__ == "__main__":
    sys.exit(main())
