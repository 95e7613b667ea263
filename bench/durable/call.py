"""The measured call, made as a client makes it: in an event loop that has other work too."""

import asyncio
import json
import secrets
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from bench.durable.installation import Installation
from bench.measure import Failed
from bench.served import ORGANIZATION, TARGET_REGION
from tagferry import signing

_TIMEOUT = 300.0


async def sync_images(installation: Installation, repository: str, tags: Sequence[str]) -> tuple[float, float]:
    """Synchronize tags on a separate connection; returns its start and end by `time.perf_counter`.

    Raises:
        Failed: a tag is not at the target.
    """
    body = json.dumps(
        {"imageTag": list(tags), "override": True, "remoteNamespace": ORGANIZATION, "remoteRegionId": TARGET_REGION}
    ).encode()
    path = f"/v2/manage/namespaces/{ORGANIZATION}/repos/{repository}/sync_images"
    headers = {
        "Host": installation.address,
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Prefer": f"wait={_TIMEOUT:.0f}",
        "Connection": "close",
        "X-Request-Nonce": secrets.token_hex(8),
    }
    request = signing.Request(method="POST", path=path, query="", headers=list(headers.items()), body=body)
    key = installation.key
    headers |= signing.sign(request, key.access_key, key.secret_key, now=datetime.now(UTC))
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    begun = time.perf_counter()
    async with asyncio.timeout(_TIMEOUT):
        answer = await _exchange(installation.address, "\r\n".join(lines).encode() + body)
    ended = time.perf_counter()
    head, _, content = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 ") or json.loads(content) != []:
        raise Failed(f"sync_images was answered {answer[:1000].decode(errors='replace')}")
    return begun, ended


async def _exchange(address: str, request: bytes) -> bytes:
    host, _, port = address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request)
        return await reader.read()
    finally:
        writer.close()
