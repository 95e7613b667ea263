"""The requests to both servers."""

import base64
import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Generic, TypeVar
from urllib.parse import quote, urlsplit

from bench.cost.exchange import Connection, Signed, header
from bench.served import ORGANIZATION, TARGET_REGION, Tagferry

Asked = TypeVar("Asked")

MIB = 1024 * 1024
_SMALL = 10 * 1024
TAGS = 100
SYNCED = "same"
"""The repository that is synchronized."""
_REPOSITORY = f"{ORGANIZATION}/cost"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass(frozen=True)
class Work(Generic[Asked]):
    """One kind of request.

    Attributes:
        key: its name in the table.
        times: the number of requests for one sample.
        once: makes one request.
    """

    key: str
    times: int
    once: Callable[[Asked], object]


class Registry:
    """An embedded registry with the content that the requests need."""

    def __init__(self, server: Tagferry) -> None:
        self._connection = Connection(server.address)
        login = base64.b64encode(":".join(server.login).encode()).decode()
        self._headers = {"Authorization": f"Basic {login}"}
        self._serial = count()
        self._random = random.Random(server.address)  # noqa: S311
        self._large = self._random.randbytes(64 * MIB)
        self.ask("GET", "/v2/")
        self.layers = [self.push_small() for _ in range(10)]
        self.large = self.push(self._large)
        self.manifest = self.put_manifest()
        for number in range(TAGS):
            self.put_manifest(tag=f"v{number}")

    def ask(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"", *, expect: int = 200
    ) -> bytes:
        """Make a request; returns the head of the response."""
        return self._connection.ask(method, path, self._headers | (headers or {}), body, expect=expect)

    def push(self, content: bytes) -> str:
        """Push a blob; returns its digest."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        begun = self.ask("POST", f"/v2/{_REPOSITORY}/blobs/uploads/", expect=202)
        location = urlsplit(header(begun, b"location").decode())
        self.ask("PUT", f"{location.path}?{location.query}&digest={quote(digest)}", body=content, expect=201)
        return digest

    def push_small(self) -> str:
        """Push a new blob of 10 KiB; returns its digest."""
        return self.push(self._random.randbytes(_SMALL))

    def push_large(self) -> None:
        """Push a new blob of 64 MiB."""
        self.push(next(self._serial).to_bytes(8) + self._large[8:])

    def put_manifest(self, *, tag: str | None = None) -> str:
        """Push a new manifest of the ten layers; returns its digest."""
        entries = [{"mediaType": _LAYER, "digest": layer, "size": _SMALL} for layer in self.layers]
        raw = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": entries[0],
                "layers": entries,
                "annotations": {"serial": str(next(self._serial))},
            }
        ).encode()
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        path = f"/v2/{_REPOSITORY}/manifests/{tag or digest}"
        self.ask("PUT", path, {"Content-Type": _MANIFEST}, raw, expect=201)
        return digest

    def mount(self) -> None:
        """Mount a layer into a new repository."""
        other = f"{ORGANIZATION}/other{next(self._serial)}"
        query = f"mount={quote(self.layers[0])}&from={quote(_REPOSITORY, safe='')}"
        self.ask("POST", f"/v2/{other}/blobs/uploads/?{query}", expect=201)

    def log_in(self) -> None:
        """Get a token by user and password."""
        scope = quote(f"repository:{_REPOSITORY}:pull")
        self.ask("GET", f"/v2/_token?service=tagferry&scope={scope}")


_BLOBS, _MANIFESTS = f"/v2/{_REPOSITORY}/blobs/", f"/v2/{_REPOSITORY}/manifests/"
REGISTRY: tuple[Work[Registry], ...] = (
    Work("GET /v2/", 400, lambda at: at.ask("GET", "/v2/")),
    Work("manifest GET by tag", 300, lambda at: at.ask("GET", f"{_MANIFESTS}v7")),
    Work("manifest GET by digest", 300, lambda at: at.ask("GET", _MANIFESTS + at.manifest)),
    Work("manifest HEAD by tag", 300, lambda at: at.ask("HEAD", f"{_MANIFESTS}v7")),
    Work("blob HEAD", 300, lambda at: at.ask("HEAD", _BLOBS + at.layers[0])),
    Work("blob GET 10 KiB", 300, lambda at: at.ask("GET", _BLOBS + at.layers[0])),
    Work("blob GET 64 MiB", 4, lambda at: at.ask("GET", _BLOBS + at.large)),
    Work("tags/list of 100", 300, lambda at: at.ask("GET", f"/v2/{_REPOSITORY}/tags/list")),
    Work("blob push 10 KiB", 60, Registry.push_small),
    Work("blob push 64 MiB", 2, Registry.push_large),
    Work("manifest PUT", 60, lambda at: at.put_manifest(tag="next")),
    Work("mount", 60, Registry.mount),
    Work("token by login", 100, Registry.log_in),
)
"""The requests to an embedded registry."""


class Management:
    """The management API of a server with two regions, where everything is up to date."""

    def __init__(self, server: Tagferry) -> None:
        self._ask = Signed(server).ask
        self._path = f"/v2/manage/namespaces/{ORGANIZATION}/repos/{SYNCED}"
        self.sync(TAGS)

    def list_jobs(self) -> None:
        """List ten jobs."""
        self._ask("GET", f"{self._path}/sync_job", "filter=limit::10")

    def sync(self, tags: int) -> None:
        """Synchronize a number of tags."""
        wanted = {"imageTag": [f"v{number}" for number in range(tags)], "override": True}
        target = {"remoteNamespace": ORGANIZATION, "remoteRegionId": TARGET_REGION}
        self._ask("POST", f"{self._path}/sync_images", "", json.dumps(wanted | target).encode())


MANAGEMENT: tuple[Work[Management], ...] = (
    Work("signed GET, 10 jobs", 60, Management.list_jobs),
    Work("sync_images, 1 tag in place", 60, lambda at: at.sync(1)),
    Work("sync_images, 100 tags in place", 3, lambda at: at.sync(TAGS)),
)
"""The requests to the management API of a server with remote registries."""

REGIONS: tuple[Work[Management], ...] = (
    Work("sync of 1 tag, embedded regions", 60, lambda at: at.sync(1)),
    Work("sync of 100 tags, embedded regions", 10, lambda at: at.sync(TAGS)),
)
"""The requests to a server with two embedded registries, where everything is up to date."""
