"""`tagferry serve`, with the pauses and grace times of its housekeeping shortened: an hour then holds sixty of them."""

import sys

from tagferry import housekeeping
from tagferry.cli import main

_SHORTENED = {"_PAUSE_SECONDS": 60.0, "_GRACE_SECONDS": 300.0}


if __name__ == "__main__":
    for name, seconds in _SHORTENED.items():
        if not hasattr(housekeeping, name):
            raise SystemExit(f"tagferry.housekeeping has no {name} to be shortened")
        setattr(housekeeping, name, seconds)
    sys.argv = ["tagferry", "serve"]
    main()
