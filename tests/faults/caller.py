"""A client of one region that uses little of tagferry: one kept connection, a login, and signatures."""

import base64
import hashlib
import http.client
import json
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from typing import Any
from urllib.parse import urlsplit

from tagferry import signing
from tests.faults.installation import Login

_SECONDS = 60.0
_IDLE_SECONDS = 2.0
_ACCEPT = (
    "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, "
    "application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json"
)


class Lost(Exception):
    """The server stopped before it answered; the request may have taken effect or not."""


@dataclass(frozen=True)
class Answer:
    """A response, read to its end."""

    status: int
    headers: Message
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(self.body).hexdigest()}"


class Caller:
    """Makes sequential requests.

    Args:
        url: the region's address.
        login: the user.
        source: the loopback address of the client.
    """

    def __init__(self, url: str, login: Login, source: str = "127.0.0.1") -> None:
        self._address = urlsplit(url).netloc
        self._key = login.access_key, login.secret_key
        self._source = source
        basic = base64.b64encode(f"{login.name}:{login.password}".encode()).decode()
        self._login = {"Authorization": f"Basic {basic}", "Accept": _ACCEPT}
        self._connection: http.client.HTTPConnection | None = None
        self._used = 0.0

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def registry(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """Send a request to the registry; `_` in header names becomes `-`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._ask(method, path, body, {**self._login, **named})

    def management(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Send a signed request to the management API."""
        content = b"" if body is None else json.dumps(body).encode()
        # The same request twice within a second would have the same signature, which is valid once.
        sent = {"Host": self._address, "Content-Type": "application/json", "X-Request-Nonce": uuid.uuid4().hex}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        plain, _, query = path.partition("?")
        request = signing.Request(method=method, path=plain, query=query, headers=[*sent.items()], body=content)
        sent |= signing.sign(request, *self._key, now=datetime.now(UTC))
        return self._ask(method, path, content, sent)

    def _ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        if time.monotonic() - self._used > _IDLE_SECONDS:
            # The server may close it at this very moment.
            self.close()
        if self._connection is None:
            self._connection = http.client.HTTPConnection(
                self._address, timeout=_SECONDS, source_address=(self._source, 0)
            )
        try:
            # A server may refuse a body before it has read it, and close: its response counts.
            with suppress(BrokenPipeError, ConnectionResetError):
                self._connection.request(method, path, body=body, headers=dict(headers))
            response = self._connection.getresponse()
            answer = Answer(response.status, response.headers, response.read())
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Lost(f"{method} {path} on {self._address}: {error!r}") from None
        self._used = time.monotonic()
        return answer
