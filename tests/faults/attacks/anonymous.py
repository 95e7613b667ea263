"""Attacks before authentication: connections, heads, bodies, readers, signatures and logins."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from functools import partial

from tagferry import signing
from tests.faults.attacks.stage import ATTACKER, HONEST, MALLORY, Attack, Outcome, Stage
from tests.faults.caller import Lost
from tests.support.images import image
from tests.support.raw_client import RawClient

_MIB = 1024 * 1024
_ADDRESSES = tuple(f"127.0.0.{number}" for number in range(60, 70))


async def endless_heads(stage: Stage, seconds: float) -> Outcome:
    """Twenty connections whose heads do not end."""

    async def send(client: RawClient) -> str:
        await client.send(b"GET / HTTP/1.1\r\n")
        sent = await client.send_all(b"X-%d: %s\r\n" % (number, b"a" * 60_000) for number in range(1000))
        return "cut off" if sent < 50 * _MIB else "taken"

    return await _from_many(stage, seconds, 20, send)


async def long_addresses(stage: Stage, seconds: float) -> Outcome:
    """Requests for a path of eight MiB."""

    async def send(client: RawClient) -> str:
        await client.send_all((b"GET /", *[b"a" * 65536] * 128, b" HTTP/1.1\r\nHost: x\r\n\r\n"))
        return await status_of(client)

    return await _from_many(stage, seconds, 4, send)


async def half_open(stage: Stage, seconds: float) -> Outcome:
    """Fifteen hundred connections from ten addresses, each with half a head."""
    outcome = Outcome()
    async with AsyncExitStack() as stack:
        for number in range(1500):
            try:
                client = await stack.enter_async_context(stage.connect(_ADDRESSES[number % len(_ADDRESSES)]))
                await client.send(b"GET /v2/ HTTP/1.1\r\nHost: ")
                outcome.saw("opened")
            except (OSError, TimeoutError):
                outcome.saw("refused")
        await asyncio.sleep(seconds)
    return outcome


async def bodies_held_open(stage: Stage, seconds: float) -> Outcome:
    """Five hundred bodies of a MiB without credentials that lack their last byte."""

    async def hold(number: int) -> str:
        async with stage.connect(_ADDRESSES[number % len(_ADDRESSES)]) as client:
            host = stage.basic().split(b"\r\n")[0]
            await client.send(b"POST /v3/auth/tokens HTTP/1.1\r\n%s\r\nContent-Type: application/json\r\n" % host)
            await client.send_all((b"Content-Length: %d\r\n\r\n" % _MIB, *[b" " * 65535] * 16))
            await asyncio.sleep(seconds)
            return "held"

    return await _together([partial(hold, number) for number in range(500)])


async def readers_that_never_read(stage: Stage, seconds: float) -> Outcome:
    """Fifty downloads of eight MiB of which nothing is read."""
    content = b"l" * (8 * _MIB)
    sample = image(content, seed="large")
    await stage.push(f"{MALLORY}/app", "large", sample)
    digest = next(digest for digest, blob in sample.blobs.items() if blob is content)
    ask = f"GET /v2/{MALLORY}/app/blobs/{digest} HTTP/1.1\r\n".encode() + stage.basic() + b"\r\n"

    async def hold() -> str:
        async with stage.connect(buffer=4096) as client:
            for _ in range(4):
                await client.send(ask)
            await asyncio.sleep(seconds)
            return "held"

    return await _together([hold] * 50)


async def aborted_downloads(stage: Stage, seconds: float) -> Outcome:
    """Downloads of 256 MiB that are reset after the first bytes."""
    content = b"l" * (256 * _MIB)
    sample = image(content, seed="huge")
    await stage.push(f"{MALLORY}/app", "huge", sample)
    digest = next(digest for digest, blob in sample.blobs.items() if blob is content)
    ask = f"GET /v2/{MALLORY}/app/blobs/{digest} HTTP/1.1\r\n".encode() + stage.basic() + b"\r\n"
    outcome = Outcome()
    before, deadline = stage.read_bytes(), time.monotonic() + seconds
    while time.monotonic() < deadline and outcome.tried < 40:
        with suppress(OSError):
            async with stage.connect() as client:
                await client.send(ask)
                await client.reader.read(1024)
                client.abort()
        outcome.saw("reset")
    await asyncio.sleep(3)
    outcome.again = stage.read_bytes() - before
    return outcome


async def stalled_uploads(stage: Stage, seconds: float) -> Outcome:
    """Two hundred uploads that stop in the middle of a part."""

    async def stall() -> str:
        async with stage.connect() as client:
            path = f"/v2/{MALLORY}/app/blobs/uploads/".encode()
            await client.send(b"POST %s HTTP/1.1\r\n%sContent-Length: 0\r\n\r\n" % (path, stage.basic()))
            answer = await client.answer()
            if answer.status != 202:
                return str(answer.status)
            location = answer.headers["location"]
            path = location[location.index("/v2/") :].encode()
            await client.send(b"PATCH %s HTTP/1.1\r\n%sContent-Length: 1000000\r\n\r\nx" % (path, stage.basic()))
            await asyncio.sleep(seconds)
            return "held"

    return await _together([stall] * 200)


async def pipelined_requests(stage: Stage, seconds: float) -> Outcome:
    """Two thousand requests on a connection before the first response is read."""

    async def send(client: RawClient) -> str:
        one = b"GET /v2/ HTTP/1.1\r\n" + stage.basic() + b"\r\n"
        await client.send_all([one * 100] * 20)
        client.writer.write_eof()
        answers = (await client.rest()).count(b"HTTP/1.1 200")
        return "answered at most 100" if answers <= 100 else "answered all"

    return await _from_many(stage, seconds, 8, send)


async def two_hosts(stage: Stage, seconds: float) -> Outcome:
    """Requests with no Host header, or with two."""
    outcome = Outcome()
    for hosts in (b"", b"Host: a\r\nHost: b\r\n"):
        async with stage.connect() as client:
            await client.send(b"GET /healthz HTTP/1.1\r\n" + hosts + b"\r\n")
            outcome.saw(await status_of(client))
    if set(outcome.seen) != {"400"}:
        outcome.failed.append("a request without one Host was accepted")
    return outcome


async def many_signed_headers(stage: Stage, seconds: float) -> Outcome:
    """Signatures with a known access key over thousands of headers, without its secret key."""
    key = stage.installation.logins[HONEST].access_key
    names = [f"x-{number}" for number in range(4000)]
    headers = "".join(f"{name}: a\r\n" for name in names)
    signature = f"Access={key}, SignedHeaders={';'.join(names)}, Signature={'0' * 64}"
    head = (
        f"GET /v2/manage/namespaces HTTP/1.1\r\nHost: x\r\nX-Sdk-Date: {datetime.now(UTC):%Y%m%dT%H%M%SZ}\r\n{headers}"
        f"Authorization: {signing.ALGORITHM} {signature}\r\n\r\n"
    )

    async def send(client: RawClient) -> str:
        await client.send(head.encode())
        return await status_of(client)

    return await _from_many(stage, seconds, 2, send)


async def wrong_passwords(stage: Stage, seconds: float) -> Outcome:
    """Three hundred connections that try passwords for unknown names."""

    async def guess(client: RawClient) -> str:
        name = f"somebody-{time.monotonic_ns()}"
        await client.send(b"GET /v2/ HTTP/1.1\r\n" + stage.head(name, "guess") + b"\r\n")
        return await status_of(client)

    return await _from_many(stage, seconds, 300, guess, addresses=_ADDRESSES)


async def wrong_passwords_in_the_form(stage: Stage, seconds: float) -> Outcome:
    """Three hundred connections that try passwords for unknown names in the console."""

    async def guess(client: RawClient) -> str:
        form = f"name=somebody-{time.monotonic_ns()}&password=guess".encode()
        await client.send(
            b"POST /console/sign-in HTTP/1.1\r\nHost: x\r\nSec-Fetch-Site: same-origin\r\n"
            b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%b" % (len(form), form)
        )
        return await status_of(client)

    return await _from_many(stage, seconds, 300, guess, addresses=_ADDRESSES)


async def forged_addresses(stage: Stage, seconds: float) -> Outcome:
    """Wrong passwords for the well-behaved client, with its address in X-Forwarded-For."""
    forged = b"X-Forwarded-For: 127.0.0.7\r\n\r\n"

    async def guess(client: RawClient) -> str:
        await client.send(b"GET /v2/ HTTP/1.1\r\n" + stage.head(HONEST, "guess") + forged)
        return await status_of(client)

    return await _from_many(stage, seconds, 4, guess)


async def pipelined_anonymously(stage: Stage, seconds: float) -> Outcome:
    """A deletion, pipelined with a request without credentials, which must be audited as anonymous."""
    outcome = Outcome()
    host = b"Host: " + stage.url.partition("://")[2].encode() + b"\r\n"
    async with stage.connect() as client:
        for number in range(100):
            path = f"/v2/{MALLORY}/app/manifests/none{number}".encode()
            await client.send(
                b"DELETE " + path + b" HTTP/1.1\r\n" + stage.basic() + b"\r\n"
                b"GET /v2/manage/namespaces?from=nobody HTTP/1.1\r\n" + host + b"\r\n"
            )
            outcome.saw(f"{await status_of(client)}, then {await status_of(client)}")
    for line in stage.log.read_text().splitlines():
        record = json.loads(line) if line.startswith("{") else {}
        if record.get("logger") == "tagferry.audit" and record.get("path") == "/v2/manage/namespaces":
            outcome.seen[f"audited as {record.get('user', 'anonymous')}"] += 1
    if outcome.seen[f"audited as {MALLORY}"]:
        outcome.failed.append("an anonymous request is audited as another user's")
    return outcome


async def status_of(client: RawClient) -> str:
    """Return the status of the next response, or a word for none."""
    try:
        return str((await client.answer()).status)
    except (OSError, asyncio.IncompleteReadError):
        return "closed"
    except TimeoutError:
        return "no answer within a minute"


async def _from_many(
    stage: Stage,
    seconds: float,
    count: int,
    work: Callable[[RawClient], Awaitable[str]],
    addresses: tuple[str, ...] = (ATTACKER,),
) -> Outcome:
    """Repeat the work on new connections, several at once."""
    outcome, deadline = Outcome(), time.monotonic() + seconds

    async def repeat(number: int) -> None:
        while time.monotonic() < deadline:
            try:
                async with stage.connect(addresses[number % len(addresses)]) as client:
                    outcome.saw(await work(client))
            except (OSError, asyncio.IncompleteReadError):
                outcome.saw("closed")
                await asyncio.sleep(0.05)
            except TimeoutError:
                outcome.saw("no answer within a minute")

    await asyncio.gather(*(repeat(number) for number in range(count)))
    return outcome


async def _together(work: list[Callable[[], Awaitable[str]]]) -> Outcome:
    """Run all of it at once."""
    outcome = Outcome()
    for ended in await asyncio.gather(*(one() for one in work), return_exceptions=True):
        if isinstance(ended, str):
            outcome.saw(ended)
        elif isinstance(ended, OSError | TimeoutError | asyncio.IncompleteReadError | Lost):
            outcome.saw("closed")
        else:
            raise ended
    return outcome


ATTACKS = (
    Attack("endless heads", endless_heads, short=True),
    Attack("addresses of 8 MiB", long_addresses),
    Attack("1,500 half-open connections", half_open),
    Attack("500 bodies held open", bodies_held_open),
    Attack("readers that never read", readers_that_never_read),
    Attack("aborted downloads", aborted_downloads),
    Attack("stalled uploads", stalled_uploads),
    Attack("2,000 pipelined requests", pipelined_requests),
    Attack("anonymous pipelined request", pipelined_anonymously, repeats=True),
    Attack("no Host, or two", two_hosts, repeats=True),
    Attack("signatures over 4,000 headers", many_signed_headers, short=True),
    Attack("wrong passwords, 300 at once", wrong_passwords),
    Attack("wrong passwords in the console, 300 at once", wrong_passwords_in_the_form),
    Attack("wrong passwords from forged addresses", forged_addresses),
)
