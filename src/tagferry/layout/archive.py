"""An OCI layout in a tar file (containers-transports(5), `oci-archive:`; `docker save` writes one, too).

An archive is read in place. What is added goes to a directory beside it, `ARCHIVE.partial`, which a later process
continues; `commit` then writes a new archive of both, and replaces the old one.
"""

import io
import os
import shutil
import tarfile
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from tagferry import bounds
from tagferry.errors import Invalid, Misused, Unsupported
from tagferry.layout.directory import DirectoryFiles
from tagferry.layout.files import INDEX, MARKER, MARKER_CONTENT, Draft, OpenFile, blob_name
from tagferry.layout.index import LayoutIndex
from tagferry.oci.model import Descriptor, Manifest

_COMPRESSED = ((b"\x1f\x8b", "gunzip"), (b"\x28\xb5\x2f\xfd", "unzstd"), (b"BZh", "bunzip2"), (b"\xfd7zXZ", "unxz"))
_SUFFIX = ".partial"


class ArchiveFiles:
    """The `LayoutFiles` of an archive, which `commit` writes.

    Args:
        path: the archive.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._folder = path.with_name(f"{path.name}{_SUFFIX}")
        self._added = DirectoryFiles(self._folder)
        self._members: dict[str, tuple[int, int]] | None = None
        self._archive = -1
        self._opening = threading.Lock()
        self._is_changed = self._folder.exists()

    def read(self, name: str, limit: int) -> bytes | None:
        added = self._added.read(name, limit)
        if added is not None:
            return added
        file = self._open_member(name)
        if file is None:
            return None
        try:
            return file.read(0, limit + 1)
        finally:
            file.close()

    def size(self, name: str) -> int | None:
        added = self._added.size(name)
        if added is not None:
            return added
        member = self._list().get(name)
        return member[1] if member else None

    def open(self, name: str) -> OpenFile | None:
        return self._added.open(name) or self._open_member(name)

    def draft(self, blob: Descriptor) -> Draft:
        return self._added.draft(blob)

    def add(self, blob: Descriptor, content: bytes) -> None:
        self._added.add(blob, content)

    def replace_index(self, change: Callable[[bytes | None], bytes | None]) -> None:
        def with_archive(current: bytes | None) -> bytes | None:
            return change(self.read(INDEX, bounds.TAG_LIST_BYTES) if current is None else current)

        self._added.replace_index(with_archive)
        self._is_changed = True

    def commit(self) -> None:
        """Write the archive, unless nothing was added; content that no image of the index needs is left out."""
        if not self._is_changed or self._added.size(INDEX) is None:
            return
        draft = self._path.with_name(f".{self._path.name}-{uuid.uuid4().hex}")
        try:
            with tarfile.open(draft, "x", format=tarfile.GNU_FORMAT) as archive:
                _add(archive, MARKER, MARKER_CONTENT)
                _add(archive, INDEX, self.read(INDEX, bounds.TAG_LIST_BYTES) or b"")
                for digest in sorted(_reachable(self)):
                    self._pack(archive, blob_name(digest))
            descriptor = os.open(draft, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
            draft.replace(self._path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        self._is_changed = False
        self._forget()
        shutil.rmtree(self._folder)

    def close(self) -> None:
        self._forget()

    def _pack(self, archive: tarfile.TarFile, name: str) -> None:
        file = self.open(name)
        if file is None:
            return
        try:
            member = tarfile.TarInfo(name)
            member.size = file.size
            archive.addfile(member, io.BufferedReader(_Reader(file)))
        finally:
            file.close()

    def _forget(self) -> None:
        with self._opening:
            if self._archive >= 0:
                os.close(self._archive)
            self._archive, self._members = -1, None

    def _open_member(self, name: str) -> OpenFile | None:
        member = self._list().get(name)
        return OpenFile(os.dup(self._archive), *member) if member else None

    def _list(self) -> dict[str, tuple[int, int]]:
        """Return the position and size of each file in the archive; the archive is read once."""
        with self._opening:
            if self._members is None:
                self._members = self._scan()
            return self._members

    def _scan(self) -> dict[str, tuple[int, int]]:
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return {}
        try:
            members = dict(_members(descriptor, self._path))
        except BaseException:
            os.close(descriptor)
            raise
        self._archive = descriptor
        if INDEX not in members and "manifest.json" in members:
            raise Unsupported(
                f"{self._path} is an archive in docker's older format, without an OCI layout; save the image again "
                "with docker 25 or newer, or convert it with: skopeo copy docker-archive:FILE oci-archive:FILE"
            )
        return members


def _members(descriptor: int, path: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    try:
        with os.fdopen(os.dup(descriptor), "rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                if member.isfile():
                    yield member.name.removeprefix("./"), (member.offset_data, member.size)
    except tarfile.TarError as error:
        start = os.pread(descriptor, 8, 0)
        program = next((program for magic, program in _COMPRESSED if start.startswith(magic)), None)
        rule = f"must not be compressed; decompress it with: {program}" if program else f"must be a tar file ({error})"
        raise Misused("archive", rule, str(path)) from None


def _reachable(files: ArchiveFiles) -> set[str]:
    """Return the digests of all content that the index needs."""
    index = LayoutIndex.parse(files.read(INDEX, bounds.TAG_LIST_BYTES))
    found: set[str] = set()
    waiting = [entry.descriptor for entry in index.entries]
    while waiting:
        one = waiting.pop()
        if one.digest in found:
            continue
        found.add(one.digest)
        content = files.read(blob_name(one.digest), bounds.MANIFEST_BYTES) if one.may_be_manifest else None
        if content is not None and (manifest := _manifest(content, one)) is not None:
            waiting += (*manifest.listed, *manifest.blobs)
    return found


def _manifest(content: bytes, descriptor: Descriptor) -> Manifest | None:
    try:
        return Manifest.parse(content, descriptor.media_type, digest=descriptor.digest)
    except (Invalid, Unsupported):
        return None


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


class _Reader(io.RawIOBase):
    """A file of the layout as Python's `tarfile` reads it."""

    def __init__(self, file: OpenFile) -> None:
        self._file = file
        self._position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        chunk = self._file.read(self._position, len(buffer))
        buffer[: len(chunk)] = chunk
        self._position += len(chunk)
        return len(chunk)
