"""Where things lie in a registry's root directory.

```
blobs/<algorithm>/<2 hex>/<hex>          the pool that all repositories share
repositories/<name>/_blobs/<algorithm>/<hex>          a hard link into the pool: the repository holds the blob
                   /_manifests/<algorithm>/<hex>      the media type, a newline, the manifest's raw bytes
                   /_tags/<tag>                       the digest; its modification time is the tag's
                   /_referrers/<algorithm>/<hex>/<algorithm>-<hex>    by subject: the referrer's descriptor
                   /_uploads/<id>                     what an upload has received
                   /_uploads/<algorithm>-<hex>        what has arrived of a large blob that a synchronization brings
temporary/                               files that are being written
```

A name's parts cannot begin with an underscore, so a repository `a/_tags` cannot exist. Files of other names, as an
editor or a file system leaves them, are passed over. A blob or manifest whose file has the sticky bit is damaged, and
counts as not there (`integrity`).
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tagferry.errors import InvalidName
from tagferry.names import Digest, RepositoryName, Tag
from tagferry.registry.storage.files import entries, file_names, unsorted_entries


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one registry."""

    root: Path

    @property
    def repositories(self) -> Path:
        """Holds every repository's directory."""
        return self.root / "repositories"

    @property
    def pool(self) -> Path:
        """Holds every blob."""
        return self.root / "blobs"

    @property
    def temporary(self) -> Path:
        """Holds what is being written."""
        return self.root / "temporary"

    def pooled(self, digest: Digest) -> Path:
        """A blob in the pool."""
        return self.pool / digest.algorithm / digest.encoded[:2] / digest.encoded

    def repository(self, repository: RepositoryName) -> Path:
        """A repository's own directory."""
        return self.repositories / repository

    def blob(self, repository: RepositoryName, digest: Digest) -> Path:
        """A repository's link to a blob."""
        return self.repositories / repository / "_blobs" / digest.algorithm / digest.encoded

    def manifest(self, repository: RepositoryName, digest: Digest) -> Path:
        """A manifest."""
        return self.repositories / repository / "_manifests" / digest.algorithm / digest.encoded

    def tags(self, repository: RepositoryName) -> Path:
        """Holds a repository's tags."""
        return self.repositories / repository / "_tags"

    def tag(self, repository: RepositoryName, tag: Tag) -> Path:
        """A tag."""
        return self.tags(repository) / tag

    def referrers(self, repository: RepositoryName, subject: Digest) -> Path:
        """Holds the descriptors of a subject's referrers."""
        return self.repositories / repository / "_referrers" / subject.algorithm / subject.encoded

    def referrer(self, repository: RepositoryName, subject: Digest, digest: Digest) -> Path:
        """The descriptor of one referrer."""
        return self.referrers(repository, subject) / f"{digest.algorithm}-{digest.encoded}"

    def upload(self, repository: RepositoryName, identifier: str) -> Path:
        """What an upload has received."""
        return self.repositories / repository / "_uploads" / identifier

    def incoming(self, repository: RepositoryName, digest: Digest) -> Path:
        """What has arrived of a blob that a synchronization brings; no upload of a client has such a name."""
        return self.upload(repository, f"{digest.algorithm}-{digest.encoded}")

    def digests(self, repository: RepositoryName, kind: str) -> Iterator[Digest]:
        """The digests of a repository's `_blobs` or `_manifests`; what else lies there is no content."""
        directory = self.repository(repository) / kind
        for algorithm in entries(directory):
            for encoded in entries(directory / algorithm):
                if digest := digest_of(algorithm, encoded):
                    yield digest

    def holds_images(self, repository: RepositoryName) -> bool:
        """Whether a repository exists: it holds a manifest, a blob or a tag, damaged or not."""
        directory = self.repository(repository)
        return any(
            digest_of(algorithm, name)
            for kind in ("_manifests", "_blobs")
            for algorithm in ("sha256", "sha512")
            for name in unsorted_entries(directory / kind / algorithm)
        ) or any(map(tag_of, file_names(self.tags(repository))))

    def names(self, below: str = "") -> list[RepositoryName]:
        """Every directory that can be a repository, in lexical order, whether it holds anything or not.

        Args:
            below: the first part of their names; any by default.
        """
        found = []
        for folder, directories, _ in os.walk(self.repositories / below):
            if any(name.startswith("_") for name in directories):
                found.append(Path(folder).relative_to(self.repositories).as_posix())
            directories[:] = [name for name in directories if not name.startswith("_")]
        return sorted(name for text in found if (name := _repository(text)))


def digest_of(algorithm: str, encoded: str) -> Digest | None:
    """The digest that a file is named after; None where the file is somebody else's."""
    try:
        return Digest(f"{algorithm}:{encoded}")
    except InvalidName:
        return None


def tag_of(name: str) -> Tag | None:
    """The tag that a file is named after; None where the file is somebody else's."""
    try:
        return Tag(name)
    except InvalidName:
        return None


def _repository(text: str) -> RepositoryName | None:
    try:
        return RepositoryName(text)
    except InvalidName:
        return None
