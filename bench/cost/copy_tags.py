"""Copy tags with the copy engine of any tagferry, start-up included: earlier ones have no `tagferry copy`.

python -m bench.cost.copy_tags SOURCE TARGET REPOSITORY TAG...
"""

import asyncio
import gc
import sys
from typing import NoReturn

import uvloop

from tagferry.copy.engine import CopyEngine
from tagferry.copy.outcome import Outcome
from tagferry.copy.route import Route
from tagferry.names import RepositoryName, Tag
from tagferry.remote import Endpoint, RemoteStore

_CONNECTIONS = 32
"""The default of a region."""


async def copy(source: str, target: str, repository: str, tags: list[str]) -> list[Outcome | BaseException]:
    """Copy the tags, as many at once as the engine allows; returns the outcome of each."""
    origin = RemoteStore(Endpoint(name="source", url=f"http://{source}", max_connections=_CONNECTIONS))
    goal = RemoteStore(Endpoint(name="target", url=f"http://{target}", max_connections=_CONNECTIONS))
    name = RepositoryName(repository)
    route = Route(source=origin, source_repository=name, target=goal, target_repository=name)
    engine = CopyEngine()
    try:
        return await asyncio.gather(
            *(engine.copy(route, Tag(tag), override=True) for tag in tags), return_exceptions=True
        )
    finally:
        await origin.close()
        await goal.close()


def main() -> NoReturn:
    """Copy the tags in the command line; the exit code is 1 if one failed."""
    # As the command line does: imported objects live to the end, so garbage collection can skip them.
    gc.freeze()
    source, target, repository, *tags = sys.argv[1:]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        outcomes = runner.run(copy(source, target, repository, tags))
    failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    for failure in failures:
        print(failure, file=sys.stderr)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
