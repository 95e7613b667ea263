"""Brings a blob into a repository in the fewest requests (distribution-spec 1.1, "Pushing blobs").

One POST asks for a mount, from the repository itself where no better place is known: a registry that holds the blob
answers 201 at once, any other opens the upload session that is needed anyway. One PUT then sends the bytes.

Some registries open a session for every mount. So a blob that takes long to send is looked for by HEAD first, until one
of them is there and a mount of it has told which kind of registry this is; those that do not mount are always asked so.
"""

from dataclasses import replace
from urllib.parse import quote

from tagferry.errors import Corrupt, Invalid, TagferryError, TooLarge, Unavailable
from tagferry.names import Digest, RepositoryName
from tagferry.oci.images import BlobOutcome, OpenBlob
from tagferry.oci.model import Descriptor
from tagferry.remote.blobs.checkpoint import Memo, UploadKeeper
from tagferry.remote.blobs.digest_check import Trust
from tagferry.remote.blobs.mounts import MountOrigins
from tagferry.remote.blobs.session import Session, beginning, cancel
from tagferry.remote.blobs.size import BlobSizes
from tagferry.remote.blobs.stagger import Turns
from tagferry.remote.blobs.upload import Upload
from tagferry.remote.capabilities import MOUNT, Learned
from tagferry.remote.transport.requests import Call, Transport
from tagferry.remote.transport.response import Answer, RateLimited
from tagferry.remote.transport.scopes import pushing

_WORTH_A_LOOK = 4 * 1024 * 1024
"""Bytes of the smallest blob that is looked for where it is not known whether a mount would find it: a smaller one is
sent in about the time of the question."""
_SMALLEST_PART = 64 * 1024
"""Bytes. A part that is refused for its size is not cut into smaller ones, unless the registry allows for them."""
_REFUSED_MOUNT = frozenset(range(400, 500)) - {401, 403, 408, 429}


class Uploader:
    """Writes blobs to one registry, in the ways that it is known to take."""

    def __init__(
        self, transport: Transport, learned: Learned, sizes: BlobSizes, keeper: UploadKeeper | None = None
    ) -> None:
        self._transport = transport
        self._learned = learned
        self._sizes = sizes
        self._keeper = keeper
        self._turns = Turns()
        self._trust = Trust(transport, learned)
        self._origins = MountOrigins()
        self._is_trying_a_mount = False

    async def write(
        self,
        repository: RepositoryName,
        descriptor: Descriptor,
        source: OpenBlob,
        *,
        mount_from: RepositoryName | None,
        anew: bool,
    ) -> BlobOutcome:
        """See `ImageStore.write_blob`; temporary faults in the middle start the upload over, source and all."""
        if mount_from == repository:
            mount_from = None
        memo = Memo(self._keeper, repository, descriptor, self._transport.is_own)
        # A blob that the registry has lost before is worth to be seen.
        trust = None if anew else self._trust
        with self._transport.retry.operation() as attempts:
            may_resume = True
            while True:
                begun = (
                    await self._open_session(repository)
                    if anew
                    else await self._begin(repository, descriptor, mount_from, memo)
                )
                if isinstance(begun, BlobOutcome):
                    return begun
                if may_resume:
                    begun = await self._left_behind(repository, descriptor, memo, begun)
                try:
                    await self._send(repository, descriptor, source, begun, memo, trust)
                    break
                except Unavailable as failure:
                    if failure.retry_after is None and await self._was_stored(repository, descriptor):
                        return BlobOutcome.UPLOADED
                    await attempts.pause(failure)
                except TagferryError:
                    if not begun.offset:
                        raise
                    # What an earlier process sent may be what is wrong; a session that is all our own tells.
                    may_resume = False
        await self._try_a_mount(repository, descriptor)
        return BlobOutcome.UPLOADED

    async def _left_behind(
        self, repository: RepositoryName, descriptor: Descriptor, memo: Memo, fresh: Session
    ) -> Session:
        """The session that was left with a part of this blob, instead of a fresh one; else the fresh one."""
        location = await memo.recall()
        if location is None:
            return fresh
        left = replace(fresh, location=location)
        standing = await Upload(self._transport, repository, descriptor, left, memo).standing()
        if standing is None:
            await memo.forget()
            return fresh
        await Upload(self._transport, repository, descriptor, fresh, memo).cancel()
        return standing

    async def _begin(
        self, repository: RepositoryName, descriptor: Descriptor, mount_from: RepositoryName | None, memo: Memo
    ) -> BlobOutcome | Session:
        """Find the blob in the repository, have it mounted, or open a session; a mount may fail in any way."""
        digest = descriptor.digest
        if mount_from is not None and self._origins.is_worth_asking(mount_from):
            mounted = await self._mount(repository, digest, mount_from)
            if isinstance(mounted, BlobOutcome):
                return mounted
            # A failed mount from another repository does not show whether the blob is here.
            if mounted is not None:
                if not await self._is_there(repository, digest):
                    return mounted
                await Upload(self._transport, repository, descriptor, mounted, memo).cancel()
                return BlobOutcome.PRESENT
        if await self._is_found_by_mounts(descriptor) and self._origins.is_worth_asking(repository):
            mounted = await self._mount(repository, digest, repository)
            if isinstance(mounted, BlobOutcome):
                await self._learned.learn(mounts_from_itself=True)
                return BlobOutcome.PRESENT
            if mounted is not None:
                return mounted
            begun = await self._look_and_begin(repository, digest)
            if not self._origins.is_worth_asking(repository):
                await self._learned.learn(mounts_from_itself=False)
            return begun
        begun = await self._look_and_begin(repository, digest)
        if begun is BlobOutcome.PRESENT and mount_from is None:
            await self._try_a_mount(repository, descriptor)
        return begun

    async def _mount(
        self, repository: RepositoryName, digest: Digest, origin: RepositoryName
    ) -> BlobOutcome | Session | None:
        """Ask for a mount: it is done, or a session is opened instead, or None where the registry does neither."""
        call = _mounting(repository, digest, origin)
        try:
            answer = await self._unless_limited(call)
            if answer.status == 202:
                session = Session.opened(self._transport, call, answer)
                self._origins.note_success(origin)
                return session
        except RateLimited:
            raise
        except Unavailable as failure:
            self._origins.note_fault(origin)
            await self._learned.note_unavailable(MOUNT, str(failure))
            return None
        except TagferryError as refusal:
            self._origins.note_refusal(origin)
            await self._learned.note_unavailable(MOUNT, str(refusal))
            return None
        if answer.status == 201 and answer.digest in (None, digest):
            self._origins.note_success(origin)
            await self._learned.note_available(MOUNT)
            return BlobOutcome.MOUNTED
        # Some registries answer 404 where just this blob is not there.
        if answer.status != 404 or origin == repository:
            self._origins.note_refusal(origin)
        return None

    async def _unless_limited(self, call: Call) -> Answer:
        """Send a request once, and again only where it was refused unseen, which says nothing about mounts."""
        with self._transport.retry.operation() as attempts:
            while True:
                try:
                    return await self._transport.fetch(call, once=True)
                except RateLimited as refusal:
                    await attempts.pause(refusal)

    async def _is_found_by_mounts(self, descriptor: Descriptor) -> bool:
        """Whether a mount of it from the repository itself is to be relied on."""
        known = (await self._learned.known()).mounts_from_itself
        return descriptor.size < _WORTH_A_LOOK if known is None else known

    async def _try_a_mount(self, repository: RepositoryName, descriptor: Descriptor) -> None:
        """Find out by a blob that is there what a mount from the repository itself tells, where that is not known."""
        digest = descriptor.digest
        known = (await self._learned.known()).mounts_from_itself
        if known is not None or descriptor.size < _WORTH_A_LOOK or self._is_trying_a_mount:
            return
        self._is_trying_a_mount = True
        try:
            call = _mounting(repository, digest, repository)
            answer = await self._transport.fetch(call, once=True)
            await self._learned.learn(mounts_from_itself=answer.status == 201)
            if answer.status == 202:
                location = Session.opened(self._transport, call, answer).location
                task = f"cancel the upload of blob {digest} in {repository}"
                await cancel(self._transport, repository, location, task=task)
        except TagferryError:
            # The blob is there; what else it could have taught is left to the next one.
            return
        finally:
            self._is_trying_a_mount = False

    async def _look_and_begin(self, repository: RepositoryName, digest: Digest) -> BlobOutcome | Session:
        if await self._is_there(repository, digest):
            return BlobOutcome.PRESENT
        return await self._open_session(repository)

    async def _is_there(self, repository: RepositoryName, digest: Digest) -> bool:
        return await self._sizes.exists(repository, digest, scope=pushing(repository))

    async def _was_stored(self, repository: RepositoryName, descriptor: Descriptor) -> bool:
        """Return whether a blob exists after an upload whose answer may have been lost; asked once."""
        try:
            size = await self._sizes.size(repository, descriptor.digest, scope=pushing(repository), once=True)
        except TagferryError:
            return False
        return size == descriptor.size

    async def _open_session(self, repository: RepositoryName) -> Session:
        call = beginning(repository)
        return Session.opened(self._transport, call, await self._transport.fetch(call))

    async def _send(
        self,
        repository: RepositoryName,
        descriptor: Descriptor,
        source: OpenBlob,
        session: Session,
        memo: Memo,
        trust: Trust | None,
    ) -> None:
        limit = (await self._learned.known()).whole_limit
        if limit is None or descriptor.size < limit:
            if await self._sent_in_one_piece(repository, descriptor, source, session, memo, trust):
                return
            session = await self._open_session(repository)
            limit = (await self._learned.known()).whole_limit or descriptor.size
            await self._learned.learn(whole_limit=min(descriptor.size, limit))
        await self._send_in_parts(repository, descriptor, source, session, memo)

    async def _sent_in_one_piece(
        self,
        repository: RepositoryName,
        descriptor: Descriptor,
        source: OpenBlob,
        session: Session,
        memo: Memo,
        trust: Trust | None,
    ) -> bool:
        """Send the blob at once; what was not verified on the way and is refused is sent once more, and verified."""
        upload = Upload(self._transport, repository, descriptor, session, memo, trust)
        try:
            return await upload.in_one_piece(source, self._turns)
        except (Corrupt, Invalid):
            if not upload.is_unseen:
                raise
        session = await self._open_session(repository)
        return await Upload(self._transport, repository, descriptor, session, memo).in_one_piece(source, self._turns)

    async def _send_in_parts(
        self, repository: RepositoryName, descriptor: Descriptor, source: OpenBlob, session: Session, memo: Memo
    ) -> None:
        """Send part after part; parts that are too large for the registry are halved, each time in a new session."""
        known = await self._learned.known()
        chunk_size = self._transport.endpoint.chunk_size
        shortest = session.shortest_chunk or known.shortest_part or 0
        if session.shortest_chunk:
            await self._learned.learn(shortest_part=shortest)
        step = max(min(chunk_size, known.part_limit or chunk_size), shortest)
        while True:
            try:
                await Upload(self._transport, repository, descriptor, session, memo).in_parts(source, step)
                break
            except TooLarge:
                sent = min(step, descriptor.size)
                if sent <= (shortest or _SMALLEST_PART):
                    raise
                step = max(sent // 2, shortest or _SMALLEST_PART)
                session = await self._open_session(repository)
        if step < max(chunk_size, shortest):
            await self._learned.learn(part_limit=step)


def _mounting(repository: RepositoryName, digest: Digest, origin: RepositoryName) -> Call:
    others = (f"repository:{origin}:pull",) if origin != repository else ()
    return Call(
        method="POST",
        task=f"take blob {digest} into {repository}",
        url=f"/v2/{repository}/blobs/uploads/?mount={quote(digest, safe='')}&from={quote(origin, safe='')}",
        scopes=(pushing(repository), *others),
        accept=_REFUSED_MOUNT | {201, 202},
    )
