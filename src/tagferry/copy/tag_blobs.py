"""The blobs of one tag, of which the first are copied while the plan is still made.

A plan takes several round trips to the source: the index, the manifests below it, and their referrers.
"""

import asyncio
from collections.abc import Iterable
from contextvars import copy_context
from typing import NamedTuple

from tagferry.copy.blobs import BlobCopier
from tagferry.copy.progress import Progress, Transfer
from tagferry.copy.route import Route
from tagferry.metrics import BLOBS
from tagferry.names import Digest
from tagferry.oci.images import BlobOutcome, free_requests, is_known_to_refuse
from tagferry.oci.model import Descriptor, Manifest

MOST = 24
"""Blobs that begin before there is a plan."""
KEPT = 8
"""Requests to the source that are left for manifests."""
_OUTCOMES = {BlobOutcome.UPLOADED: "copied", BlobOutcome.MOUNTED: "mounted", BlobOutcome.PRESENT: "present"}
_RESUMED = "resumed"


class _Begun(NamedTuple):
    task: "asyncio.Task[None]"
    blob: Descriptor
    transfer: Transfer


class TagBlobs:
    """Copies the blobs of one tag, and records each in the progress once.

    Args:
        blobs: copies blobs for all tags.
        route: the source and target.
        progress: the progress of the tag's copy.
    """

    def __init__(self, blobs: BlobCopier, route: Route, progress: Progress) -> None:
        self._blobs = blobs
        self._route = route
        self._progress = progress
        # The plan has a span of its own, to which the requests of blobs do not belong.
        self._context = copy_context()
        self._looked_up: set[Digest] = set()
        self._begun: dict[Digest, _Begun] = {}
        self._is_refused = False

    async def begin(self, manifest: Manifest) -> None:
        """Begin to copy the blobs of the image's root, or of a manifest below it, before there is a plan.

        Nothing begins if the target may refuse the image, or accept only a part of it.
        """
        route = self._route
        if not self._room:
            return
        if await is_known_to_refuse(route.target, manifest):
            self._is_refused = True
            await self.close()
            return
        # A manifest may list the same layer several times.
        listed = {blob.digest: blob for blob in manifest.blobs if not blob.is_external}
        wanted = self._unknown(listed.values())[: self._room]
        await self.find_mount_sources(wanted)
        for blob in wanted[: self._room]:
            transfer = self._blobs.transfer(route, blob)
            self._progress.early.append(transfer)
            copying = self._blobs.ensure(route, blob, transfer, force=False)
            task = asyncio.create_task(copying, context=self._context.copy())
            self._begun[blob.digest] = _Begun(task, blob, transfer)

    async def find_mount_sources(self, blobs: Iterable[Descriptor]) -> None:
        """Look up the repositories from which the target can mount these blobs, each once."""
        if unknown := self._unknown(blobs):
            self._looked_up.update(blob.digest for blob in unknown)
            await self._blobs.find_mount_sources(self._route, unknown)

    async def ensure(self, blob: Descriptor, transfer: Transfer, *, force: bool) -> None:
        """Make the target hold a blob; with `force`, send it even if the target reports that it exists."""
        begun = self._begun.pop(blob.digest, None)
        if begun is None:
            await self._blobs.ensure(self._route, blob, transfer, force=force)
        else:
            await begun.task
        self._record(blob, transfer)

    async def finish(self) -> None:
        """Wait for the blobs that have begun, so that the next attempt finds them at the target."""
        if self._begun:
            await asyncio.wait([begun.task for begun in self._begun.values()])

    async def close(self) -> None:
        """Cancel the blobs that have begun and were not awaited; those that the target holds are recorded."""
        left, self._begun = self._begun, {}
        for begun in left.values():
            begun.task.cancel()
        errors = await asyncio.gather(*(begun.task for begun in left.values()), return_exceptions=True)
        for begun, error in zip(left.values(), errors, strict=True):
            if error is None:
                self._record(begun.blob, begun.transfer)

    @property
    def _room(self) -> int:
        """The number of blobs that may begin now."""
        accepts = self._route.accepts
        if self._is_refused or accepts.is_restrictive or accepts.foreign_layers:
            return 0
        free = free_requests(self._route.source)
        most = MOST if free is None else min(MOST, free - KEPT)
        return max(0, most - len(self._begun))

    def _unknown(self, blobs: Iterable[Descriptor]) -> list[Descriptor]:
        """Return the blobs whose mount sources were not looked up."""
        return [blob for blob in blobs if blob.digest not in self._looked_up]

    def _record(self, blob: Descriptor, transfer: Transfer) -> None:
        outcome, read = transfer.take_outcome()
        timeline = self._progress.timeline
        if timeline.add_blob(blob.digest, blob.size, outcome, read=read, source=transfer.source):
            shown = _RESUMED if outcome is BlobOutcome.UPLOADED and transfer.is_resumed else _OUTCOMES[outcome]
            BLOBS.labels(target_region=self._route.target.name, outcome=shown).inc()
