"""A small registry client, independent of tagferry, that fills registries and walks their content."""

import base64
import hashlib
import http.client
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit

from tagferry.names import Digest
from tests.support.images import SampleImage

AGENT = "fault-harness"
"""Distinguishes this client's requests from tagferry's in an access log."""

_SECONDS = 30.0
_ATTEMPTS = 3
"""Like every client, this one retries after a 5xx, which docker-registry answers while a link is being written."""
_ACCEPT = (
    "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, "
    "application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json"
)

Login = tuple[str, str]


@dataclass(frozen=True)
class Sighting:
    """A tag that exists.

    Attributes:
        digest: of its manifest.
        flaws: content below it that is missing, or has another size.
    """

    digest: str
    flaws: tuple[str, ...]


class RegistryClient:
    """One kept connection to the registry at this URL, logged in if there is a login (user, password).

    Attributes:
        asked_again: the number of retries after a 5xx.
    """

    def __init__(self, url: str, login: Login | None = None) -> None:
        self._address = urlsplit(url).netloc
        self._headers = {"User-Agent": AGENT, "Accept": _ACCEPT}
        if login is not None:
            self._headers["Authorization"] = "Basic " + base64.b64encode(":".join(login).encode()).decode()
        self._connection: http.client.HTTPConnection | None = None
        self.asked_again = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def push(self, repository: str, sample: SampleImage, tag: str | None = None) -> None:
        """Push an image, references first."""
        for digest, content in sample.all_blobs.items():
            self._push_blob(repository, digest, content)
        *children, top = sample.all_manifests
        for manifest in (*children, top):
            reference = tag if manifest is top and tag else manifest.digest
            self._expect(
                201,
                "PUT",
                f"/v2/{repository}/manifests/{reference}",
                body=manifest.raw,
                headers={"Content-Type": manifest.media_type},
            )

    def look(self, repository: str, tag: str) -> Sighting | None:
        """Walk everything below a tag: manifests by their content, blobs by HEAD; None if it does not exist."""
        status, _, raw = self._read("GET", f"/v2/{repository}/manifests/{tag}")
        if status == 404:
            return None
        if status != 200:
            raise OSError(f"{self._address} answered {status} for {repository}:{tag}")
        return Sighting(f"sha256:{hashlib.sha256(raw).hexdigest()}", tuple(self._flaws(repository, json.loads(raw))))

    def _flaws(self, repository: str, document: Mapping[str, Any]) -> Iterator[str]:
        for child in document.get("manifests", ()):
            status, _, raw = self._read("GET", f"/v2/{repository}/manifests/{child['digest']}")
            if status != 200 or f"sha256:{hashlib.sha256(raw).hexdigest()}" != child["digest"]:
                yield f"{repository}@{child['digest']} was answered {status}"
            else:
                yield from self._flaws(repository, json.loads(raw))
        for blob in (*([document["config"]] if "config" in document else []), *document.get("layers", ())):
            status, headers, _ = self._read("HEAD", f"/v2/{repository}/blobs/{blob['digest']}")
            if status != 200 or int(headers["Content-Length"]) != blob["size"]:
                yield f"{repository}, blob {blob['digest']} was answered {status}, {headers['Content-Length']} bytes"

    def _push_blob(self, repository: str, digest: Digest, content: bytes) -> None:
        headers = self._expect(202, "POST", f"/v2/{repository}/blobs/uploads/", body=b"")
        parts = urlsplit(headers["Location"])
        separator = "&" if parts.query else ""
        target = f"{parts.path}?{parts.query}{separator}digest={quote(digest)}"
        self._expect(201, "PUT", target, body=content, headers={"Content-Type": "application/octet-stream"})

    def _expect(
        self, expected: int, method: str, path: str, *, body: bytes, headers: Mapping[str, str] | None = None
    ) -> Message:
        status, answered, content = self._ask(method, path, body=body, headers=headers)
        if status != expected:
            raise OSError(f"{method} {path} was answered {status}: {content[:300]!r}")
        return answered

    def _read(self, method: str, path: str) -> tuple[int, Message, bytes]:
        for _ in range(_ATTEMPTS - 1):
            answer = self._ask(method, path)
            if answer[0] < 500:
                return answer
            self.asked_again += 1
        return self._ask(method, path)

    def _ask(
        self, method: str, path: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Message, bytes]:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self._address, timeout=_SECONDS)
        try:
            self._connection.request(method, path, body=body, headers={**self._headers, **(headers or {})})
            response = self._connection.getresponse()
            return response.status, response.headers, response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise OSError(f"{self._address} broke off: {error!r}") from None
