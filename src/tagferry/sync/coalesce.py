"""Requests for the same tags that reach this process at the same time: one is decided, the others learn of it.

Across processes the database sees to that; here it saves the questions to the registries too.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from tagferry.names import Tag
from tagferry.sync.jobs.model import JobHandle, SyncRequest

_Decision = asyncio.Future[dict[Tag, JobHandle]]


class RequestCoalescer:
    """The requests that are being decided in this process."""

    def __init__(self) -> None:
        self._deciding: dict[tuple[object, ...], _Decision] = {}

    @asynccontextmanager
    async def claim(self, request: SyncRequest, *, until: float) -> AsyncIterator[dict[Tag, JobHandle]]:
        """Wait for requests that want some of the same, then be the only one; yields what was decided meanwhile.

        What is in the mapping at the end is told to those who wait for this request.

        Args:
            request: the request.
            until: when to wait no longer, by the event loop's clock; the database then sees to it that tags are joined.
        """
        loop = asyncio.get_running_loop()
        keys = {_key(request, tag) for tag in request.tags}
        places: dict[Tag, JobHandle] = {}
        while deciding := {self._deciding[key] for key in keys if key in self._deciding}:
            decided, late = await asyncio.wait(deciding, timeout=max(0.0, until - loop.time()))
            for decision in decided:
                places |= {
                    tag: replace(place, is_joined=True)
                    for tag, place in decision.result().items()
                    if tag in request.tags and place.override == request.override
                }
            if late:
                break
        decision = loop.create_future()
        self._deciding |= dict.fromkeys(keys, decision)
        try:
            yield places
        finally:
            for key in keys:
                if self._deciding.get(key) is decision:
                    del self._deciding[key]
            decision.set_result(places)


def _key(request: SyncRequest, tag: Tag) -> tuple[object, ...]:
    return (
        request.source_region,
        request.namespace,
        request.repository,
        tag,
        request.target_region,
        request.target_namespace,
    )
