"""Start `tagferry serve` by forking a process that has imported everything, which saves seconds for each start.

Reads a line of JSON for each start: the folder and the log; writes the process's id, and once it has ended, a line
with how it ended. One process at a time.
"""

import importlib
import json
import os
import pkgutil
import sys

import tagferry
from tagferry.cli import main as command

_LAZY = ("alembic.command", "uvloop")


def main() -> None:
    """Serve until the input ends."""
    for module in pkgutil.walk_packages(tagferry.__path__, "tagferry."):
        if ".migrations" not in module.name and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in _LAZY:
        importlib.import_module(name)
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            _serve(order["folder"], order["log"])
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _serve(folder: str, log: str) -> None:
    try:
        os.chdir(folder)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.argv = ["tagferry", "serve"]
        command()
    finally:
        os._exit(1)


if __name__ == "__main__":
    main()
