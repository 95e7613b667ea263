"""The content of an embedded registry's root directory, read back and hashed, with its flaws."""

import asyncio
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tagferry.errors import TagferryError
from tagferry.names import Digest, RepositoryName
from tagferry.oci.model import Descriptor
from tagferry.registry.storage.store import DiskStore

Key = tuple[str, str]


@dataclass
class Snapshot:
    """The content of one or more stores.

    Attributes:
        tags: the digest of each tag, by repository and name.
        content: every blob and manifest, by repository and digest.
        flaws: wrong bytes, and tags without all that is below them.
    """

    tags: dict[Key, str] = field(default_factory=dict)
    content: set[Key] = field(default_factory=set)
    flaws: list[str] = field(default_factory=list)

    def violations(self, before: "Snapshot", after: "Snapshot") -> Iterator[str]:
        """Return what is impossible during the change from one to the other."""
        yield from self.flaws
        for tag in before.tags.keys() | after.tags.keys() | self.tags.keys():
            allowed = {before.tags.get(tag), after.tags.get(tag)}
            if self.tags.get(tag) not in allowed:
                yield f"{':'.join(tag)} is {self.tags.get(tag)}, not one of {allowed}"
        for lost in (before.content & after.content) - self.content:
            yield f"{'@'.join(lost)} was lost"
        for strange in self.content - before.content - after.content:
            yield f"{'@'.join(strange)} exists, and was never stored"

    def differences(self, expected: "Snapshot") -> Iterator[str]:
        """Return the differences from what is expected."""
        yield from self.violations(expected, expected)


async def read(*roots: Path) -> Snapshot:
    """Read everything that is served from these root directories."""
    found = Snapshot()
    for root in roots:
        store = DiskStore(root)
        try:
            async for repository in store.list_repositories():
                await _read_repository(store, root.name, repository, found)
        finally:
            await store.close()
    return found


def read_now(*roots: Path) -> Snapshot:
    """Read everything, outside of an event loop."""
    return asyncio.run(read(*roots))


async def _read_repository(store: DiskStore, place: str, repository: RepositoryName, found: Snapshot) -> None:
    name = f"{place}/{repository}"
    for digest in await asyncio.to_thread(lambda: [*store._layout.digests(repository, "_blobs")]):
        try:
            size = await store.stat_blob(repository, digest)
            hashed = hashlib.new(digest.algorithm)
            descriptor = Descriptor(media_type="application/octet-stream", digest=digest, size=size or 0)
            async with store.read_blob(repository, descriptor) as chunks:
                async for chunk in chunks:
                    hashed.update(chunk)
        except TagferryError as error:
            found.flaws.append(f"{name}@{digest}: {error}")
            continue
        found.content.add((name, digest))
        if f"{digest.algorithm}:{hashed.hexdigest()}" != digest:
            found.flaws.append(f"{name}@{digest} is served with other bytes")
    for digest in await asyncio.to_thread(lambda: [*store._layout.digests(repository, "_manifests")]):
        try:
            manifest = await store.get_manifest(repository, digest)
        except TagferryError as error:
            found.flaws.append(f"{name}@{digest}: {error}")
            continue
        found.content.add((name, digest))
        if Digest.of(manifest.raw, digest.algorithm) != digest:
            found.flaws.append(f"{name}@{digest} is served with other bytes")
    for record in await store.describe_tags(repository):
        found.tags[name, record.tag] = record.digest
        described = await store.head_manifest(repository, record.tag)
        if described is None or described.digest != record.digest:
            found.flaws.append(f"{name}:{record.tag} points to {record.digest}, which is answered with {described}")
        else:
            found.flaws += [
                f"{name}:{record.tag} lacks {one}" for one in await _missing(store, repository, record.digest)
            ]


async def _missing(store: DiskStore, repository: RepositoryName, digest: Digest) -> list[Digest]:
    """Return the missing references of a manifest, at any depth."""
    if await store.head_manifest(repository, digest) is None:
        return [digest]
    manifest = await store.get_manifest(repository, digest)
    below = [one for child in manifest.children for one in await _missing(store, repository, child.digest)]
    blobs = [blob.digest for blob in manifest.blobs if await store.stat_blob(repository, blob.digest) is None]
    return below + blobs


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file's links and bytes, by its path."""
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            status = path.stat()
            found[path.relative_to(folder).as_posix()] = (status.st_nlink, status.st_size)
    return found


def age(folder: Path, seconds: float) -> None:
    """Make everything in a folder older."""
    aged = set()
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            status = path.stat()
            if status.st_ino not in aged:
                aged.add(status.st_ino)
                os.utime(path, (status.st_atime - seconds, status.st_mtime - seconds))


def copy_tree(source: Path, target: Path) -> None:
    """Copy a folder, with the hard links within it."""
    copies: dict[int, Path] = {}
    for place, _, names in os.walk(source):
        here = target / Path(place).relative_to(source)
        here.mkdir(parents=True, exist_ok=True)
        for name in names:
            path = Path(place, name)
            status = path.stat()
            known = copies.get(status.st_ino)
            if known is not None:
                (here / name).hardlink_to(known)
                continue
            (here / name).write_bytes(path.read_bytes())
            (here / name).chmod(status.st_mode)
            os.utime(here / name, ns=(status.st_atime_ns, status.st_mtime_ns))
            copies[status.st_ino] = here / name
