"""An image store backed by any OCI registry."""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from tagferry import bounds
from tagferry.concurrency import EXTERNAL_WAIT
from tagferry.docker_hub import full_name, is_hub
from tagferry.errors import InvalidName, NotFound, Refused, Unsupported
from tagferry.http.early_sockets import EarlySockets
from tagferry.names import Digest, Reference, RepositoryName, Tag
from tagferry.oci.images import BlobOutcome, OpenBlob, TagRecord, tag_changed
from tagferry.oci.model import Descriptor, Manifest
from tagferry.remote.blobs.checkpoint import UploadCheckpointStore
from tagferry.remote.blobs.download import Downloader
from tagferry.remote.blobs.size import BlobSizes
from tagferry.remote.blobs.uploader import Uploader
from tagferry.remote.capabilities import Capabilities, CapabilityStore, LearnedCapabilities
from tagferry.remote.check import CheckResult, RegistryCheck, Sample
from tagferry.remote.lookup import ManifestLookup
from tagferry.remote.manifests import Guard, Manifests
from tagferry.remote.referrers import Referrers
from tagferry.remote.tags import TagLists
from tagferry.remote.transport.authorization import ROOT
from tagferry.remote.transport.endpoint import Endpoint
from tagferry.remote.transport.idempotent_write import IdempotentWrite
from tagferry.remote.transport.observed import Observed
from tagferry.remote.transport.pagination import PAGE_SIZE, NotAList, not_a_list, pages, require_bounded, too_many_names
from tagferry.remote.transport.requests import Call, Transport
from tagferry.remote.transport.retry import Retry
from tagferry.remote.transport.scopes import delete_scope, pull_scope
from tagferry.remote.transport.throttle import Load

if TYPE_CHECKING:
    from tagferry.remote.deletions import Deletions

DESCRIBED_AT_ONCE = 8
_SHORT = 10_000
"""Number of tags up to which a list takes little memory, and does not delay others while its tags are described."""


class RemoteStore:
    """An `ImageStore` backed by a registry; belongs to one event loop.

    Args:
        endpoint: the registry's address and connection settings.
        retry: the retry policy for temporary faults.
        capabilities: stores the registry's capabilities for later processes.
        checkpoints: stores its upload sessions for later processes.
        early: connections that have begun already.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        retry: Retry | None = None,
        capabilities: CapabilityStore | None = None,
        checkpoints: UploadCheckpointStore | None = None,
        early: EarlySockets | None = None,
    ) -> None:
        retry = retry or Retry()
        self._sleep = retry.sleep
        self._transport = Transport(endpoint, retry=retry, early=early)
        self._address = endpoint.url
        self._is_hub = is_hub(endpoint.url)
        self._learned = LearnedCapabilities(capabilities, registry=endpoint.name, on_loaded=self._expect_limit)
        self._manifests = Manifests(self._transport, self._learned)
        self._heads = ManifestLookup(self._manifests)
        self._check = RegistryCheck(self._transport, self._manifests)
        self._referrers = Referrers(self._transport, self._manifests, self._learned)
        self._lists = asyncio.Semaphore(bounds.CONCURRENT_LISTS)
        self._tag_lists = TagLists(self._transport, self._learned)
        self._downloader = Downloader(self._transport, self._learned)
        self._sizes = BlobSizes(self._transport, self._learned)
        self._uploader = Uploader(self._transport, self._learned, self._sizes, checkpoints)

    @property
    def name(self) -> str:
        return self._transport.name

    @property
    def address(self) -> str:
        return self._address

    @property
    def high_latency(self) -> bool | None:
        return self._transport.high_latency

    @property
    def identity(self) -> int:
        return self._transport.identity

    async def ping(self) -> None:
        """Check that the registry is reachable and accepts the user (distribution-spec, "Determining Support")."""
        await self._transport.fetch(Call(method="GET", task="serve GET /v2/", url=ROOT, redirects=True))

    async def probe(self) -> None:
        """Make one request, `GET /v2/`, and authenticate; raises as `check_any`. For checks at an interval."""
        await self._transport.sign_in(once=True)

    async def capabilities(self) -> Capabilities:
        """Return the known capabilities of the registry, whichever process learned them."""
        return await self._learned.stored()

    @property
    def knows_capabilities(self) -> bool:
        """True if a capability of the registry is known."""
        return self._learned.has_learned

    @property
    def connections(self) -> tuple[int, int]:
        """The number of connections in use, and of idle ones."""
        return self._transport.connections

    @property
    def observed(self) -> Observed:
        """The health of the registry as its responses have shown it."""
        return self._transport.observed

    @property
    def free_requests(self) -> int:
        """See `oci.images.free_requests`."""
        return self._transport.free_requests

    @property
    def load(self) -> Load:
        """The current load of the registry by this process."""
        return self._transport.load

    async def check(self, repository: RepositoryName, tag: Tag | None = None) -> CheckResult:
        """Make the first request of a synchronization of this repository; see `RegistryCheck.check_repository`."""
        return await self._check.check_repository(self._full_name(repository), tag)

    async def check_any(self, samples: Sequence[Sample] = ()) -> CheckResult:
        """Request one of these repositories that exists, or another one; see `RegistryCheck.check_any`."""
        return await self._check.check_any(samples)

    async def head_manifest(
        self,
        repository: RepositoryName,
        reference: Reference,
        *,
        known: Descriptor | None = None,
        for_write: bool = False,
        confirm_missing: bool = False,
    ) -> Descriptor | None:
        repository = self._full_name(repository)
        if for_write:
            self._transport.expect_writes(repository)
        if confirm_missing and known is None:
            return await self._heads.find(repository, reference)
        found = await self._manifests.head(repository, reference, known)
        if found is not None:
            self._heads.confirm_head(repository)
        return found

    async def get_manifest(self, repository: RepositoryName, reference: Reference) -> Manifest:
        return await self._manifests.get(self._full_name(repository), reference)

    async def put_manifest(
        self,
        repository: RepositoryName,
        manifest: Manifest,
        tag: Tag | None = None,
        *,
        override: bool = True,
        seen: Digest | None = None,
    ) -> None:
        repository = self._full_name(repository)
        has_noted_subject = await self._manifests.put(
            repository, manifest, tag, guard=None if override else Guard(seen)
        )
        for reference in (manifest.digest, tag):
            if reference is not None:
                self._heads.note_existing(repository, reference)
        if not has_noted_subject and manifest.subject is not None:
            await self._referrers.add(repository, manifest)

    async def is_damaged(self, repository: RepositoryName, digest: Digest) -> bool:
        return False

    async def refuses(self, manifest: Manifest) -> bool:
        return await self._manifests.refusals.covers(manifest)

    async def delete_manifest(
        self, repository: RepositoryName, reference: Reference, *, seen: TagRecord | None = None
    ) -> None:
        repository = self._full_name(repository)
        if seen is not None:
            found = await self._heads.find(repository, seen.tag)
            if found is not None and found.digest != seen.digest:
                raise tag_changed(repository, seen.tag)
        await self._deletions().delete(repository, reference)

    async def delete_repository(self, repository: RepositoryName) -> None:
        await self._deletions().delete_repository(self, self._full_name(repository))

    def _deletions(self) -> "Deletions":
        # Imported here: a copy deletes nothing.
        from tagferry.remote.deletions import Deletions

        return Deletions(self._transport, self._heads, self._sleep)

    async def stat_blob(self, repository: RepositoryName, digest: Digest) -> int | None:
        repository = self._full_name(repository)
        return await self._sizes.size(repository, digest, scope=pull_scope(repository))

    @asynccontextmanager
    async def read_blob(
        self, repository: RepositoryName, descriptor: Descriptor, *, offset: int = 0
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        async with self._downloader.open(self._full_name(repository), descriptor, offset=offset) as chunks:
            yield chunks

    async def write_blob(
        self,
        repository: RepositoryName,
        descriptor: Descriptor,
        source: OpenBlob,
        *,
        mount_from: RepositoryName | None = None,
        force: bool = False,
    ) -> BlobOutcome:
        repository = self._full_name(repository)
        mount_from = self._full_name(mount_from) if mount_from is not None else None
        return await self._uploader.write(repository, descriptor, source, mount_from=mount_from, force=force)

    @asynccontextmanager
    async def _list_slot(self) -> AsyncIterator[None]:
        """Hold one of the few slots for lists; waiting for it does not count as work of this process."""
        with EXTERNAL_WAIT.get():
            await self._lists.acquire()
        try:
            yield
        finally:
            self._lists.release()

    async def list_tags(self, repository: RepositoryName) -> AsyncIterator[Tag]:
        async with self._list_slot():
            tags = await self._tag_lists.all(self._full_name(repository))
        for tag in tags:
            yield tag

    async def list_tags_within(self, repository: RepositoryName, requests: int) -> frozenset[Tag] | None:
        return await self._tag_lists.within(self._full_name(repository), requests)

    async def describe_tags(self, repository: RepositoryName, only: Collection[Tag] | None = None) -> list[TagRecord]:
        if only is not None:
            return await self._described(repository, sorted(only))
        async with AsyncExitStack() as listing:
            await listing.enter_async_context(self._list_slot())
            tags = await self._tag_lists.all(self._full_name(repository))
            if len(tags) <= _SHORT:
                await listing.aclose()
            return await self._described(repository, tags)

    async def _described(self, repository: RepositoryName, tags: Sequence[Tag]) -> list[TagRecord]:
        records: dict[Tag, TagRecord] = {}
        waiting = iter(tags)
        workers = [
            asyncio.ensure_future(self._describe(repository, waiting, records)) for _ in tags[:DESCRIBED_AT_ONCE]
        ]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        return [records[tag] for tag in tags if tag in records]

    async def list_repositories(self) -> AsyncIterator[RepositoryName]:
        """See `ImageStore`; repositories with invalid names are left out."""
        call = Call(
            method="GET",
            task="list its repositories",
            url=f"/v2/_catalog?n={PAGE_SIZE}",
            scopes=("registry:catalog:*",),
            accept=frozenset({200, 404, 405}),
            redirects=True,
            limit=bounds.TAG_LIST_BYTES,
        )
        names: set[RepositoryName] = set()
        try:
            async with self._list_slot():
                async for page in pages(self._transport, call):
                    require_bounded(self._transport, call, page)
                    entries = page.document.get("repositories", "")
                    if page.status != 200:
                        raise Unsupported(f"registry {self.name} does not list its repositories")
                    if entries is not None and not isinstance(entries, list):
                        raise not_a_list(self._transport, call, page)
                    names.update(_repositories(entries or []))
                    if len(names) > bounds.TAG_LIST_NAMES:
                        raise too_many_names(self._transport, call)
        except (NotAList, Refused) as refusal:
            raise Unsupported(f"registry {self.name} does not list its repositories: {refusal}") from refusal
        for name in sorted(names):
            yield name

    async def list_referrers(
        self,
        repository: RepositoryName,
        digest: Digest,
        artifact_type: str | None = None,
        *,
        tags: Collection[Tag] | None = None,
    ) -> list[Descriptor]:
        return await self._referrers.find(self._full_name(repository), digest, artifact_type, tags)

    async def delete_blob(self, repository: RepositoryName, digest: Digest) -> None:
        repository = self._full_name(repository)
        call = Call(
            method="DELETE",
            task=f"delete blob {digest} of {repository}",
            url=f"/v2/{repository}/blobs/{digest}",
            scopes=(delete_scope(repository),),
            accept=frozenset({200, 202, 204, 404}),
        )

        async def is_deleted() -> bool:
            return not await self._sizes.exists(repository, digest, scope=pull_scope(repository), once=True)

        send = partial(self._transport.fetch, call, once=True)
        answer = await IdempotentWrite(self._transport.retry, send, is_deleted).run()
        if answer is not None and answer.status == 404:
            raise NotFound("blob", f"{repository}@{digest}")

    async def close(self) -> None:
        await self._uploader.close()
        # The limit is saved only at the end, because it changes with every response while requests are limited.
        if self._learned.is_loaded:
            limit = self._transport.limiter.limit
            await self._learned.learn(requests_a_second=None if limit is None else round(limit, 2))
        await self._transport.close()

    def _expect_limit(self, known: Capabilities) -> None:
        if known.requests_a_second is not None:
            self._transport.limiter.restore(known.requests_a_second)

    def _full_name(self, repository: RepositoryName) -> RepositoryName:
        """Return the full name of a repository at Docker Hub; other names unchanged."""
        return full_name(repository) if self._is_hub else repository

    async def _describe(
        self, repository: RepositoryName, waiting: Iterator[Tag], records: dict[Tag, TagRecord]
    ) -> None:
        for tag in waiting:
            # The tag may have been deleted since it was listed.
            if descriptor := await self.head_manifest(repository, tag, confirm_missing=True):
                records[tag] = TagRecord(tag=tag, digest=descriptor.digest)


def _repositories(names: list[Any]) -> Iterator[RepositoryName]:
    for name in names:
        with suppress(InvalidName):
            yield RepositoryName(str(name))
