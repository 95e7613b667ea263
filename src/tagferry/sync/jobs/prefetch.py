"""Results of a request's preflight check that its jobs reuse when they run in the same process."""

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
    """The preflight result of a tag.

    Attributes:
        plan: the task that reads the plan of its copy.
    """

    finding: Finding
    plan: asyncio.Task[Plan] | None = None


@asynccontextmanager
async def prefetch_plans(
    plan_of: Callable[[Tag], Coroutine[Any, Any, Plan]], tags: Collection[Tag]
) -> AsyncIterator[dict[Tag, asyncio.Task[Plan]]]:
    """Start to read the plans of these tags; plans that are not removed from the mapping are cancelled at the end."""
    plans = {tag: asyncio.create_task(plan_of(tag)) for tag in tags}
    for plan in plans.values():
        plan.add_done_callback(_retrieve_exception)
    try:
        yield plans
    finally:
        for plan in plans.values():
            plan.cancel()
        if plans:
            await asyncio.wait(plans.values())


def _retrieve_exception(plan: asyncio.Task[Plan]) -> None:
    """Mark the exception as retrieved: an unused plan may fail without a warning."""
    if not plan.cancelled():
        plan.exception()
