"""The content of a served region, written directly to its directory and database."""

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg

from bench.served import ORGANIZATION, SOURCE_REGION, TARGET_REGION
from tagferry.names import Digest, RepositoryName, Tag
from tagferry.registry.storage.layout import Layout

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_BEGUN = datetime(2026, 1, 1, tzinfo=UTC)
_JOBS_AT_ONCE = 50_000
_OWNER = (
    f"SELECT id FROM organizations WHERE name = '{ORGANIZATION}'",  # noqa: S608
    "SELECT id, domain_id FROM users LIMIT 1",
)


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
    """Record ended jobs of a repository in the data's own database; a hundredth of them has failed."""
    with closing(sqlite3.connect(data / "tagferry.db", timeout=60)) as database:
        owner = [database.execute(statement).fetchone() for statement in _OWNER]
        columns = _columns(owner)
        statement = f"INSERT INTO sync_jobs ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608
        rows = (tuple(row.values()) for row in _rows(repository, owner, jobs))
        while batch := list(islice(rows, _JOBS_AT_ONCE)):
            with database:
                database.executemany(statement, batch)


def add_jobs_to_postgresql(url: str, repository: str, jobs: int) -> None:
    """Do the same in a database of PostgreSQL, and let it count its rows, as it does by itself after a while."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as database:
        owner = [database.execute(statement).fetchone() for statement in _OWNER]
        columns = ", ".join(_columns(owner))
        with database.cursor().copy(f"COPY sync_jobs ({columns}) FROM STDIN") as copy:
            for row in _rows(repository, owner, jobs):
                copy.write_row(tuple(row.values()))
        database.execute("VACUUM ANALYZE sync_jobs")


def _columns(owner: Sequence[Any]) -> list[str]:
    return list(next(_rows("", owner, 1)))


def _rows(repository: str, owner: Sequence[Any], jobs: int) -> Iterator[dict[str, object]]:
    (organization,), (user, domain) = owner
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
