"""An embedded registry compared with a model, with crashes, damaged files, a full disk and garbage collection.

Content matches its digest, or does not exist. What was acknowledged stays, unless it was damaged or deleted, and a push
repairs damaged content. `FAULTS_EXAMPLES=1000` runs more examples than the tests do.
"""

import asyncio
import errno
import os
import shutil
import tempfile
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from unittest import mock

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tagferry.errors import Corrupt, NotFound, TagferryError
from tagferry.names import Digest, RepositoryName, Tag
from tagferry.oci.model import Descriptor
from tagferry.registry.storage.store import DiskStore
from tagferry.registry.storage.threads import DiskFull
from tests.support.images import SampleImage, artifact, image, index, push, read

Result = TypeVar("Result")

_REPOSITORIES = (RepositoryName("team/app"), RepositoryName("team/web"))
_TAGS = (Tag("v1"), Tag("v2"))
_SHARED = b"a layer that several images have"
_FIRST = image(_SHARED, seed="first")
_SAMPLES: tuple[SampleImage, ...] = (
    _FIRST,
    image(_SHARED, b"its own", seed="second"),
    index(image(_SHARED, seed="amd"), image(b"arm", seed="arm", platform=("linux", "arm64"))),
    artifact(subject=_FIRST.manifest),
)

repositories = st.sampled_from(_REPOSITORIES)
tags = st.sampled_from(_TAGS)
samples = st.sampled_from(_SAMPLES)
Held = tuple[RepositoryName, Digest]


class RegistryMachine(RuleBasedStateMachine):
    """The model: the content that must exist, and the content that may exist, complete or not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="tagferry-machine-"))
        self.runner = asyncio.Runner()
        self.store = DiskStore(self.folder)
        self.sure: set[Held] = set()
        self.perhaps: set[Held] = set()
        self.tags: dict[tuple[RepositoryName, Tag], set[Digest | None]] = {}

    def teardown(self) -> None:
        self.run(self.store.close())
        self.runner.close()
        shutil.rmtree(self.folder)

    def run(self, work: Awaitable[Result]) -> Result:
        async def wait() -> Result:
            return await work

        return self.runner.run(wait())

    @rule(repository=repositories, sample=samples, tag=tags)
    def push(self, repository: RepositoryName, sample: SampleImage, tag: Tag) -> None:
        self.run(push(self.store, repository, sample, tag))
        self._is_held(repository, sample)
        self.tags[repository, tag] = {sample.digest}

    @rule(repository=repositories, sample=samples, tag=tags, at=st.integers(1, 12))
    def push_to_a_full_disk(self, repository: RepositoryName, sample: SampleImage, tag: Tag, at: int) -> None:
        content = {*sample.all_blobs, *(manifest.digest for manifest in sample.all_manifests)}
        self.perhaps |= {(repository, digest) for digest in content}
        before = self.tags.get((repository, tag), {None})
        self.tags[repository, tag] = before | {sample.digest}
        with _full_disk(at):
            try:
                self.run(push(self.store, repository, sample, tag))
            except DiskFull:
                return
        self._is_held(repository, sample)
        self.tags[repository, tag] = {sample.digest}

    @rule(repository=repositories, source=repositories, sample=samples)
    def mount(self, repository: RepositoryName, source: RepositoryName, sample: SampleImage) -> None:
        for digest in sample.all_blobs:
            is_sure = (source, digest) in self.sure
            try:
                mounted = self.run(self.store.mount_blob(repository, digest, source))
            except TagferryError:
                mounted = False
            assert mounted or not is_sure
            if mounted:
                self.perhaps.add((repository, digest))
                if is_sure:
                    self.sure.add((repository, digest))

    @rule(repository=repositories, tag=tags)
    def delete_tag(self, repository: RepositoryName, tag: Tag) -> None:
        try:
            self.run(self.store.delete_manifest(repository, tag))
        except NotFound:
            assert None in self.tags.get((repository, tag), {None})
        self.tags[repository, tag] = {None}

    @rule(repository=repositories, sample=samples)
    def delete_manifest(self, repository: RepositoryName, sample: SampleImage) -> None:
        try:
            self.run(self.store.delete_manifest(repository, sample.digest))
        except NotFound:
            assert (repository, sample.digest) not in self.sure
            return
        self.sure.discard((repository, sample.digest))
        self.perhaps.discard((repository, sample.digest))
        for place, allowed in self.tags.items():
            if place[0] == repository and sample.digest in allowed:
                self.tags[place] = allowed - {sample.digest} | {None}

    @rule(repository=repositories)
    def delete_repository(self, repository: RepositoryName) -> None:
        try:
            self.run(self.store.delete_repository(repository))
        except NotFound:
            assert not any(held[0] == repository for held in self.sure)
        self.sure = {held for held in self.sure if held[0] != repository}
        self.perhaps = {held for held in self.perhaps if held[0] != repository}
        for place in self.tags:
            if place[0] == repository:
                self.tags[place] = {None}

    @rule(data=st.data(), cut=st.booleans())
    def damage_a_file(self, data: st.DataObject, cut: bool) -> None:
        files = sorted(path for path in self.folder.rglob("*") if path.is_file() and _is_content(path))
        if not files:
            return
        path = data.draw(st.sampled_from(files))
        content = path.read_bytes()
        if not content:
            return
        place = data.draw(st.integers(0, len(content) - 1))
        changed = content[:place] if cut else content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
        with path.open("r+b") as file:
            file.write(changed)
            file.truncate()
        # All links to the file share the damage.
        self.sure = {held for held in self.sure if held[1].encoded != path.name}

    @rule()
    def crash(self) -> None:
        self.run(self.store.close())
        self.store = DiskStore(self.folder)

    @rule()
    def collect_garbage(self) -> None:
        self.run(self.store.garbage.collect(grace_seconds=0))
        needed = {
            (repository, digest)
            for repository in _REPOSITORIES
            for sample in _SAMPLES
            for manifest in sample.all_manifests
            if (repository, manifest.digest) in self.sure
            for digest in (manifest.digest, *(one.digest for one in manifest.blobs))
        }
        self.sure &= needed

    @invariant()
    def what_is_read_is_right(self) -> None:
        known = {digest: content for sample in _SAMPLES for digest, content in sample.all_blobs.items()}
        manifests = {one.digest: one.raw for sample in _SAMPLES for one in sample.all_manifests}
        for repository in _REPOSITORIES:
            for digest, content in (known | manifests).items():
                found = self.run(self._read(repository, digest, is_blob=digest in known))
                assert found in (None, content), f"{repository}@{digest} has wrong bytes"
                assert found is not None or (repository, digest) not in self.sure, f"{repository}@{digest} was lost"
                assert found is None or (repository, digest) in self.sure | self.perhaps
            for tag in _TAGS:
                self._check_tag(repository, tag)

    async def _read(self, repository: RepositoryName, digest: Digest, *, is_blob: bool) -> bytes | None:
        try:
            if not is_blob:
                return (await self.store.get_manifest(repository, digest)).raw
            size = await self.store.stat_blob(repository, digest)
            if size is None:
                return None
            descriptor = Descriptor(media_type="application/octet-stream", digest=digest, size=size)
            return await read(self.store, repository, descriptor)
        except (NotFound, Corrupt):
            return None

    def _check_tag(self, repository: RepositoryName, tag: Tag) -> None:
        allowed = self.tags.get((repository, tag), {None})
        try:
            found = self.run(self.store.get_manifest(repository, tag)).digest
        except (NotFound, Corrupt):
            assert None in allowed or any((repository, one) not in self.sure for one in allowed if one)
            return
        assert found in allowed
        assert (repository, found) in self.sure | self.perhaps

    def _is_held(self, repository: RepositoryName, sample: SampleImage) -> None:
        """It was acknowledged."""
        content = {*sample.all_blobs, *(manifest.digest for manifest in sample.all_manifests)}
        self.sure |= {(repository, digest) for digest in content}
        self.perhaps |= {(repository, digest) for digest in content}


def _is_content(path: Path) -> bool:
    return "_manifests" in path.parts or "_blobs" in path.parts


@contextmanager
def _full_disk(at: int) -> Iterator[None]:
    """Make the syncs from this one on fail as on a full disk."""
    real, calls = os.fsync, 0

    def fsync(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls >= at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    with mock.patch("os.fsync", fsync):
        yield


TestRegistryMachine = RegistryMachine.TestCase
TestRegistryMachine.settings = settings(
    max_examples=int(os.environ.get("FAULTS_EXAMPLES", "50")),
    stateful_step_count=25,
    deadline=None,
    # To explain a failure, each line is traced, which takes longer than all else.
    phases=[phase for phase in Phase if phase is not Phase.explain],
    suppress_health_check=[*HealthCheck],
)
