"""Attacks on what the server remembers: quotas, histories, signatures, locks, its database and the time."""

import asyncio
import sqlite3
import time
import uuid
from contextlib import AbstractAsyncContextManager, closing
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from tagferry import signing
from tests.faults.attacks.anonymous import status_of
from tests.faults.attacks.stage import ATTACKER, HONEST, MALLORY, Attack, Outcome, Stage
from tests.faults.caller import Answer, Caller
from tests.faults.installation import NORTH, SOUTH
from tests.support.images import image
from tests.support.raw_client import RawClient, connected

_APP = f"{MALLORY}/app"
_NAMESPACES = "/v2/manage/namespaces"
_ORGANIZATIONS, _UPLOADS = 100, 1000  # the defaults of [quotas]
_TWO_LOOKS_SECONDS = 12.0  # policies are looked up every five seconds
_GARBAGE = b"\xa5" * 4096


async def too_many_organizations(stage: Stage, seconds: float) -> Outcome:
    """A user creates organizations endlessly."""
    outcome, caller = Outcome(), stage.caller()
    for number in range(_ORGANIZATIONS + 20):
        answer = await _ask(caller, "POST", _NAMESPACES, {"namespace": f"many{number}"})
        outcome.saw(_told(answer))
    if outcome.seen["201"] > _ORGANIZATIONS:
        outcome.failed.append("there is no end to a user's organizations")
    return outcome


async def too_many_uploads(stage: Stage, seconds: float) -> Outcome:
    """A user opens uploads and completes none."""
    outcome, caller = Outcome(), stage.caller()
    for _ in range(_UPLOADS + 50):
        answer = await asyncio.to_thread(caller.registry, "POST", f"/v2/{_APP}/blobs/uploads/", b"")
        outcome.saw(answer.status)
    if outcome.seen["202"] > _UPLOADS:
        outcome.failed.append("there is no end to an organization's uploads")
    return outcome


async def former_tenant(stage: Stage, seconds: float) -> Outcome:
    """A tenant deletes its organization; another one creates it again and reads its history."""
    outcome = Outcome()
    former, later = stage.caller(HONEST), stage.caller(MALLORY)
    elsewhere = stage.caller(HONEST, region=SOUTH)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline or not outcome.tried:
        name = f"former{outcome.tried}"
        for caller in (former, elsewhere):
            await _ask(caller, "POST", _NAMESPACES, {"namespace": name})
        await stage.push(f"{name}/app", "secret", image(b"secret", seed="secret"), HONEST)
        started = await stage.start_sync(f"{name}/app", ["secret"], user=HONEST)
        await stage.job_ended(f"{name}/app", started, user=HONEST, seconds=30)
        await _ask(former, "DELETE", f"{_NAMESPACES}/{name}/repos/app")
        gone = await _ask(former, "DELETE", f"{_NAMESPACES}/{name}")
        taken = await _ask(later, "POST", _NAMESPACES, {"namespace": name})
        await stage.push(f"{name}/app", "v1", image(b"another", seed="another"))
        jobs = await _ask(
            later, "GET", f"{_NAMESPACES}/{name}/repos/app/sync_job?filter=limit%3A%3A100%7Coffset%3A%3A0"
        )
        seen = len(jobs.document) if jobs.status == HTTPStatus.OK else 0
        outcome.saw(f"deleted {gone.status}, created {taken.status}, {seen} jobs of the former tenant seen")
        if seen or taken.status != HTTPStatus.CREATED:
            outcome.failed.append("the history of the former tenant is seen" if seen else "the name cannot be taken")
            break
    return outcome


async def replayed_requests(stage: Stage, seconds: float) -> Outcome:
    """A signed deletion is replayed, at the other region and at its own.

    The deleted object was created again before, so that only the signature can be refused.
    """
    outcome = Outcome()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline or not outcome.tried:
        name = f"replay{outcome.tried}"
        for region in (NORTH, SOUTH):
            await _ask(stage.caller("admin", region=region), "POST", _NAMESPACES, {"namespace": name})
        head = _signed_deletion(stage, f"{_NAMESPACES}/{name}")
        first = await _sent(stage, NORTH, head)
        await _ask(stage.caller("admin"), "POST", _NAMESPACES, {"namespace": name})
        for region in (SOUTH, NORTH):
            status = await _sent(stage, region, head)
            outcome.saw(f"{first}, then {status} at {'its own' if region == NORTH else 'another'} region")
            kept = await _ask(stage.caller("admin", region=region), "GET", f"{_NAMESPACES}/{name}")
            if status != "401" or kept.status != HTTPStatus.OK:
                outcome.failed.append(f"a deletion that was sent again at {region} is answered {status}")
                return outcome
    return outcome


async def _sent(stage: Stage, region: str, head: bytes) -> str:
    async with _at(stage, region) as client:
        await client.send(head)
        return await status_of(client)


def _at(stage: Stage, region: str) -> AbstractAsyncContextManager[RawClient]:
    return connected(stage.installation.urls[region], source=ATTACKER)


def _signed_deletion(stage: Stage, path: str) -> bytes:
    login = stage.installation.logins["admin"]
    headers = {"Host": stage.url.partition("://")[2], "Content-Type": "application/json"}
    request = signing.Request(method="DELETE", path=path, query="", headers=[*headers.items()], body=b"")
    headers |= signing.sign(request, login.access_key, login.secret_key, now=datetime.now(UTC))
    lines = [f"DELETE {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "Content-Length: 0"]
    return "\r\n".join([*lines, "", ""]).encode()


async def forgotten_locks(stage: Stage, seconds: float) -> Outcome:
    """Wrong passwords lock a name; then as many made-up keys as old versions could remember, and another guess."""
    outcome = Outcome()
    guess = b"GET /v2/ HTTP/1.1\r\n" + stage.head("admin", "guess") + b"\r\n"
    async with stage.connect() as client:
        for _ in range(6):
            await client.send(guess)
            status = await status_of(client)
        outcome.saw(f"locked: {status}")
        host = stage.url.partition("://")[2]
        answered = 0
        for number in range(10_100):
            signature = f"Access=MADEUP{number:06}, SignedHeaders=host;x-sdk-date, Signature={'0' * 64}"
            await client.send(
                f"GET {_NAMESPACES} HTTP/1.1\r\nHost: {host}\r\nX-Sdk-Date: {datetime.now(UTC):%Y%m%dT%H%M%SZ}\r\n"
                f"Authorization: {signing.ALGORITHM} {signature}\r\n\r\n".encode()
            )
            outcome.seen["made-up key: " + await status_of(client)] += 1
            answered += 1
        outcome.tried += answered
    async with stage.connect() as client:
        await client.send(guess)
        status = await status_of(client)
    outcome.saw(f"then {status}")
    if status != "429":
        outcome.failed.append("made-up names evicted a lock")
    return outcome


async def damaged_page(stage: Stage, seconds: float) -> Outcome:
    """The database's pages with the access keys are overwritten while the server runs, and restored later."""
    outcome = Outcome()
    file = next(stage.installation.data.glob("*.db"))
    pages = _pages_of(file, "access_keys")
    with file.open("r+b", buffering=0) as database:
        kept = {}
        for offset, size in pages:
            database.seek(offset)
            kept[offset] = database.read(size)
            database.seek(offset)
            database.write((_GARBAGE * (size // len(_GARBAGE) + 1))[:size])
        try:
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                answer = await asyncio.to_thread(stage.caller().management, "GET", _NAMESPACES)
                outcome.saw(_told(answer))
                if answer.status == HTTPStatus.INTERNAL_SERVER_ERROR or b"Traceback" in answer.body:
                    outcome.failed.append("a damaged database is an internal error")
                    break
                await asyncio.sleep(0.05)
        finally:
            for offset, content in kept.items():
                database.seek(offset)
                database.write(content)
    return outcome


def _pages_of(file: Any, table: str) -> list[tuple[int, int]]:
    """Return the page size, and the offsets of a table's and its indexes' pages, as far as their roots list them."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        roots = connection.execute("SELECT rootpage FROM sqlite_master WHERE tbl_name = ?", (table,)).fetchall()
    return [((root - 1) * size, size) for (root,) in roots if root]


async def jumping_clock(stage: Stage, seconds: float) -> Outcome:
    """The clock jumps by two months and back, while a policy deletes tags older than a month."""
    outcome = Outcome()
    await stage.push(_APP, "kept", image(b"kept", seed="kept"))
    rule = {"template": "date_rule", "params": {"days": "30"}, "tag_selectors": []}
    made = await _ask(
        stage.caller(), "POST", f"{_NAMESPACES}/{MALLORY}/repos/app/retentions", {"algorithm": "or", "rules": [rule]}
    )
    outcome.saw(f"policy {made.status}")
    deadline = time.monotonic() + max(seconds, _TWO_LOOKS_SECONDS)
    stage.shim.put_clock_ahead(60 * 24 * 3600)
    try:
        while time.monotonic() < deadline and outcome.seen["tag 200"] == outcome.tried - 1:
            answer = await asyncio.to_thread(stage.caller().registry, "GET", f"/v2/{_APP}/manifests/kept")
            outcome.saw(f"tag {answer.status}")
            await asyncio.sleep(0.1)
    finally:
        stage.shim.put_clock_ahead(0)
    if outcome.seen["tag 404"]:
        outcome.failed.append("a tag was deleted, since the clock had jumped")
    return outcome


async def _ask(caller: Caller, method: str, path: str, body: Any = None) -> Answer:
    # The same request within a second has the same signature, which is valid once.
    return await asyncio.to_thread(caller.management, method, path, body, X_Request_Nonce=uuid.uuid4().hex)


def _told(answer: Answer) -> str:
    """Return the status, with the code of an error."""
    return str(answer.status) if answer.status < 400 else f"{answer.status} {answer.document.get('error_code', '')}"


ATTACKS = (
    Attack("organizations beyond the quota", too_many_organizations),
    Attack("uploads beyond the quota", too_many_uploads),
    Attack("name of a former tenant", former_tenant),
    Attack("replayed deletions", replayed_requests, short=True),
    Attack("made-up keys against a lock", forgotten_locks),
    Attack("clock that jumps by two months", jumping_clock, with_shim=True, unsigned=True),
    Attack("damaged pages of the database", damaged_page, stops=True),
)
