"""The operations of an embedded registry that change its disk, each on the same content."""

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from tagferry.copy.engine import CopyEngine
from tagferry.copy.route import Route
from tagferry.errors import NotFound
from tagferry.names import Digest, RepositoryName, Tag
from tagferry.registry.storage.store import DiskStore
from tests.support.images import artifact, blob, image, index, layer, opening, push

APP, OTHER, NEW = RepositoryName("team/app"), RepositoryName("team/other"), RepositoryName("team/new")
V1, V2, LATEST, MULTI = Tag("v1"), Tag("v2"), Tag("latest"), Tag("multi")

_rng = random.Random(1)
_FIRST, _SECOND = image(_rng.randbytes(3000), seed="first"), image(_rng.randbytes(3000), seed="second")
_ELSEWHERE = image(_rng.randbytes(3000), seed="elsewhere")
_INDEX = index()
_SIGNATURE = artifact(subject=_FIRST.manifest)
_LATER_SIGNATURE = artifact(subject=_FIRST.manifest, payload=b"signed again")
_MANY_SIGNED = image(_rng.randbytes(3000), seed="copied")
_CONTENT = _rng.randbytes(5000)
_LARGE = _rng.randbytes(1_300_000)
_ORPHAN = layer("needed by no manifest")


@dataclass(frozen=True)
class World:
    """Two stores on one disk."""

    here: DiskStore
    there: DiskStore

    @classmethod
    def at(cls, folder: Path) -> "World":
        """Open both stores."""
        here, there = roots(folder)
        return cls(DiskStore(here, name="here"), DiskStore(there, name="there"))

    async def close(self) -> None:
        """Stop their threads."""
        await self.here.close()
        await self.there.close()


@dataclass(frozen=True)
class Operation:
    """One operation.

    Attributes:
        run: runs it.
        leaves_rest: whether it continues after a failure, and leaves the rest to its next run.
    """

    name: str
    run: Callable[[World], Awaitable[object]]
    leaves_rest: bool = False

    async def repeat(self, world: World) -> None:
        """Run it again after it may have happened in part; deleted content may be missing already."""
        try:
            await self.run(world)
        except NotFound:
            if not self.name.startswith("deletion"):
                raise


def roots(folder: Path) -> tuple[Path, Path]:
    """The root directories of both stores."""
    return folder / "here", folder / "there"


async def prepare(folder: Path) -> None:
    """Create the content with which every operation begins."""
    world = World.at(folder)
    here = world.here
    for sample, tag in ((_FIRST, V1), (_FIRST, LATEST), (_SECOND, V2), (_INDEX, MULTI)):
        await push(here, APP, sample, tag)
    await push(here, APP, _SIGNATURE)
    await push(here, OTHER, _ELSEWHERE, V1)
    await push(here, APP, _MANY_SIGNED, Tag("copied"))
    await push(here, APP, artifact(subject=_MANY_SIGNED.manifest, payload=b"of the copied one"))
    # The blobs of an image, which are pushed before its manifest.
    for digest, content in (*_third().blobs.items(), *_LATER_SIGNATURE.blobs.items()):
        await here.write_blob(APP, blob(content, digest.algorithm), opening(content))
    await here.write_blob(OTHER, blob(_ORPHAN), opening(_ORPHAN))
    await push(world.there, OTHER, _ELSEWHERE, V1)
    await world.close()


def _third():
    return image(b"third layer", seed="third")


async def _upload(world: World) -> None:
    uploads, half = world.here.uploads, len(_CONTENT) // 2
    identifier = await uploads.start(NEW)
    await uploads.append(NEW, identifier, _once(_CONTENT[:half]), offset=0)
    await uploads.finish(NEW, identifier, Digest.of(_CONTENT), _once(_CONTENT[half:]))


async def _cancelled_upload(world: World) -> None:
    identifier = await world.here.uploads.start(NEW)
    await world.here.uploads.append(NEW, identifier, _once(_CONTENT))
    await world.here.uploads.cancel(NEW, identifier)


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def _bring(world: World, content: bytes) -> None:
    await world.here.write_blob(NEW, blob(content), opening(content))


async def _mount(world: World) -> None:
    for digest in _ELSEWHERE.blobs:
        assert await world.here.mount_blob(NEW, digest, OTHER)


async def _synchronize(world: World) -> None:
    outcome = await CopyEngine().copy(
        Route(source=world.here, source_repository=APP, target=world.there, target_repository=NEW),
        Tag("copied"),
        override=False,
    )
    assert outcome.digest == _MANY_SIGNED.digest


OPERATIONS = (
    Operation("push of a blob in two parts", _upload),
    Operation("cancelled upload", _cancelled_upload),
    Operation("copy of a small blob", lambda world: _bring(world, _CONTENT)),
    Operation("copy of a large blob", lambda world: _bring(world, _LARGE)),
    Operation("mount", _mount),
    Operation("push of a manifest", lambda world: world.here.put_manifest(APP, _third().manifest)),
    Operation("push of a new tag", lambda world: world.here.put_manifest(APP, _third().manifest, Tag("v3"))),
    Operation("move of a tag", lambda world: world.here.put_manifest(APP, _SECOND.manifest, LATEST)),
    Operation("push of a referrer", lambda world: world.here.put_manifest(APP, _LATER_SIGNATURE.manifest)),
    Operation("deletion of a tag", lambda world: world.here.delete_manifest(APP, LATEST)),
    Operation("deletion of a manifest", lambda world: world.here.delete_manifest(APP, _FIRST.digest)),
    Operation("deletion of a referrer", lambda world: world.here.delete_manifest(APP, _SIGNATURE.digest)),
    Operation("deletion of a blob", lambda world: world.here.delete_blob(OTHER, Digest.of(_ORPHAN))),
    Operation("deletion of a repository", lambda world: world.here.delete_repository(APP)),
    Operation("garbage collection", lambda world: world.here.garbage.collect(60.0), leaves_rest=True),
    Operation("synchronization of a signed image", _synchronize),
)
"""Each waits only for a registry's own disk."""
