"""The layout of a registry's root directory.

```
blobs/<algorithm>/<2 hex>/<hex>          the pool that all repositories share
repositories/<name>/_blobs/<algorithm>/<hex>          a hard link into the pool: the repository holds the blob
                   /_manifests/<algorithm>/<hex>      the media type, a newline, the manifest's raw bytes
                   /_tags/<tag>                       the digest; its modification time is the tag's
                   /_referrers/<algorithm>/<hex>/<algorithm>-<hex>    by subject: the referrer's descriptor
                   /_uploads/<id>                     the content that an upload has received
                   /_uploads/<algorithm>-<hex>        the received part of a large blob that is being synchronized
temporary/                               unfinished files, deleted after a day
```

The parts of a repository's name cannot begin with an underscore, so there is no repository `a/_tags`. Entries with
other names, e.g. of an editor or a file system, are ignored and logged. A blob or manifest whose file has the sticky
bit is damaged, and counts as missing (`integrity`).
"""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tagferry.errors import InvalidName
from tagferry.events import SparseEvents
from tagferry.names import DIGEST_ALGORITHMS, Digest, RepositoryName, Tag
from tagferry.printable import printable
from tagferry.registry.storage.files import entries, file_names, unsorted_entries

_SHARD = re.compile(r"[0-9a-f]{2}")
_UPLOAD = re.compile(r"[0-9a-f]{32}")
_LOG_SECONDS = 3600.0

_log = SparseEvents(__name__, seconds=_LOG_SECONDS)


def log_unreadable(error: OSError) -> None:
    """Log that a directory cannot be read, unless it does not exist."""
    if not isinstance(error, FileNotFoundError):
        _log.warning("failed to read a directory", path=printable(str(error.filename)), error=error.strerror)


def raise_unreadable(error: OSError) -> None:
    """Raise the error of a directory that cannot be read, unless it does not exist."""
    if not isinstance(error, FileNotFoundError):
        raise error


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one registry."""

    root: Path

    @property
    def repositories(self) -> Path:
        """The directory of all repositories."""
        return self.root / "repositories"

    @property
    def pool(self) -> Path:
        """The directory of all blobs."""
        return self.root / "blobs"

    @property
    def temporary(self) -> Path:
        """The directory of unfinished files."""
        return Path(self.temporary_directory)

    @property
    def temporary_directory(self) -> str:
        """The same path as text."""
        return f"{self.root}/temporary"

    def pooled(self, digest: Digest) -> Path:
        """Return the path of a blob in the pool."""
        return self.pool / digest.algorithm / digest.encoded[:2] / digest.encoded

    def repository(self, repository: RepositoryName) -> Path:
        """Return the directory of a repository."""
        return self.repositories / repository

    def blob(self, repository: RepositoryName, digest: Digest) -> Path:
        """Return the path of a repository's link to a blob."""
        return Path(self.blob_file(repository, digest))

    def blob_file(self, repository: RepositoryName, digest: Digest) -> str:
        """Return the same path as text, which takes a tenth of the time."""
        return f"{self.root}/repositories/{repository}/_blobs/{digest.replace(':', '/')}"

    def manifest(self, repository: RepositoryName, digest: Digest) -> Path:
        """Return the path of a manifest."""
        return Path(self.manifest_file(repository, digest))

    def manifest_file(self, repository: RepositoryName, digest: Digest) -> str:
        """Return the same path as text."""
        return f"{self.root}/repositories/{repository}/_manifests/{digest.replace(':', '/')}"

    def manifest_directories(self, repository: RepositoryName) -> list[str]:
        """Return the directories of a repository's manifests as text; they need not exist."""
        return [f"{self.root}/repositories/{repository}/_manifests/{algorithm}" for algorithm in DIGEST_ALGORITHMS]

    def tags(self, repository: RepositoryName) -> Path:
        """Return the directory of a repository's tags."""
        return Path(self.tags_directory(repository))

    def tags_directory(self, repository: RepositoryName) -> str:
        """Return the same path as text."""
        return f"{self.root}/repositories/{repository}/_tags"

    def tag(self, repository: RepositoryName, tag: Tag) -> Path:
        """Return the path of a tag."""
        return Path(self.tag_file(repository, tag))

    def tag_file(self, repository: RepositoryName, tag: Tag) -> str:
        """Return the same path as text."""
        return f"{self.root}/repositories/{repository}/_tags/{tag}"

    def referrers(self, repository: RepositoryName, subject: Digest) -> Path:
        """Return the directory of the entries of a subject's referrers."""
        return Path(self.referrers_directory(repository, subject))

    def referrers_directory(self, repository: RepositoryName, subject: Digest) -> str:
        """Return the same path as text."""
        return f"{self.root}/repositories/{repository}/_referrers/{subject.replace(':', '/')}"

    def referrer(self, repository: RepositoryName, subject: Digest, digest: Digest) -> Path:
        """Return the path of a referrer's entry, which contains its descriptor."""
        return self.referrers(repository, subject) / f"{digest.algorithm}-{digest.encoded}"

    def upload(self, repository: RepositoryName, identifier: str) -> Path:
        """Return the path of an upload's content."""
        return self.repositories / repository / "_uploads" / identifier

    def incoming(self, repository: RepositoryName, digest: Digest) -> Path:
        """Return the path of a partly synchronized blob; no identifier of an upload has this form."""
        return self.upload(repository, f"{digest.algorithm}-{digest.encoded}")

    def digests(self, repository: RepositoryName, kind: str) -> Iterator[Digest]:
        """Yield the digests in a repository's `_blobs` or `_manifests`, in lexical order."""
        for algorithm in DIGEST_ALGORITHMS:
            yield from _digests_in(self.repository(repository) / kind / algorithm, algorithm)

    def content_files(self, repository: RepositoryName, kind: str) -> Iterator[Path]:
        """Yield the files of a repository's `_blobs` or `_manifests`."""
        for algorithm in DIGEST_ALGORITHMS:
            directory = self.repository(repository) / kind / algorithm
            for name in unsorted_entries(directory):
                if digest_of(algorithm, name):
                    yield directory / name

    def shards(self, algorithm: str) -> list[str]:
        """Return the pool's directories of an algorithm, in lexical order; each is named by two hexadecimal digits."""
        shards = []
        for name in entries(self.pool / algorithm):
            if _SHARD.fullmatch(name):
                shards.append(name)
            else:
                _log_foreign(self.pool / algorithm / name)
        return shards

    def pooled_in(self, algorithm: str, shard: str) -> Iterator[Digest]:
        """Yield the digests of the blobs in a directory of the pool, in lexical order."""
        for digest in _digests_in(self.pool / algorithm / shard, algorithm):
            if digest.encoded.startswith(shard):
                yield digest

    def uploads(self, repository: RepositoryName) -> list[Path]:
        """Return the files of a repository's uploads, and of large blobs that were partly synchronized."""
        directory = self.repository(repository) / "_uploads"
        return [directory / name for name in file_names(directory) if is_upload(name) or digest_in(name)]

    def has_tags(self, repository: RepositoryName) -> bool:
        """Return whether a repository has an entry with a tag's name, damaged or not."""
        return any(map(tag_of, unsorted_entries(self.tags(repository))))

    def holds_images(self, repository: RepositoryName) -> bool:
        """Return whether a repository exists, i.e. has a manifest, a blob or a tag, damaged or not."""
        return self.witness(repository) is not None

    def witness(self, repository: RepositoryName) -> str | None:
        """Return a manifest, a blob or a tag of a repository, damaged or not; None if it does not exist."""
        directory = self.repository(repository)
        for kind in ("_manifests", "_blobs"):
            for algorithm in DIGEST_ALGORITHMS:
                for name in unsorted_entries(directory / kind / algorithm):
                    if digest_of(algorithm, name):
                        return str(directory / kind / algorithm / name)
        return next(
            (self.tag_file(repository, tag) for tag in map(tag_of, file_names(self.tags(repository))) if tag), None
        )

    def names(self, below: str = "", *, on_error: Callable[[OSError], None] = log_unreadable) -> list[RepositoryName]:
        """Return the names of all directories of repositories in lexical order, including empty ones.

        Args:
            below: the first part of the names; any by default.
            on_error: called for each directory that cannot be read, which is then left out.
        """
        found = []
        for folder, directories, _ in os.walk(self.repositories / below, onerror=on_error):
            relative = Path(folder).relative_to(self.repositories)
            if any(name.startswith("_") for name in directories):
                found.append(relative.as_posix())
            directories[:] = [name for name in directories if parse_repository((relative / name).as_posix())]
        return sorted(name for text in found if (name := parse_repository(text)))


def digest_of(algorithm: str, encoded: str) -> Digest | None:
    """Return the digest in a file name; None if it is not a digest."""
    try:
        return Digest(f"{algorithm}:{encoded}")
    except InvalidName:
        return None


def digest_in(name: str) -> Digest | None:
    """Return the digest in a file name `<algorithm>-<hex>`; None for any other name."""
    algorithm, _, encoded = name.partition("-")
    return digest_of(algorithm, encoded)


def is_upload(name: str) -> bool:
    """Return whether a name is the identifier of an upload session."""
    return _UPLOAD.fullmatch(name) is not None


def tag_of(name: str) -> Tag | None:
    """Return the tag in a file name; None if it is not a tag."""
    try:
        return Tag(name)
    except InvalidName:
        return None


def _digests_in(directory: Path, algorithm: str) -> Iterator[Digest]:
    for name in entries(directory):
        if digest := digest_of(algorithm, name):
            yield digest
        else:
            _log_foreign(directory / name)


def _log_foreign(path: Path) -> None:
    _log.warning("ignored an entry that does not belong to the registry", path=printable(str(path)))


def parse_repository(text: str) -> RepositoryName | None:
    """Return the repository in a relative path; None if it is none."""
    try:
        return RepositoryName(text)
    except InvalidName:
        return None
