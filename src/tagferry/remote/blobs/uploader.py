"""Copies a blob into a repository with the fewest requests (distribution-spec 1.1, "Pushing blobs").

One POST requests a mount, from the repository itself unless a better source is known. A registry that holds the blob
returns 201; any other opens the upload session that is needed anyway. One PUT then sends the bytes.

Some registries open a session for every mount. So large blobs are looked up by HEAD first, until one of them exists and
a mount of it shows how this registry behaves. Registries that do not mount are always asked by HEAD.
"""

from urllib.parse import quote

from tagferry.concurrency import BackgroundWork
from tagferry.errors import Corrupt, Invalid, TagferryError, TooLarge, Unavailable
from tagferry.names import Digest, RepositoryName
from tagferry.oci.images import BlobOutcome, OpenBlob
from tagferry.oci.model import Descriptor
from tagferry.remote.blobs.checkpoint import UploadCheckpoint, UploadCheckpointStore
from tagferry.remote.blobs.digest_check import DigestCheck
from tagferry.remote.blobs.mounts import MountHistory
from tagferry.remote.blobs.session import Session, cancel, open_call
from tagferry.remote.blobs.size import BlobSizes
from tagferry.remote.blobs.stagger import UploadStagger
from tagferry.remote.blobs.upload import Upload
from tagferry.remote.capabilities import MOUNT, LearnedCapabilities
from tagferry.remote.transport.requests import Call, Transport
from tagferry.remote.transport.response import Answer, RateLimited
from tagferry.remote.transport.scopes import push_scope

_HEAD_FIRST_SIZE = 4 * 1024 * 1024
"""Size of the smallest blob that is looked up while it is unknown whether a mount would find it: a smaller one is sent
in about the time of the lookup."""
_CLOSE_SECONDS = 1.0
"""The maximum time to wait for requests in the background when the registry is closed."""
_MIN_PART = 64 * 1024
"""Size in bytes below which a part that is too large is not halved again, unless the registry's minimum is lower."""
_REFUSED_MOUNT = frozenset(range(400, 500)) - {401, 403, 408, 429}


class _Registry:
    """The state that all uploads to one registry share.

    Attributes:
        background: requests that test how the registry behaves while blobs are sent.
        is_probing_self_mount: whether an upload is finding out if mounts of a repository from itself are conclusive.
    """

    def __init__(
        self,
        transport: Transport,
        learned: LearnedCapabilities,
        sizes: BlobSizes,
        checkpoints: UploadCheckpointStore | None,
    ) -> None:
        self.transport = transport
        self.learned = learned
        self.sizes = sizes
        self.checkpoints = checkpoints
        self.background = BackgroundWork()
        self.digest_check = DigestCheck(transport, learned, self.background)
        self.stagger = UploadStagger()
        self.mounts = MountHistory()
        self.is_probing_self_mount = False


class Uploader:
    """Writes blobs to one registry in the ways that it supports."""

    def __init__(
        self,
        transport: Transport,
        learned: LearnedCapabilities,
        sizes: BlobSizes,
        checkpoints: UploadCheckpointStore | None = None,
    ) -> None:
        self._registry = _Registry(transport, learned, sizes, checkpoints)

    async def write(
        self,
        repository: RepositoryName,
        descriptor: Descriptor,
        source: OpenBlob,
        *,
        mount_from: RepositoryName | None,
        force: bool,
    ) -> BlobOutcome:
        """See `ImageStore.write_blob`; a temporary fault restarts the upload, including its source."""
        upload = _BlobUpload(self._registry, repository, descriptor, source, force=force)
        digest_check, outcome = self._registry.digest_check, None
        counted = 0 if force else digest_check.expect(descriptor)
        try:
            outcome = await upload.run(mount_from if mount_from != repository else None)
        finally:
            if outcome is not BlobOutcome.UPLOADED:
                digest_check.withdraw(counted)
        return outcome

    async def close(self) -> None:
        """End the requests in the background."""
        await self._registry.background.close(seconds=_CLOSE_SECONDS)


class _BlobUpload:
    """The upload of one blob to a repository, over one or more sessions.

    Args:
        registry: the registry.
        repository: the target repository.
        descriptor: the blob.
        source: opens its content.
        force: upload the blob even if the registry reports that it exists.
    """

    def __init__(
        self,
        registry: _Registry,
        repository: RepositoryName,
        descriptor: Descriptor,
        source: OpenBlob,
        *,
        force: bool,
    ) -> None:
        self._registry = registry
        self._transport, self._learned, self._mounts = registry.transport, registry.learned, registry.mounts
        self._repository = repository
        self._descriptor = descriptor
        self._digest = descriptor.digest
        self._source = source
        self._force = force
        self._checkpoint = UploadCheckpoint(registry.checkpoints, repository, descriptor, registry.transport.is_own)
        # The content of a blob that the registry has lost before is verified here.
        self._digest_check = None if force else registry.digest_check

    async def run(self, mount_from: RepositoryName | None) -> BlobOutcome:
        """Find, mount or upload the blob."""
        with self._transport.retry.operation() as attempts:
            may_resume = True
            while True:
                begun = await self._open_session() if self._force else await self._begin(mount_from)
                if isinstance(begun, BlobOutcome):
                    return begun
                if may_resume:
                    begun = await self._resumable_session(begun)
                try:
                    await self._send(begun)
                    break
                except Unavailable as failure:
                    if failure.retry_after is None and await self._was_stored():
                        return BlobOutcome.UPLOADED
                    await attempts.pause(failure)
                except TagferryError:
                    if not begun.offset:
                        raise
                    # The content from an earlier process may be wrong; a session of our own shows whether it is.
                    may_resume = False
        if self._transport.high_latency:
            self._registry.background.start(self._probe_self_mount())
        else:
            await self._probe_self_mount()
        return BlobOutcome.UPLOADED

    async def _resumable_session(self, fresh: Session) -> Session:
        """Return the session of an earlier attempt if it holds a part of this blob; otherwise the fresh one."""
        location = await self._checkpoint.load()
        if location is None:
            return fresh
        resumable = await self._upload_to(fresh._replace(location=location)).resumable()
        if resumable is None:
            await self._checkpoint.clear()
            return fresh
        await self._upload_to(fresh).cancel()
        return resumable

    async def _begin(self, mount_from: RepositoryName | None) -> BlobOutcome | Session:
        """Find the blob in the repository, mount it, or open a session; a mount may fail in any way."""
        if mount_from is not None and self._mounts.may_succeed(mount_from):
            mounted = await self._mount(mount_from)
            if isinstance(mounted, BlobOutcome):
                return mounted
            # A failed mount from another repository does not show whether the blob exists here.
            if mounted is not None:
                if not await self._exists():
                    return mounted
                await self._upload_to(mounted).cancel()
                return BlobOutcome.PRESENT
        if await self._can_self_mount() and self._mounts.may_succeed(self._repository):
            mounted = await self._mount(self._repository)
            if isinstance(mounted, BlobOutcome):
                await self._learned.learn(mounts_from_itself=True)
                return BlobOutcome.PRESENT
            if mounted is not None:
                return mounted
            begun = await self._open_unless_exists()
            if not self._mounts.may_succeed(self._repository):
                await self._learned.learn(mounts_from_itself=False)
            return begun
        begun = await self._open_unless_exists()
        if begun is BlobOutcome.PRESENT and mount_from is None:
            await self._probe_self_mount()
        return begun

    async def _mount(self, mount_from: RepositoryName) -> BlobOutcome | Session | None:
        """Request a mount: return its success, the session opened instead, or None if there is neither."""
        call = _mount_call(self._repository, self._digest, mount_from)
        try:
            answer = await self._fetch_mount(call)
            if answer.status == 202:
                session = Session.opened(self._transport, call, answer)
                self._mounts.record_success(mount_from)
                return session
        except RateLimited:
            raise
        except Unavailable as failure:
            self._mounts.record_fault(mount_from)
            await self._learned.mark_unavailable(MOUNT, str(failure))
            return None
        except TagferryError as refusal:
            self._mounts.record_refusal(mount_from)
            await self._learned.mark_unavailable(MOUNT, str(refusal))
            return None
        if answer.status == 201 and answer.digest in (None, self._digest):
            self._mounts.record_success(mount_from)
            await self._learned.mark_available(MOUNT)
            return BlobOutcome.MOUNTED
        # Some registries return 404 if only this blob does not exist.
        if answer.status != 404 or mount_from == self._repository:
            self._mounts.record_refusal(mount_from)
        return None

    async def _fetch_mount(self, call: Call) -> Answer:
        """Send a request once, and again only if it was rate-limited, which says nothing about mounts."""
        with self._transport.retry.operation() as attempts:
            while True:
                try:
                    return await self._transport.fetch(call, once=True)
                except RateLimited as refusal:
                    await attempts.pause(refusal)

    async def _can_self_mount(self) -> bool:
        """Return whether a mount of the blob from the repository itself is conclusive."""
        known = (await self._learned.known()).mounts_from_itself
        return self._descriptor.size < _HEAD_FIRST_SIZE if known is None else known

    async def _probe_self_mount(self) -> None:
        """Mount an existing blob from its own repository, if it is unknown whether the registry supports that."""
        known = (await self._learned.known()).mounts_from_itself
        if known is not None or self._descriptor.size < _HEAD_FIRST_SIZE or self._registry.is_probing_self_mount:
            return
        self._registry.is_probing_self_mount = True
        try:
            call = _mount_call(self._repository, self._digest, self._repository)
            answer = await self._transport.fetch(call, once=True)
            await self._learned.learn(mounts_from_itself=answer.status == 201)
            if answer.status == 202:
                location = Session.opened(self._transport, call, answer).location
                task = f"cancel the upload of blob {self._digest} in {self._repository}"
                await cancel(self._transport, self._repository, location, task=task)
        except TagferryError:
            # The blob exists; the next one will show how the registry behaves.
            return
        finally:
            self._registry.is_probing_self_mount = False

    async def _open_unless_exists(self) -> BlobOutcome | Session:
        return BlobOutcome.PRESENT if await self._exists() else await self._open_session()

    async def _exists(self) -> bool:
        return await self._registry.sizes.exists(self._repository, self._digest, scope=push_scope(self._repository))

    async def _was_stored(self) -> bool:
        """Return whether the blob exists after an upload whose response may have been lost; asked once."""
        scope = push_scope(self._repository)
        try:
            size = await self._registry.sizes.size(self._repository, self._digest, scope=scope, once=True)
        except TagferryError:
            return False
        return size == self._descriptor.size

    async def _open_session(self) -> Session:
        call = open_call(self._repository)
        return Session.opened(self._transport, call, await self._transport.fetch(call))

    def _upload_to(self, session: Session, digest_check: DigestCheck | None = None) -> Upload:
        return Upload(self._transport, self._repository, self._descriptor, session, self._checkpoint, digest_check)

    async def _send(self, session: Session) -> None:
        size, limit = self._descriptor.size, (await self._learned.known()).whole_limit
        if limit is None or size < limit:
            if await self._send_whole(session):
                return
            session = await self._open_session()
            limit = (await self._learned.known()).whole_limit or size
            await self._learned.learn(whole_limit=min(size, limit))
        await self._send_parts(session)

    async def _send_whole(self, session: Session) -> bool:
        """Send the whole blob; if it was not verified here and is refused, send it once more and verify it."""
        upload = self._upload_to(session, self._digest_check)
        try:
            return await upload.send_whole(self._source, self._registry.stagger)
        except (Corrupt, Invalid):
            if not upload.is_unverified:
                raise
        verified = self._upload_to(await self._open_session())
        return await verified.send_whole(self._source, self._registry.stagger)

    async def _send_parts(self, session: Session) -> None:
        """Send the blob in parts; parts that are too large are halved, each time in a new session."""
        known = await self._learned.known()
        chunk_size = self._transport.endpoint.chunk_size
        shortest = session.shortest_chunk or known.shortest_part or 0
        if session.shortest_chunk:
            await self._learned.learn(shortest_part=shortest)
        step = max(min(chunk_size, known.part_limit or chunk_size), shortest)
        while True:
            try:
                await self._upload_to(session).send_parts(self._source, step)
                break
            except TooLarge:
                sent = min(step, self._descriptor.size)
                if sent <= (shortest or _MIN_PART):
                    raise
                step = max(sent // 2, shortest or _MIN_PART)
                session = await self._open_session()
        if step < max(chunk_size, shortest):
            await self._learned.learn(part_limit=step)


def _mount_call(repository: RepositoryName, digest: Digest, mount_from: RepositoryName) -> Call:
    others = (f"repository:{mount_from}:pull",) if mount_from != repository else ()
    return Call(
        method="POST",
        task=f"mount blob {digest} in {repository}",
        url=f"/v2/{repository}/blobs/uploads/?mount={quote(digest, safe='')}&from={quote(mount_from, safe='')}",
        scopes=(push_scope(repository), *others),
        accept=_REFUSED_MOUNT | {201, 202},
    )
