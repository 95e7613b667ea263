"""A small registry client on one kept connection, independent of tagferry.

It fills the registries, verifies the copies, and measures the embedded registry and docker-registry.
"""

import base64
import hashlib
import http.client
import json
from collections.abc import Iterable, Iterator
from email.message import Message
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit

_TIMEOUT = 300.0
_PIECE = 1024 * 1024
_ACCEPT = (
    "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, "
    "application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json"
)


class RegistryClient:
    """Talks to the registry at `address` (HOST:PORT), logged in if there is a login (user, password)."""

    def __init__(self, address: str, login: tuple[str, str] | None = None) -> None:
        self._connection = http.client.HTTPConnection(address, timeout=_TIMEOUT, blocksize=_PIECE)
        self._headers: dict[str, str] = {}
        if login is not None:
            self._headers["Authorization"] = "Basic " + base64.b64encode(":".join(login).encode()).decode()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def ping(self) -> None:
        """Open the connection with a request for nothing."""
        self._call("GET", "/v2/", expect=200)

    def push_bytes(self, repository: str, content: bytes) -> str:
        """Push a small blob; returns its digest."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        target = f"{self._begin(repository)}digest={quote(digest)}"
        self._call("PUT", target, body=content, headers={"Content-Type": "application/octet-stream"}, expect=201)
        return digest

    def push_stream(self, repository: str, pieces: Iterable[bytes]) -> tuple[str, int]:
        """Push a blob of unknown size while it is generated; returns its digest and size."""
        running, size = hashlib.sha256(), 0

        def counted() -> Iterator[bytes]:
            nonlocal size
            for piece in pieces:
                running.update(piece)
                size += len(piece)
                yield piece

        location = self._begin(repository).rstrip("?&")
        headers = {"Content-Type": "application/octet-stream", "Transfer-Encoding": "chunked"}
        answer = self._call("PATCH", location, body=counted(), headers=headers, expect=202)
        digest = f"sha256:{running.hexdigest()}"
        self._call("PUT", f"{_open_query(answer['Location'])}digest={quote(digest)}", body=b"", expect=201)
        return digest, size

    def push_file(self, repository: str, path: Path, digest: str) -> None:
        """Push a blob from a file in one PUT. The kernel sends the bytes, so the client costs next to nothing."""
        target = f"{self._begin(repository)}digest={quote(digest)}"
        connection = self._connection
        connection.putrequest("PUT", target)
        for name, value in self._headers.items():
            connection.putheader(name, value)
        connection.putheader("Content-Type", "application/octet-stream")
        connection.putheader("Content-Length", str(path.stat().st_size))
        connection.endheaders()
        with path.open("rb") as file:
            connection.sock.sendfile(file)
        self._answer("PUT", target, expect=201)

    def pull(self, repository: str, digest: str) -> int:
        """Read a blob to its end into one small buffer; returns its size."""
        path = f"/v2/{repository}/blobs/{digest}"
        self._connection.request("GET", path, headers=self._headers)
        response = self._connection.getresponse()
        if response.status != 200:
            raise RuntimeError(f"GET {path} was answered {response.status}")
        buffer, size = memoryview(bytearray(_PIECE)), 0
        while count := response.readinto(buffer):
            size += count
        return size

    def mount(self, repository: str, digest: str, origin: str) -> None:
        """Mount a blob from another repository of the same registry."""
        path = f"/v2/{repository}/blobs/uploads/?mount={quote(digest)}&from={quote(origin, safe='')}"
        self._call("POST", path, body=b"", expect=201)

    def push_manifest(self, repository: str, reference: str, document: dict[str, Any]) -> tuple[str, int]:
        """Push a manifest or index; returns its digest and size."""
        raw = json.dumps(document, separators=(",", ":")).encode()
        path = f"/v2/{repository}/manifests/{reference}"
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        headers = {"Content-Type": document["mediaType"]}
        self._call("PUT", path.replace("{digest}", digest), body=raw, headers=headers, expect=201)
        return digest, len(raw)

    def digest_of(self, repository: str, tag: str) -> str | None:
        """Return the digest of a tag, or None if it does not exist."""
        self._connection.request(
            "HEAD", f"/v2/{repository}/manifests/{tag}", headers={**self._headers, "Accept": _ACCEPT}
        )
        response = self._connection.getresponse()
        response.read()
        return response.headers["Docker-Content-Digest"] if response.status == 200 else None

    def _begin(self, repository: str) -> str:
        answer = self._call("POST", f"/v2/{repository}/blobs/uploads/", body=b"", expect=202)
        return _open_query(answer["Location"])

    def _call(
        self,
        method: str,
        path: str,
        *,
        body: bytes | Iterator[bytes] | None = None,
        headers: dict[str, str] | None = None,
        expect: int,
    ) -> Message:
        chunked = body is not None and not isinstance(body, bytes)
        self._connection.request(
            method, path, body=body, headers={**self._headers, **(headers or {})}, encode_chunked=chunked
        )
        return self._answer(method, path, expect=expect)

    def _answer(self, method: str, path: str, *, expect: int) -> Message:
        response = self._connection.getresponse()
        content = response.read()
        if response.status != expect:
            raise RuntimeError(f"{method} {path} was answered {response.status}: {content[:300].decode('latin-1')}")
        return response.headers


def _open_query(location: str) -> str:
    """Return a Location as a path to which a parameter can be added."""
    parts = urlsplit(location)
    return f"{parts.path}?{parts.query}&" if parts.query else f"{parts.path}?"
