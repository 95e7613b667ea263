"""The content of a served region, written directly to its directory and database."""

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.served import ORGANIZATION, SOURCE_REGION, TARGET_REGION
from tagferry.names import Digest, RepositoryName, Tag
from tagferry.registry.storage.layout import Layout

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_BEGUN = datetime(2026, 1, 1, tzinfo=UTC)
_JOBS_AT_ONCE = 50_000


class Shelf:
    """The directory of an embedded registry. Its files are not synced: a benchmark needs no durability."""

    def __init__(self, data: Path) -> None:
        self._layout = Layout(data / "registries" / SOURCE_REGION)

    def add(self, repository: str, tags: int) -> None:
        """Add a repository of an image for each tag, with a config and a shared layer."""
        name = RepositoryName(f"{ORGANIZATION}/{repository}")
        layer = self._blob(name, b"layer")
        for number in range(tags):
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


def add_jobs(data: Path, repository: str, jobs: int) -> None:
    """Record ended jobs of a repository, a hundredth of which has failed."""
    with closing(sqlite3.connect(data / "tagferry.db", timeout=60)) as database:
        (organization,) = database.execute("SELECT id FROM organizations WHERE name = ?", (ORGANIZATION,)).fetchone()
        (user, domain), *_ = database.execute("SELECT id, domain_id FROM users").fetchall()
        first = next(_rows(repository, organization, user, domain, 1))
        statement = f"INSERT INTO sync_jobs ({', '.join(first)}) VALUES ({', '.join('?' * len(first))})"  # noqa: S608
        rows = (tuple(row.values()) for row in _rows(repository, organization, user, domain, jobs))
        for _ in range(0, jobs, _JOBS_AT_ONCE):
            with database:
                database.executemany(statement, [row for _, row in zip(range(_JOBS_AT_ONCE), rows, strict=False)])


def _rows(repository: str, organization: int, user: str, domain: str, jobs: int) -> Iterator[dict[str, object]]:
    for number in range(jobs):
        moment = (_BEGUN + timedelta(seconds=number)).strftime("%Y-%m-%d %H:%M:%S.%f")
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
