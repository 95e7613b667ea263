"""Copies a blob into a repository with the fewest requests (distribution-spec 1.1, "Pushing blobs").

One POST requests a mount, from the repository itself unless a better source is known. A registry that holds the blob
returns 201; any other opens the upload session that is needed anyway. One PUT then sends the bytes.

Some registries open a session for every mount. So large blobs are looked up by HEAD first, until one of them exists and
a mount of it shows how this registry behaves. Registries that do not mount are always asked by HEAD.
"""

from dataclasses import replace
from urllib.parse import quote

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
_MIN_PART = 64 * 1024
"""Size in bytes below which a part that is too large is not halved again, unless the registry's minimum is lower."""
_REFUSED_MOUNT = frozenset(range(400, 500)) - {401, 403, 408, 429}


class Uploader:
    """Writes blobs to one registry in the ways that it supports."""

    def __init__(
        self,
        transport: Transport,
        learned: LearnedCapabilities,
        sizes: BlobSizes,
        checkpoints: UploadCheckpointStore | None = None,
    ) -> None:
        self._transport = transport
        self._learned = learned
        self._sizes = sizes
        self._checkpoints = checkpoints
        self._stagger = UploadStagger()
        self._digest_check = DigestCheck(transport, learned)
        self._mounts = MountHistory()
        self._is_probing_self_mount = False

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
        if mount_from == repository:
            mount_from = None
        checkpoint = UploadCheckpoint(self._checkpoints, repository, descriptor, self._transport.is_own)
        # The content of a blob that the registry has lost before is verified here.
        digest_check = None if force else self._digest_check
        with self._transport.retry.operation() as attempts:
            may_resume = True
            while True:
                begun = (
                    await self._open_session(repository)
                    if force
                    else await self._begin(repository, descriptor, mount_from, checkpoint)
                )
                if isinstance(begun, BlobOutcome):
                    return begun
                if may_resume:
                    begun = await self._resumable_session(repository, descriptor, checkpoint, begun)
                try:
                    await self._send(repository, descriptor, source, begun, checkpoint, digest_check)
                    break
                except Unavailable as failure:
                    if failure.retry_after is None and await self._was_stored(repository, descriptor):
                        return BlobOutcome.UPLOADED
                    await attempts.pause(failure)
                except TagferryError:
                    if not begun.offset:
                        raise
                    # The content from an earlier process may be wrong; a session of our own shows whether it is.
                    may_resume = False
        await self._probe_self_mount(repository, descriptor)
        return BlobOutcome.UPLOADED

    async def _resumable_session(
        self, repository: RepositoryName, descriptor: Descriptor, checkpoint: UploadCheckpoint, fresh: Session
    ) -> Session:
        """Return the session of an earlier attempt if it holds a part of this blob; otherwise the fresh one."""
        location = await checkpoint.load()
        if location is None:
            return fresh
        left = replace(fresh, location=location)
        resumable = await Upload(self._transport, repository, descriptor, left, checkpoint).resumable()
        if resumable is None:
            await checkpoint.clear()
            return fresh
        await Upload(self._transport, repository, descriptor, fresh, checkpoint).cancel()
        return resumable

    async def _begin(
        self,
        repository: RepositoryName,
        descriptor: Descriptor,
        mount_from: RepositoryName | None,
        checkpoint: UploadCheckpoint,
    ) -> BlobOutcome | Session:
        """Find the blob in the repository, mount it, or open a session; a mount may fail in any way."""
        digest = descriptor.digest
        if mount_from is not None and self._mounts.may_succeed(mount_from):
            mounted = await self._mount(repository, digest, mount_from)
            if isinstance(mounted, BlobOutcome):
                return mounted
            # A failed mount from another repository does not show whether the blob exists here.
            if mounted is not None:
                if not await self._exists(repository, digest):
                    return mounted
                await Upload(self._transport, repository, descriptor, mounted, checkpoint).cancel()
                return BlobOutcome.PRESENT
        if await self._can_self_mount(descriptor) and self._mounts.may_succeed(repository):
            mounted = await self._mount(repository, digest, repository)
            if isinstance(mounted, BlobOutcome):
                await self._learned.learn(mounts_from_itself=True)
                return BlobOutcome.PRESENT
            if mounted is not None:
                return mounted
            begun = await self._open_unless_exists(repository, digest)
            if not self._mounts.may_succeed(repository):
                await self._learned.learn(mounts_from_itself=False)
            return begun
        begun = await self._open_unless_exists(repository, digest)
        if begun is BlobOutcome.PRESENT and mount_from is None:
            await self._probe_self_mount(repository, descriptor)
        return begun

    async def _mount(
        self, repository: RepositoryName, digest: Digest, origin: RepositoryName
    ) -> BlobOutcome | Session | None:
        """Request a mount: return its success, the session opened instead, or None if there is neither."""
        call = _mount_call(repository, digest, origin)
        try:
            answer = await self._fetch_mount(call)
            if answer.status == 202:
                session = Session.opened(self._transport, call, answer)
                self._mounts.record_success(origin)
                return session
        except RateLimited:
            raise
        except Unavailable as failure:
            self._mounts.record_fault(origin)
            await self._learned.mark_unavailable(MOUNT, str(failure))
            return None
        except TagferryError as refusal:
            self._mounts.record_refusal(origin)
            await self._learned.mark_unavailable(MOUNT, str(refusal))
            return None
        if answer.status == 201 and answer.digest in (None, digest):
            self._mounts.record_success(origin)
            await self._learned.mark_available(MOUNT)
            return BlobOutcome.MOUNTED
        # Some registries return 404 if only this blob does not exist.
        if answer.status != 404 or origin == repository:
            self._mounts.record_refusal(origin)
        return None

    async def _fetch_mount(self, call: Call) -> Answer:
        """Send a request once, and again only if it was rate-limited, which says nothing about mounts."""
        with self._transport.retry.operation() as attempts:
            while True:
                try:
                    return await self._transport.fetch(call, once=True)
                except RateLimited as refusal:
                    await attempts.pause(refusal)

    async def _can_self_mount(self, descriptor: Descriptor) -> bool:
        """Return whether a mount of the blob from the repository itself is conclusive."""
        known = (await self._learned.known()).mounts_from_itself
        return descriptor.size < _HEAD_FIRST_SIZE if known is None else known

    async def _probe_self_mount(self, repository: RepositoryName, descriptor: Descriptor) -> None:
        """Mount an existing blob from its own repository, if it is unknown whether the registry supports that."""
        digest = descriptor.digest
        known = (await self._learned.known()).mounts_from_itself
        if known is not None or descriptor.size < _HEAD_FIRST_SIZE or self._is_probing_self_mount:
            return
        self._is_probing_self_mount = True
        try:
            call = _mount_call(repository, digest, repository)
            answer = await self._transport.fetch(call, once=True)
            await self._learned.learn(mounts_from_itself=answer.status == 201)
            if answer.status == 202:
                location = Session.opened(self._transport, call, answer).location
                task = f"cancel the upload of blob {digest} in {repository}"
                await cancel(self._transport, repository, location, task=task)
        except TagferryError:
            # The blob exists; the next one will show how the registry behaves.
            return
        finally:
            self._is_probing_self_mount = False

    async def _open_unless_exists(self, repository: RepositoryName, digest: Digest) -> BlobOutcome | Session:
        if await self._exists(repository, digest):
            return BlobOutcome.PRESENT
        return await self._open_session(repository)

    async def _exists(self, repository: RepositoryName, digest: Digest) -> bool:
        return await self._sizes.exists(repository, digest, scope=push_scope(repository))

    async def _was_stored(self, repository: RepositoryName, descriptor: Descriptor) -> bool:
        """Return whether a blob exists after an upload whose response may have been lost; asked once."""
        try:
            size = await self._sizes.size(repository, descriptor.digest, scope=push_scope(repository), once=True)
        except TagferryError:
            return False
        return size == descriptor.size

    async def _open_session(self, repository: RepositoryName) -> Session:
        call = open_call(repository)
        return Session.opened(self._transport, call, await self._transport.fetch(call))

    async def _send(
        self,
        repository: RepositoryName,
        descriptor: Descriptor,
        source: OpenBlob,
        session: Session,
        checkpoint: UploadCheckpoint,
        digest_check: DigestCheck | None,
    ) -> None:
        limit = (await self._learned.known()).whole_limit
        if limit is None or descriptor.size < limit:
            if await self._send_whole(repository, descriptor, source, session, checkpoint, digest_check):
                return
            session = await self._open_session(repository)
            limit = (await self._learned.known()).whole_limit or descriptor.size
            await self._learned.learn(whole_limit=min(descriptor.size, limit))
        await self._send_parts(repository, descriptor, source, session, checkpoint)

    async def _send_whole(
        self,
        repository: RepositoryName,
        descriptor: Descriptor,
        source: OpenBlob,
        session: Session,
        checkpoint: UploadCheckpoint,
        digest_check: DigestCheck | None,
    ) -> bool:
        """Send the whole blob; if it was not verified here and is refused, send it once more and verify it."""
        upload = Upload(self._transport, repository, descriptor, session, checkpoint, digest_check)
        try:
            return await upload.send_whole(source, self._stagger)
        except (Corrupt, Invalid):
            if not upload.is_unverified:
                raise
        session = await self._open_session(repository)
        return await Upload(self._transport, repository, descriptor, session, checkpoint).send_whole(
            source, self._stagger
        )

    async def _send_parts(
        self,
        repository: RepositoryName,
        descriptor: Descriptor,
        source: OpenBlob,
        session: Session,
        checkpoint: UploadCheckpoint,
    ) -> None:
        """Send the blob in parts; parts that are too large are halved, each time in a new session."""
        known = await self._learned.known()
        chunk_size = self._transport.endpoint.chunk_size
        shortest = session.shortest_chunk or known.shortest_part or 0
        if session.shortest_chunk:
            await self._learned.learn(shortest_part=shortest)
        step = max(min(chunk_size, known.part_limit or chunk_size), shortest)
        while True:
            try:
                await Upload(self._transport, repository, descriptor, session, checkpoint).send_parts(source, step)
                break
            except TooLarge:
                sent = min(step, descriptor.size)
                if sent <= (shortest or _MIN_PART):
                    raise
                step = max(sent // 2, shortest or _MIN_PART)
                session = await self._open_session(repository)
        if step < max(chunk_size, shortest):
            await self._learned.learn(part_limit=step)


def _mount_call(repository: RepositoryName, digest: Digest, origin: RepositoryName) -> Call:
    others = (f"repository:{origin}:pull",) if origin != repository else ()
    return Call(
        method="POST",
        task=f"mount blob {digest} in {repository}",
        url=f"/v2/{repository}/blobs/uploads/?mount={quote(digest, safe='')}&from={quote(origin, safe='')}",
        scopes=(push_scope(repository), *others),
        accept=_REFUSED_MOUNT | {201, 202},
    )
