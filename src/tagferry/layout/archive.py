"""An OCI layout in a tar file (containers-transports(5), `oci-archive:`; `docker save` writes one, too).

An archive is read in place. What is added goes to a directory beside it, `ARCHIVE.partial`, which a later process
continues; `commit` then writes a new archive of both, and replaces the old one. An archive that is only read has no
such directory, and does not look at the one of a process that writes.

Archives of older versions of docker are read, but not written (`docker_archive`).
"""

import io
import os
import posixpath
import tarfile
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from tagferry import bounds
from tagferry.errors import Corrupt, Misused, StorageUnavailable
from tagferry.layout.additions import DRAFT, Additions
from tagferry.layout.content import NeededContent, needed_content
from tagferry.layout.directory import DirectoryFiles
from tagferry.layout.docker_archive import LIST, DockerArchive, Position
from tagferry.layout.files import INDEX, MARKER, MARKER_CONTENT, Draft, OpenFile, Stamp, blob_name, keep_access, sync
from tagferry.layout.index import LayoutIndex
from tagferry.oci.model import Descriptor
from tagferry.regular_file import open_regular

_COMPRESSED = ((b"\x1f\x8b", "gunzip"), (b"\x28\xb5\x2f\xfd", "unzstd"), (b"BZh", "bunzip2"), (b"\xfd7zXZ", "unxz"))
_SUFFIX = ".partial"
_NO_ARCHIVE = "none"
"""The stamp of an archive that does not exist."""


class ArchiveFiles:
    """The `LayoutFiles` of an archive, which `commit` writes.

    Args:
        path: the archive; a symbolic link is followed.
    """

    is_rewritten = True

    def __init__(self, path: Path) -> None:
        self._path = Path(os.path.realpath(path))
        self._folder = self._path.with_name(f"{self._path.name}{_SUFFIX}")
        self._added = DirectoryFiles(self._folder)
        self._additions: Additions | None = None
        self._joining = threading.Lock()
        self._may_write = False
        self._is_changed = False
        self._members: dict[str, Position] | None = None
        self._made: dict[str, bytes] = {}
        self._stamp = _NO_ARCHIVE
        self._archive = -1
        self._opening = threading.Lock()

    def allow_writes(self) -> None:
        """Add to the archive from now on, continuing what an earlier process has added to it."""
        self._may_write = True

    def read(self, name: str, limit: int) -> bytes | None:
        if self._join() and (added := self._added.read(name, limit)) is not None:
            return added
        return self._read_member(name, limit)

    def size(self, name: str) -> int | None:
        if self._join() and (added := self._added.size(name)) is not None:
            return added
        member = self._list().get(name)
        return len(self._made[name]) if name in self._made else member[1] if member else None

    def stamp(self, name: str) -> Stamp | None:
        if self._join() and (added := self._added.stamp(name)) is not None:
            return added
        member = self._list().get(name)
        if member is None:
            return None
        start, size = member
        return Stamp.of(os.fstat(self._archive))._replace(size=size, start=start)

    def open(self, name: str) -> OpenFile | None:
        return (self._added.open(name) if self._join() else None) or self._open_member(name)

    def draft(self, blob: Descriptor) -> Draft:
        self._join(create=True)
        return self._added.draft(blob)

    def add(self, blob: Descriptor, content: bytes) -> None:
        self._join(create=True)
        self._added.add(blob, content)

    def replace_index(self, change: Callable[[bytes | None], bytes | None]) -> None:
        def with_archive(current: bytes | None) -> bytes | None:
            return change(self._read_member(INDEX, bounds.TAG_LIST_BYTES) if current is None else current)

        self._join(create=True)
        self._added.replace_index(with_archive)
        self._is_changed = True

    def commit(self) -> None:
        """Write the archive, unless nothing was added; content that no image of the index needs is left out.

        Raises:
            StorageUnavailable: another process has replaced the archive.
            Corrupt: an image that was added lacks content.
        """
        if self._additions is None or not self._is_changed or self._added.size(INDEX) is None:
            return
        self._check_unchanged()
        index = self.read(INDEX, bounds.TAG_LIST_BYTES)
        content = self._needed(index)
        # What other programs left out of the archive stays out of it.
        lost = content.defective - self._needed(self._read_member(INDEX, bounds.TAG_LIST_BYTES)).defective
        if lost:
            raise Corrupt(f"{self._folder} lacks {min(lost)}; delete this directory and repeat the command")
        draft = self._folder / DRAFT
        try:
            with tarfile.open(draft, "w", format=tarfile.GNU_FORMAT) as archive:
                _add(archive, MARKER, MARKER_CONTENT)
                _add(archive, INDEX, index or b"")
                for digest in sorted(content.found):
                    self._pack(archive, blob_name(digest))
            with draft.open("r+b") as file:
                keep_access(file.fileno(), self._path)
                os.fsync(file.fileno())
            self._check_unchanged()
            draft.replace(self._path)
            sync(self._path.parent)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        self._forget()
        with self._joining:
            if self._additions is not None:
                self._additions.remove()
            self._additions, self._is_changed = None, False

    def close(self) -> None:
        with self._joining:
            if self._additions is not None:
                self._added.close()
                self._additions.close()
            self._additions = None
        self._forget()

    def _join(self, *, create: bool = False) -> bool:
        """Take the directory of additions, if the archive is to be written; return whether this process has it."""
        if not self._may_write:
            if create:
                raise RuntimeError("allow_writes must be called before anything is added")
            return False
        with self._joining:
            if self._additions is None and (create or self._folder.exists()):
                self._list()
                if self._made:
                    rule = "must not be an archive in docker's older format, which is only read; name another file"
                    raise Misused("TARGET", rule, str(self._path))
                additions = Additions.take(self._folder, self._path)
                try:
                    self._check_unchanged()
                    additions.extend(self._stamp)
                except BaseException:
                    additions.close()
                    raise
                self._additions = additions
                self._is_changed = self._added.size(INDEX) is not None
            return self._additions is not None

    def _check_unchanged(self) -> None:
        """Raise StorageUnavailable if the archive is no longer the one that was read."""
        try:
            current = _stamp(self._path.stat())
        except FileNotFoundError:
            current = _NO_ARCHIVE
        if current != self._stamp:
            raise StorageUnavailable(f"another process has replaced {self._path}; repeat the command")

    def _read_member(self, name: str, limit: int) -> bytes | None:
        file = self._open_member(name)
        if file is None:
            return None
        try:
            return file.read(0, limit + 1)
        finally:
            file.close()

    def _needed(self, index: bytes | None) -> NeededContent:
        return needed_content(self, (entry.descriptor for entry in LayoutIndex.parse(index).entries))

    def _pack(self, archive: tarfile.TarFile, name: str) -> None:
        file = self.open(name)
        if file is None:
            raise Corrupt(f"{self._folder} lacks {name}; delete this directory and repeat the command")
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
            self._archive, self._members, self._made = -1, None, {}

    def _open_member(self, name: str) -> OpenFile | None:
        member = self._list().get(name)
        if name in self._made:
            return _in_memory(self._made[name])
        return OpenFile(os.dup(self._archive), *member) if member else None

    def _list(self) -> dict[str, Position]:
        """Return the position and size of each file in the archive; the archive is read once."""
        with self._opening:
            if self._members is None:
                self._members = self._scan()
            return self._members

    def _scan(self) -> dict[str, Position]:
        try:
            descriptor = open_regular(self._path, follow_links=True)
        except FileNotFoundError:
            self._stamp = _NO_ARCHIVE
            return {}
        try:
            members, links = _members(descriptor, self._path)
            made: dict[str, bytes] = {}
            if INDEX not in members and LIST in members:
                members, made = DockerArchive(descriptor, str(self._path), members, links).layout()
        except BaseException:
            os.close(descriptor)
            raise
        self._archive, self._made, self._stamp = descriptor, made, _stamp(os.fstat(descriptor))
        return members


def _members(descriptor: int, path: Path) -> tuple[dict[str, Position], dict[str, str]]:
    """Return the files of an archive, and the targets of its links."""
    files: dict[str, Position] = {}
    links: dict[str, str] = {}
    try:
        with os.fdopen(os.dup(descriptor), "rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                if member.isfile():
                    files[name] = (member.offset_data, member.size)
                elif member.issym():
                    links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
                elif member.islnk():
                    links[name] = posixpath.normpath(member.linkname)
    except tarfile.TarError as error:
        start = os.pread(descriptor, 8, 0)
        program = next((program for magic, program in _COMPRESSED if start.startswith(magic)), None)
        rule = f"must not be compressed; decompress it with: {program}" if program else f"must be a tar file ({error})"
        raise Misused("archive", rule, str(path)) from None
    return files, links


def _in_memory(content: bytes) -> OpenFile:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        return OpenFile(os.dup(file.fileno()), 0, len(content))


def _stamp(status: os.stat_result) -> str:
    """Return a stamp that distinguishes an archive from one that replaced it."""
    return f"{status.st_ino} {status.st_size} {status.st_mtime_ns}"


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
