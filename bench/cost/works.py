"""What is asked of both servers."""

import base64
import hashlib
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from urllib.parse import quote, urlsplit

from bench.cost.exchange import Connection, header
from bench.served import ORGANIZATION, TARGET_REGION, Tagferry
from tagferry import signing

KIB, MIB = 1024, 1024 * 1024
TAGS = 100
SYNCED = "same"
"""The repository of the registries' that is synchronized."""
_REPOSITORY = f"{ORGANIZATION}/cost"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass(frozen=True)
class Work:
    """One kind of request.

    Attributes:
        key: what the table calls it.
        times: how often it is made for one sample.
        once: makes it once.
    """

    key: str
    times: int
    once: Callable[[], object]


class Registry:
    """The works of an embedded registry."""

    def __init__(self, server: Tagferry) -> None:
        self._connection = Connection(server.address)
        login = base64.b64encode(":".join(server.login).encode()).decode()
        self._headers = {"Authorization": f"Basic {login}"}
        self._serial = count()
        self._random = random.Random(server.address)  # noqa: S311
        self._large = self._random.randbytes(64 * MIB)
        self._ask("GET", "/v2/", expect=200)

    def works(self) -> Iterator[Work]:
        """Fill the registry, and tell what can be asked of it."""
        layers = [self._push(self._random.randbytes(10 * KIB)) for _ in range(10)]
        large = self._push(self._large)
        manifest = self._put_manifest(layers, 10 * KIB)
        for number in range(TAGS):
            self._put_manifest(layers, 10 * KIB, tag=f"v{number}")
        blob, path = f"/v2/{_REPOSITORY}/blobs/", f"/v2/{_REPOSITORY}/manifests/"
        yield Work("GET /v2/", 400, lambda: self._ask("GET", "/v2/", expect=200))
        yield Work("manifest GET by tag", 300, lambda: self._ask("GET", f"{path}v7", expect=200))
        yield Work("manifest GET by digest", 300, lambda: self._ask("GET", path + manifest, expect=200))
        yield Work("manifest HEAD by tag", 300, lambda: self._ask("HEAD", f"{path}v7", expect=200))
        yield Work("blob HEAD", 300, lambda: self._ask("HEAD", blob + layers[0], expect=200))
        yield Work("blob GET 10 KiB", 300, lambda: self._ask("GET", blob + layers[0], expect=200))
        yield Work("blob GET 64 MiB", 4, lambda: self._ask("GET", blob + large, expect=200))
        yield Work("tags/list of 100", 300, lambda: self._ask("GET", f"/v2/{_REPOSITORY}/tags/list", expect=200))
        yield Work("blob push 10 KiB", 60, lambda: self._push(self._random.randbytes(10 * KIB)))
        yield Work("blob push 64 MiB", 2, self._push_large)
        yield Work("manifest PUT", 60, lambda: self._put_manifest(layers, 10 * KIB, tag="next"))
        yield Work("mount", 60, lambda: self._mount(layers[0]))
        yield Work("token by login", 100, self._token)

    def _ask(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"", *, expect: int
    ) -> bytes:
        return self._connection.ask(method, path, self._headers | (headers or {}), body, expect=expect)

    def _push(self, content: bytes) -> str:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        begun = self._ask("POST", f"/v2/{_REPOSITORY}/blobs/uploads/", expect=202)
        location = urlsplit(header(begun, b"location").decode())
        self._ask("PUT", f"{location.path}?{location.query}&digest={quote(digest)}", body=content, expect=201)
        return digest

    def _push_large(self) -> None:
        self._push(next(self._serial).to_bytes(8) + self._large[8:])

    def _put_manifest(self, layers: list[str], size: int, *, tag: str | None = None) -> str:
        entries = [{"mediaType": _LAYER, "digest": layer, "size": size} for layer in layers]
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
        self._ask("PUT", path, {"Content-Type": _MANIFEST}, raw, expect=201)
        return digest

    def _mount(self, digest: str) -> None:
        other = f"{ORGANIZATION}/other{next(self._serial)}"
        query = f"mount={quote(digest)}&from={quote(_REPOSITORY, safe='')}"
        self._ask("POST", f"/v2/{other}/blobs/uploads/?{query}", expect=201)

    def _token(self) -> None:
        scope = quote(f"repository:{_REPOSITORY}:pull")
        self._ask("GET", f"/v2/_token?service=tagferry&scope={scope}", expect=200)


class Management:
    """The works of the management API, of a server whose regions are registries elsewhere."""

    def __init__(self, server: Tagferry) -> None:
        self._server = server
        self._connection = Connection(server.address)
        self._serial = count()
        self._path = f"/v2/manage/namespaces/{ORGANIZATION}/repos/{SYNCED}"

    def works(self) -> Iterator[Work]:
        """Bring everything in place once, and tell what can be asked."""
        self._sync(TAGS)
        yield Work("signed GET, 10 jobs", 60, lambda: self._ask("GET", f"{self._path}/sync_job", "filter=limit::10"))
        yield Work("sync_images, 1 tag in place", 60, lambda: self._sync(1))
        yield Work("sync_images, 100 tags in place", 3, lambda: self._sync(TAGS))

    def _sync(self, tags: int) -> None:
        wanted = {"imageTag": [f"v{number}" for number in range(tags)], "override": True}
        target = {"remoteNamespace": ORGANIZATION, "remoteRegionId": TARGET_REGION}
        self._ask("POST", f"{self._path}/sync_images", "", json.dumps(wanted | target).encode())

    def _ask(self, method: str, path: str, query: str, body: bytes = b"") -> None:
        # Signatures within one second would be the same without the serial number.
        headers = {
            "Host": self._server.address,
            "Content-Type": "application/json",
            "Prefer": "wait=300",
            "X-Serial": str(next(self._serial)),
        }
        request = signing.Request(method=method, path=path, query=query, headers=list(headers.items()), body=body)
        headers |= signing.sign(request, self._server.access_key, self._server.secret_key, now=datetime.now(UTC))
        target = f"{path}?{query}" if query else path
        self._connection.ask(method, target, headers, body, expect=200)
