"""The content of a served region, written directly to its directory and database."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bench.rows import Rows, stored
from bench.served import ORGANIZATION, SOURCE_REGION, TARGET_REGION
from tagferry.names import Digest, RepositoryName, Tag
from tagferry.registry.storage.layout import Layout

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_BEGUN = datetime(2026, 1, 1, tzinfo=UTC)
_OWNER = (
    f"SELECT id FROM organizations WHERE name = '{ORGANIZATION}'",  # noqa: S608
    "SELECT id, domain_id FROM users LIMIT 1",
)


class Shelf:
    """The directory of an embedded registry. Its files are not synced: a benchmark needs no durability.

    Args:
        data: the data of the installation.
        region: the region of the registry.
    """

    def __init__(self, data: Path, *, region: str = SOURCE_REGION) -> None:
        self._layout = Layout(data / "registries" / region)

    def add(self, repository: str, tags: int, *, organization: str = ORGANIZATION, leaving_out: int = 0) -> Digest:
        """Add a repository of an image for each tag, with a config and a shared layer; returns the digest of the last.

        Args:
            repository: its name.
            tags: how many.
            organization: its organization.
            leaving_out: every how many tags one is left out; 0 for none.
        """
        name = RepositoryName(f"{organization}/{repository}")
        layer = self._blob(name, b"layer")
        for number in (one for one in range(tags) if not leaving_out or one % leaving_out):
            created = (_BEGUN + timedelta(seconds=number)).isoformat()
            config = self._blob(name, json.dumps({"created": created, "of": repository}).encode())
            entries = [{"mediaType": _LAYER, "digest": layer, "size": 5}]
            size = self._layout.blob(name, config).stat().st_size
            head = {"schemaVersion": 2, "mediaType": _MANIFEST}
            document = head | {"config": {"mediaType": _CONFIG, "digest": config, "size": size}, "layers": entries}
            raw = json.dumps(document).encode()
            digest = Digest.of(raw)
            _write(self._layout.manifest(name, digest), _MANIFEST.encode() + b"\n" + raw)
            _write(self._layout.tag(name, Tag(f"v{number}")), digest.encode())
        return digest

    def move(self, repository: str, tag: str, to: str) -> None:
        """Point a tag to another tag's image, as the registry does: by a new file."""
        name = RepositoryName(f"{ORGANIZATION}/{repository}")
        path, draft = self._layout.tag(name, Tag(tag)), self._layout.temporary / tag
        _write(draft, self._layout.tag(name, Tag(to)).read_bytes())
        draft.rename(path)

    def _blob(self, repository: RepositoryName, content: bytes) -> Digest:
        digest = Digest.of(content)
        pooled, link = self._layout.pooled(digest), self._layout.blob(repository, digest)
        if not pooled.exists():
            _write(pooled, content)
        if not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            os.link(pooled, link)
        return digest


def add_jobs(database: str | Path, repository: str, jobs: int) -> None:
    """Record ended jobs of a repository; a hundredth of them has failed.

    Args:
        database: the URL of a database of PostgreSQL, or the file of SQLite.
        repository: the repository.
        jobs: how many.
    """
    rows = Rows(database)
    owner = [rows.select(statement)[0] for statement in _OWNER]
    rows.insert("sync_jobs", _rows(repository, owner, jobs))


def _rows(repository: str, owner: Sequence[Any], jobs: int) -> Iterator[dict[str, object]]:
    (organization,), (user, domain) = owner
    for number in range(jobs):
        moment = stored(_BEGUN + timedelta(seconds=number))
        yield {
            "request_id": hashlib.sha256(f"{repository} {number // 100}".encode()).hexdigest()[:32],
            "created_at": moment,
            "updated_at": moment,
            "ended_at": moment,
            "domain_id": domain,
            "domain_name": "bench",
            "operator_id": user,
            "operator_name": "bench",
            "source_region": SOURCE_REGION,
            "namespace": ORGANIZATION,
            "repository": repository,
            "tag": f"v{number % 1000}",
            "target_region": TARGET_REGION,
            "target_namespace": ORGANIZATION,
            "source_organization_id": organization,
            "override": True,
            "status": "failed" if number % 100 == 0 else "success",
            "reason": "",
            "bytes_total": 0,
            "bytes_done": 0,
        }


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
