"""Coalesce concurrent requests for the same tags within this process: one decides, the others share its result.

The database does the same across processes. Doing it here first also saves requests to the registries.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from tagferry.names import Tag
from tagferry.sync.jobs.model import JobHandle, SyncRequest

_Decision = asyncio.Future[dict[Tag, JobHandle]]


class RequestCoalescer:
    """Serializes requests of this process that name the same tags."""

    def __init__(self) -> None:
        self._deciding: dict[tuple[object, ...], _Decision] = {}

    @asynccontextmanager
    async def claim(self, request: SyncRequest, *, until: float) -> AsyncIterator[dict[Tag, JobHandle]]:
        """Wait for concurrent requests for any of the same tags, then claim the tags; yields the jobs decided so far.

        The content of the mapping at the end is shared with the requests that wait for this one.

        Args:
            request: the request.
            until: when to stop waiting, by the event loop's clock; the database then joins the tags.
        """
        loop = asyncio.get_running_loop()
        keys = {_key(request, tag) for tag in request.tags}
        handles: dict[Tag, JobHandle] = {}
        while deciding := {self._deciding[key] for key in keys if key in self._deciding}:
            decided, late = await asyncio.wait(deciding, timeout=max(0.0, until - loop.time()))
            for decision in decided:
                handles |= {
                    tag: replace(handle, is_joined=True)
                    for tag, handle in decision.result().items()
                    if tag in request.tags and handle.override == request.override
                }
            if late:
                break
        decision = loop.create_future()
        self._deciding |= dict.fromkeys(keys, decision)
        try:
            yield handles
        finally:
            for key in keys:
                if self._deciding.get(key) is decision:
                    del self._deciding[key]
            decision.set_result(handles)


def _key(request: SyncRequest, tag: Tag) -> tuple[object, ...]:
    return (
        request.source_region,
        request.namespace,
        request.repository,
        tag,
        request.target_region,
        request.target_namespace,
    )
