"""Clients that misbehave slightly all the time, which must not add up."""

import asyncio
import base64
import random
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress

from tests.faults.installation import NORTH, Installation
from tests.support.raw_client import RawClient, connected, holding

_SOURCE = "127.0.0.66"
_POISON = b"""{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
"config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": "sha256:%s", "size": 9223372036854775808},
"layers": []}""" % (b"0" * 64)


class Nuisances:
    """Misbehaving clients with an ordinary user's login.

    Attributes:
        tried: the number of tries of each.
        faults: violations.
    """

    def __init__(self, installation: Installation, name: str, seed: int) -> None:
        login = installation.logins[name]
        basic = base64.b64encode(f"{login.name}:{login.password}".encode()).decode()
        self._head = (
            f"Host: {installation.urls[NORTH].partition('://')[2]}\r\nAuthorization: Basic {basic}\r\n".encode()
        )
        self._url = installation.urls[NORTH]
        self._organization = name
        self._rng = random.Random(seed)
        self.tried: Counter[str] = Counter()
        self.faults: list[str] = []

    async def work(self, is_over: Callable[[], bool]) -> None:
        """Run one after the other."""
        kinds = (
            self._half_open,
            self._endless_head,
            self._slow_body,
            self._no_reader,
            self._unfinished_upload,
            self._poisoned_manifest,
            self._wrong_signature,
            self._reset,
        )
        while not is_over():
            kind = self._rng.choice(kinds)
            self.tried[kind.__name__.strip("_").replace("_", " ")] += 1
            # The server may close the connection at any moment here, and should.
            with suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                async with asyncio.timeout(30):
                    await kind()
            await asyncio.sleep(self._rng.random())

    async def _half_open(self) -> None:
        async with holding(self._url, 40, b"GET /v2/ HTTP/1.1\r\n", source=_SOURCE):
            await asyncio.sleep(3)

    async def _endless_head(self) -> None:
        async with self._client() as client:
            await client.send(b"GET / HTTP/1.1\r\n" + self._head)
            await client.send_all(b"X-%d: %s\r\n" % (number, b"a" * 4000) for number in range(500))

    async def _slow_body(self) -> None:
        async with self._client() as client:
            await client.send(b"POST /v2/manage/namespaces HTTP/1.1\r\n" + self._head + b"Content-Length: 1000\r\n\r\n")
            await client.trickle(b"{" * 30, pause=0.2)

    async def _no_reader(self) -> None:
        async with connected(self._url, source=_SOURCE, buffer=4096) as client:
            path = f"/v2/{self._organization}/app/tags/list".encode()
            for _ in range(200):
                await client.send(b"GET %s HTTP/1.1\r\n%s\r\n" % (path, self._head))
            await asyncio.sleep(3)

    async def _unfinished_upload(self) -> None:
        async with self._client() as client:
            path = f"/v2/{self._organization}/app/blobs/uploads/".encode()
            await client.send(b"POST %s HTTP/1.1\r\n%sContent-Length: 0\r\n\r\n" % (path, self._head))
            answer = await client.answer()
            location = answer.headers["location"].removeprefix(self._url).encode()
            await client.send(b"PATCH %s HTTP/1.1\r\n%sContent-Length: 1000000\r\n\r\n" % (location, self._head))
            await client.send(b"x" * 100_000)

    async def _poisoned_manifest(self) -> None:
        async with self._client() as client:
            path = f"/v2/{self._organization}/app/manifests/poison".encode()
            kind = b"Content-Type: application/vnd.oci.image.manifest.v1+json\r\n"
            length = b"Content-Length: %d\r\n\r\n" % len(_POISON)
            await client.send(b"PUT %s HTTP/1.1\r\n%s%s%s%s" % (path, self._head, kind, length, _POISON))
            answer = await client.answer()
            if answer.status not in (400, 413, 429, 503):
                self.faults.append(f"a poisoned manifest was answered {answer.status}: {answer.body[:200]!r}")

    async def _wrong_signature(self) -> None:
        async with self._client() as client:
            names = b";".join(b"x-%d" % number for number in range(80))
            signature = b"Authorization: SDK-HMAC-SHA256 Access=ABC, SignedHeaders=%s, Signature=00\r\n" % names
            host = self._head.split(b"\r\n")[0] + b"\r\n"
            await client.send(b"GET /v2/manage/namespaces HTTP/1.1\r\n%s%s\r\n" % (host, signature))
            answer = await client.answer()
            if answer.status >= 500 and answer.status != 503:
                self.faults.append(f"a wrong signature was answered {answer.status}: {answer.body[:200]!r}")

    async def _reset(self) -> None:
        async with self._client() as client:
            await client.send(b"GET /v2/_catalog HTTP/1.1\r\n" + self._head + b"\r\n")
            client.abort()

    def _client(self) -> AbstractAsyncContextManager[RawClient]:
        return connected(self._url, source=_SOURCE)
