"""`tagferry serve` with shorter intervals, so that an hour has sixty rounds of housekeeping.

Caches have limits, which ordinary work reaches after days. Small limits are reached within minutes, so that memory that
still grows afterwards is a leak.
"""

import sys

from tagferry import bounds, housekeeping
from tagferry.cli import main
from tagferry.copy.held_content import HeldContent
from tagferry.copy.mount_sources import MountSources
from tagferry.registry.storage import integrity
from tagferry.remote import lookup
from tagferry.remote.transport import tokens
from tagferry.sync.jobs import completion

_SHORTENED = {
    (housekeeping, "_INTERVAL_SECONDS"): 60.0,
    (housekeeping, "_GRACE_SECONDS"): 300.0,
    (integrity, "_REMEMBERED"): 500,
    (bounds, "LISTED_MEMORY_BYTES"): 250_000,
    (bounds, "ANSWER_MEMORY_BYTES"): 250_000,
    (lookup, "_MAX_REPOSITORIES"): 50,
    (tokens, "_MAX_TOKENS"): 100,
    (completion, "_REMEMBERED"): 1000,
}
_REMEMBERED = 1000


if __name__ == "__main__":
    for (module, name), value in _SHORTENED.items():
        if not hasattr(module, name):
            raise SystemExit(f"{module.__name__} has no {name} to be shortened")
        setattr(module, name, value)
    for memory in (MountSources, HeldContent):
        memory.__init__.__kwdefaults__ = {**(memory.__init__.__kwdefaults__ or {}), "limit": _REMEMBERED}
    sys.argv = ["tagferry", "serve"]
    main()
