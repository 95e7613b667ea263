"""Who refers to a manifest: by the registry's API, or by the tag that stands in for it.

Distribution-spec 1.1, "Listing Referrers", "Referrers Tag Schema" and "Pushing Manifests with Subject".
"""

import asyncio
import json
from collections.abc import Collection
from typing import Any
from urllib.parse import quote
from weakref import WeakValueDictionary

from tagferry.errors import Invalid, NotFound
from tagferry.names import Digest, RepositoryName, Tag
from tagferry.oci.attachments import referrers_tag
from tagferry.oci.model import OCI_INDEX, Descriptor, Manifest
from tagferry.remote.capabilities import Learned
from tagferry.remote.listing import pages
from tagferry.remote.manifests import Manifests, pulling
from tagferry.remote.transport import Call, Transport

_NO_API = frozenset({400, 404, 405, 501})


class Referrers:
    """The referrers that one registry knows."""

    def __init__(self, transport: Transport, manifests: Manifests, learned: Learned) -> None:
        self._transport = transport
        self._manifests = manifests
        self._learned = learned
        self._probing = asyncio.Lock()
        self._locks: WeakValueDictionary[tuple[RepositoryName, Digest], asyncio.Lock] = WeakValueDictionary()

    async def find(
        self, repository: RepositoryName, digest: Digest, artifact_type: str | None, tags: Collection[Tag] | None
    ) -> list[Descriptor]:
        """See `ImageStore.list_referrers`."""
        entries = await self._from_api_if_any(repository, digest, artifact_type)
        if entries is None:
            entries = await self._from_tag(repository, digest, tags)
        # Filtered here in any case: a registry may leave that to its clients.
        return [entry for entry in entries if artifact_type in (None, entry.artifact_type)]

    async def add(self, repository: RepositoryName, referrer: Manifest) -> None:
        """Enter a manifest in the index that stands under its subject's tag.

        Callers of this process take turns; the specification offers no way to exclude other processes.
        """
        subject = referrer.subject
        if subject is None:
            return
        async with self._lock(repository, subject.digest):
            index = await self._fallback(repository, subject.digest)
            if index and any(child.digest == referrer.digest for child in index.children):
                return
            document = _with_entry(index, referrer)
            raw = json.dumps(document, separators=(",", ":")).encode()
            await self._manifests.put(repository, Manifest.parse(raw, OCI_INDEX), referrers_tag(subject.digest))

    def _lock(self, repository: RepositoryName, digest: Digest) -> asyncio.Lock:
        lock = self._locks.get((repository, digest))
        if lock is None:
            lock = self._locks[repository, digest] = asyncio.Lock()
        return lock

    async def _from_api_if_any(
        self, repository: RepositoryName, digest: Digest, artifact_type: str | None
    ) -> list[Descriptor] | None:
        if await self._has_api() is None:
            # The first question tells whether to ask further ones, so all others wait for its answer.
            async with self._probing:
                if await self._has_api() is None:
                    return await self._from_api(repository, digest, artifact_type)
        return await self._from_api(repository, digest, artifact_type) if await self._has_api() is not False else None

    async def _has_api(self) -> bool | None:
        return (await self._learned.known()).lists_referrers

    async def _from_api(
        self, repository: RepositoryName, digest: Digest, artifact_type: str | None
    ) -> list[Descriptor] | None:
        query = f"?artifactType={quote(artifact_type, safe='')}" if artifact_type else ""
        call = Call(
            method="GET",
            task=f"list the referrers of {repository}@{digest}",
            url=f"/v2/{repository}/referrers/{digest}{query}",
            scopes=(pulling(repository),),
            headers={"Accept": OCI_INDEX},
            accept=_NO_API | {200},
        )
        listed: list[Descriptor] = []
        async for page in pages(self._transport, call):
            entries = page.document.get("manifests")
            if page.status != 200 or not isinstance(entries, list):
                # A registry that has the API answers 404 for a repository that it does not have, and says so.
                if page.code != "NAME_UNKNOWN":
                    await self._learned.learn(lists_referrers=False)
                return None
            await self._learned.learn(lists_referrers=True)
            listed += [Descriptor.from_json(entry) for entry in entries]
        return listed

    async def _from_tag(
        self, repository: RepositoryName, digest: Digest, tags: Collection[Tag] | None
    ) -> list[Descriptor]:
        if tags is not None and referrers_tag(digest) not in tags:
            return []
        index = await self._fallback(repository, digest)
        return list(index.children) if index else []

    async def _fallback(self, repository: RepositoryName, digest: Digest) -> Manifest | None:
        try:
            index = await self._manifests.get(repository, referrers_tag(digest))
        except NotFound:
            return None
        if not index.is_index:
            raise Invalid("referrers tag", f"of {repository}@{digest} must point to an index", index.media_type)
        return index


def _with_entry(index: Manifest | None, referrer: Manifest) -> dict[str, Any]:
    document: dict[str, Any] = index.document if index else {"schemaVersion": 2, "mediaType": OCI_INDEX}
    entries = document.get("manifests") or []
    return {**document, "manifests": [*entries, referrer.referrer_descriptor.to_json()]}
