"""Looks up manifests reliably, where a wrong result would replace an image or report one as missing.

Some registries return 404 to HEAD for manifests that GET returns. So a 404 to HEAD counts only in repositories in which
HEAD has found a manifest before; in others, GET decides. One request per repository finds this out for the others,
which then cost one request each, too.
"""

import asyncio
from collections import OrderedDict

from tagferry.errors import TagferryError
from tagferry.names import Reference, RepositoryName
from tagferry.oci.model import Descriptor
from tagferry.remote.manifests import Manifests

_MAX_REPOSITORIES = 4096
_MAX_REFERENCES = 10_000


class _HeadSupport:
    """The known behavior of HEAD in one repository.

    Attributes:
        finds: True once HEAD has found a manifest, False once it has missed one; None before.
        is_probed: whether HEAD has been probed.
        has_failed: whether a probe has failed.
        existing: existing manifests, recorded while `finds` is None.
    """

    def __init__(self) -> None:
        self.finds: bool | None = None
        self.is_probed = False
        self.has_failed = False
        self.existing: set[Reference] = set()
        self.probing = asyncio.Lock()

    @property
    def is_unprobed(self) -> bool:
        return self.finds is None and not self.is_probed


class ManifestLookup:
    """Looks up manifests of one registry, and is certain about missing ones."""

    def __init__(self, manifests: Manifests) -> None:
        self._manifests = manifests
        self._repositories: OrderedDict[RepositoryName, _HeadSupport] = OrderedDict()

    async def find(self, repository: RepositoryName, reference: Reference) -> Descriptor | None:
        """Return what a reference points to, or None if it certainly does not exist."""
        known = self._known(repository)
        if known.is_unprobed and not known.has_failed:
            async with known.probing:
                if known.is_unprobed and not known.has_failed:
                    return await self._probe(repository, reference, known)
        if known.is_unprobed:
            # While a registry is unavailable, requests do not wait for each other's probes.
            return await self._probe(repository, reference, known)
        if known.finds or (known.finds is None and reference in known.existing):
            return await self._head_then_get(repository, reference, known)
        return await self._get(repository, reference)

    def confirm_head(self, repository: RepositoryName) -> None:
        """Record that HEAD has found a manifest."""
        known = self._known(repository)
        if known.finds is None:
            known.finds = True
            known.existing.clear()

    def note_existing(self, repository: RepositoryName, reference: Reference) -> None:
        """Record that a manifest exists, so that HEAD should find it."""
        known = self._known(repository)
        if known.finds is None and len(known.existing) < _MAX_REFERENCES:
            known.existing.add(reference)

    async def _probe(self, repository: RepositoryName, reference: Reference, known: _HeadSupport) -> Descriptor | None:
        try:
            found = await self._head_then_get(repository, reference, known)
        except TagferryError:
            known.has_failed = True
            raise
        known.is_probed = True
        return found

    async def _head_then_get(
        self, repository: RepositoryName, reference: Reference, known: _HeadSupport
    ) -> Descriptor | None:
        found = await self._manifests.head(repository, reference)
        if found is not None:
            self.confirm_head(repository)
            return found
        if known.finds:
            return None
        found = await self._get(repository, reference)
        if found is not None:
            known.finds = False
        return found

    async def _get(self, repository: RepositoryName, reference: Reference) -> Descriptor | None:
        found = await self._manifests.find_by_get(repository, reference)
        if found is not None:
            self.note_existing(repository, reference)
        return found

    def _known(self, repository: RepositoryName) -> _HeadSupport:
        known = self._repositories.get(repository)
        if known is None:
            known = self._repositories[repository] = _HeadSupport()
            if len(self._repositories) > _MAX_REPOSITORIES:
                self._repositories.popitem(last=False)
        return known
