"""What is known of a job's tag before the job runs, so that it need not be found out again."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from tagferry.copy.plan import Plan
from tagferry.copy.preflight import Finding
from tagferry.names import Tag

PREFETCH_LIMIT = 8
"""Tags of one request whose copies are prefetch_plans while their jobs are being recorded."""


class Prefetch(NamedTuple):
    """What was just found out about a tag.

    Attributes:
        plan: what its copy consists of, which may still be being read.
    """

    finding: Finding
    plan: asyncio.Task[Plan] | None = None


@asynccontextmanager
async def prefetch_plans(
    plan_of: Callable[[Tag], Coroutine[Any, Any, Plan]], tags: Collection[Tag]
) -> AsyncIterator[dict[Tag, asyncio.Task[Plan]]]:
    """Begin to read the plans of these tags; those that are not taken out of what is given end with it."""
    plans = {tag: asyncio.create_task(plan_of(tag)) for tag in tags}
    for plan in plans.values():
        plan.add_done_callback(_is_heard)
    try:
        yield plans
    finally:
        for plan in plans.values():
            plan.cancel()
        if plans:
            await asyncio.wait(plans.values())


def _is_heard(plan: asyncio.Task[Plan]) -> None:
    """Whoever takes the plan is told of its failure; where nobody does, it matters to nobody."""
    if not plan.cancelled():
        plan.exception()
