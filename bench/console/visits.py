"""Open each page after a start of the server, and again."""

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from bench.console.installation import Installation
from bench.console.pages import Page
from bench.console.visitor import Cache, Visitor
from bench.measure import cpu_of, cpu_of_all, middle
from bench.served import SOURCE_REGION, Tagferry

_PENDING = b"data-pending"
"""The mark of a page's part that is still being computed."""
_PAUSE_SECONDS = 0.1
_IDLE_SECONDS = 0.5
_IDLE_TRIES = 120
_IDLE_SHARE = 0.15
"""The part of a core below which a server counts as idle."""


@dataclass(frozen=True, slots=True)
class Visit:
    """The figures of a page.

    Attributes:
        first: seconds of the first request after the start of the server. Except for pages that are opened at once, the
            server has compared all followed repositories with their rules before.
        whole: seconds from there until the page has nothing more to come, with requests for what is pending.
        warm: seconds of the following ones, the median.
        worst: the slowest of these.
        cpu: seconds of CPU of one of these, those of PostgreSQL included.
        cold_requests: requests of a browser with an empty cache.
        cold_bytes: bytes that it received.
        warm_requests: requests of a browser that has opened the page before.
        warm_bytes: bytes that it received.
        decoded_bytes: bytes of the page itself, decoded.
    """

    first: float
    whole: float
    warm: float
    worst: float
    cpu: float
    cold_requests: int
    cold_bytes: int
    warm_requests: int
    warm_bytes: int
    decoded_bytes: int


def visit_all(
    installed: Installation, pages: Sequence[Page], *, samples: int, with_starts: bool = True
) -> dict[str, Visit]:
    """Return the figures of each page by its name.

    Args:
        installed: the installation.
        pages: the pages.
        samples: requests after the first one.
        with_starts: whether to start the server before each page; otherwise only once, for a quick run.
    """
    found: dict[str, Visit] = {}
    with ExitStack() as stack:
        for page in pages:
            if with_starts or not found:
                stack.close()
                server = stack.enter_context(installed.serving()).regions[SOURCE_REGION]
                if not page.is_at_once:
                    _wait_until_idle(installed, server)
            found[page.name] = _visit(installed, server, page, samples)
            print(f"{page.name:50}{found[page.name].first:9.3f} s{found[page.name].warm:9.3f} s", file=sys.stderr)
    return found


def _visit(installed: Installation, server: Tagferry, page: Page, samples: int) -> Visit:
    def cpu() -> float:
        return _cpu_of(installed, server)

    with Visitor(server.address, page.session) as visitor:
        begun = time.perf_counter()
        first = shown = visitor.get(page.path)
        while _PENDING in shown.body:
            time.sleep(_PAUSE_SECONDS)
            shown = visitor.get(page.path)
        whole = time.perf_counter() - begun
        used = cpu()
        warm = [visitor.get(page.path) for _ in range(samples)]
        used = cpu() - used
        cache = Cache()
        cold, again = visitor.load(page.path, cache), visitor.load(page.path, cache)
    return Visit(
        first=first.seconds,
        whole=whole,
        warm=middle([one.seconds for one in warm]),
        worst=max(one.seconds for one in warm),
        cpu=used / samples,
        cold_requests=cold.requests,
        cold_bytes=cold.received,
        warm_requests=again.requests,
        warm_bytes=again.received,
        decoded_bytes=len(warm[-1].body),
    )


def _wait_until_idle(installed: Installation, server: Tagferry) -> None:
    for _ in range(_IDLE_TRIES):
        used = _cpu_of(installed, server)
        time.sleep(_IDLE_SECONDS)
        if _cpu_of(installed, server) - used < _IDLE_SHARE * _IDLE_SECONDS:
            return
    raise RuntimeError(f"the server is still busy {_IDLE_TRIES * _IDLE_SECONDS:g} s after its start")


def _cpu_of(installed: Installation, server: Tagferry) -> float:
    return cpu_of(server.process_id) + cpu_of_all(installed.database_process)
