"""Whether a tag exists, where a wrong answer would replace an image.

Some registries answer HEAD with 404 for manifests that GET returns. So a HEAD that reports a tag as missing counts only
in repositories in which HEAD has found a manifest before; elsewhere GET decides. One request of a repository finds that
out for the others, which then cost one request each as well.
"""

import asyncio
from collections import OrderedDict

from tagferry.names import RepositoryName, Tag
from tagferry.oci.model import Descriptor
from tagferry.remote.manifests import Manifests

_REPOSITORIES = 4096
_TAGS = 10_000


class _Repository:
    """What is known about the answers to HEAD in one repository.

    Attributes:
        finds: True once HEAD has found a manifest, False once it has missed one; None before.
        is_tried: whether HEAD has been sent in order to find out.
        existing: tags that exist, noted while `finds` is None.
    """

    def __init__(self) -> None:
        self.finds: bool | None = None
        self.is_tried = False
        self.existing: set[Tag] = set()
        self.trying = asyncio.Lock()


class TagLookup:
    """Finds tags of one registry, certain of those that are missing."""

    def __init__(self, manifests: Manifests) -> None:
        self._manifests = manifests
        self._repositories: OrderedDict[RepositoryName, _Repository] = OrderedDict()

    async def find(self, repository: RepositoryName, tag: Tag) -> Descriptor | None:
        """Return what a tag points to, or None if it certainly does not exist."""
        known = self._known(repository)
        if known.finds is None and not known.is_tried:
            async with known.trying:
                if known.finds is None and not known.is_tried:
                    known.is_tried = True
                    return await self._head_then_get(repository, tag, known)
        if known.finds or (known.finds is None and tag in known.existing):
            return await self._head_then_get(repository, tag, known)
        return await self._get(repository, tag, known)

    def confirm_head(self, repository: RepositoryName) -> None:
        """Note that HEAD has found a manifest."""
        known = self._known(repository)
        if known.finds is None:
            known.finds = True
            known.existing.clear()

    def note_existing(self, repository: RepositoryName, tag: Tag) -> None:
        """Note that a tag exists, so that HEAD is expected to find it."""
        known = self._known(repository)
        if known.finds is None and len(known.existing) < _TAGS:
            known.existing.add(tag)

    async def _head_then_get(self, repository: RepositoryName, tag: Tag, known: _Repository) -> Descriptor | None:
        found = await self._manifests.head(repository, tag)
        if found is not None:
            self.confirm_head(repository)
            return found
        if known.finds:
            return None
        found = await self._get(repository, tag, known)
        if found is not None:
            known.finds = False
        return found

    async def _get(self, repository: RepositoryName, tag: Tag, known: _Repository) -> Descriptor | None:
        found = await self._manifests.look(repository, tag)
        if found is not None:
            self.note_existing(repository, tag)
        return found

    def _known(self, repository: RepositoryName) -> _Repository:
        known = self._repositories.get(repository)
        if known is None:
            known = self._repositories[repository] = _Repository()
            if len(self._repositories) > _REPOSITORIES:
                self._repositories.popitem(last=False)
        return known
