"""The first blobs of an image, copied while the rest of its plan is made.

A plan takes several round trips to the source: the index, the manifests below it, and their referrers.
"""

import asyncio
from collections.abc import Iterable
from contextvars import copy_context
from typing import NamedTuple

from tagferry.copy.blobs import BlobCopier, CopiedBlob
from tagferry.copy.progress import Transfer
from tagferry.copy.route import Route
from tagferry.names import Digest
from tagferry.oci.images import is_known_to_refuse
from tagferry.oci.model import Descriptor, Manifest

MOST = 24
"""Blobs that begin before there is a plan. The others leave connections to the source for the manifests."""


class _Begun(NamedTuple):
    task: "asyncio.Task[CopiedBlob]"
    transfer: Transfer


class EarlyBlobs:
    """The blobs of one image that begin before its plan is complete; `close` cancels those that are not awaited.

    Args:
        blobs: copies the blobs.
        route: the source and target.
    """

    def __init__(self, blobs: BlobCopier, route: Route) -> None:
        self._blobs = blobs
        self._route = route
        # The plan has a span of its own, to which the requests of blobs do not belong.
        self._context = copy_context()
        self._known: set[Digest] = set()
        self._begun: dict[Digest, _Begun] = {}
        self._is_refused = False

    async def begin(self, manifest: Manifest) -> None:
        """Begin to copy the blobs of the image's root, or of a manifest below it.

        Nothing begins if the target may refuse the image, or accept only a part of it.
        """
        route = self._route
        if self._is_refused or route.accepts.is_restrictive or route.accepts.foreign_layers:
            return
        if await is_known_to_refuse(route.target, manifest):
            self._is_refused = True
            return
        wanted = [blob for blob in self.unknown(manifest.blobs) if not blob.is_external][: MOST - len(self._begun)]
        if not wanted:
            return
        self._known.update(blob.digest for blob in wanted)
        await self._blobs.find_mount_sources(route, wanted)
        for blob in wanted:
            if len(self._begun) < MOST:
                transfer = self._blobs.transfer(route, blob)
                copying = self._blobs.ensure(route, blob, transfer, force=False)
                task = asyncio.create_task(copying, context=self._context.copy())
                self._begun[blob.digest] = _Begun(task, transfer)

    def unknown(self, blobs: Iterable[Descriptor]) -> list[Descriptor]:
        """Return the blobs whose mount sources were not looked up."""
        return [blob for blob in blobs if blob.digest not in self._known]

    async def ensure(self, blob: Descriptor, transfer: Transfer, *, force: bool) -> CopiedBlob:
        """Make the target hold a blob of the plan, as `BlobCopier.ensure`; joins the copy that has begun."""
        begun = self._begun.pop(blob.digest, None)
        if begun is not None:
            return await begun.task
        return await self._blobs.ensure(self._route, blob, transfer, force=force)

    async def close(self) -> None:
        """Cancel the copies that were not awaited, and wait until they have ended."""
        tasks = [begun.task for begun in self._begun.values()]
        self._begun.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)
