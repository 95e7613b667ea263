"""Attacks by a registry that a region is configured for: it is silent, slow or endless, or lies."""

import asyncio
import json
import time
from http import HTTPStatus
from typing import Any

from tagferry.names import Digest
from tagferry.oci.model import OCI_MANIFEST
from tests.faults.attacks.hostile import Question, reply
from tests.faults.attacks.stage import HOSTILE, MALLORY, Attack, Outcome, Stage
from tests.faults.installation import SOUTH
from tests.support.images import image

_REGISTRY_FAILED = "SVCSTG.SWR.5000021"
_APP = f"{MALLORY}/app"
_SAMPLE = image(b"a layer of the hostile registry" * 40_000, seed="hostile")
_QUICK_SECONDS = 15.0


async def silent_region(stage: Stage, seconds: float) -> Outcome:
    """Tags for a region that accepts connections and never answers; other syncs continue."""
    outcome = Outcome()
    tags = [f"t{number}" for number in range(60)]
    for tag in tags:
        await stage.push(_APP, tag, image(tag.encode(), seed=tag))
    asking = [asyncio.create_task(_ask(stage, tag)) for tag in tags]
    deadline, longest = time.monotonic() + seconds, 0.0
    while time.monotonic() < deadline:
        began = time.monotonic()
        ended = await stage.honest_sync(f"beside{outcome.tried}") == "success"
        longest = max(longest, time.monotonic() - began)
        outcome.saw("honest sync ended" if ended else "honest sync waits")
        if not ended:
            outcome.failed.append("an honest synchronization did not end")
            break
    outcome.seen[f"longest {longest:.1f} s"] += 1
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    return outcome


async def _ask(stage: Stage, tag: str) -> None:
    await stage.start_sync(_APP, [tag], to=HOSTILE)


async def waits_for_a_silent_region(stage: Stage, seconds: float) -> Outcome:
    """Requests with a wait of five seconds, or none, for a region that never answers."""
    outcome = Outcome()
    await stage.push(_APP, "v1", image(b"v1", seed="v1"))
    path = f"/v2/manage/namespaces/{MALLORY}/repos/app/sync_images"
    body = {"imageTag": ["v1"], "remoteNamespace": MALLORY, "remoteRegionId": HOSTILE}
    for prefer, most in (("respond-async", 5.0), ("wait=5", 12.0)):
        began = time.monotonic()
        answer = await asyncio.to_thread(stage.caller().management, "POST", path, body, Prefer=prefer)
        took = time.monotonic() - began
        outcome.saw(f"{prefer}: {answer.status} {'in time' if took <= most else f'after {took:.0f} s'}")
        if took > most:
            outcome.failed.append(f"{prefer} was answered after {took:.1f} s")
    return outcome


async def trickling_blob(stage: Stage, seconds: float) -> Outcome:
    """A large blob that arrives at one byte a second."""
    outcome = Outcome()
    large = max(map(len, _SAMPLE.blobs.values()))

    async def answer(question: Question, writer: asyncio.StreamWriter) -> None:
        content = _SAMPLE.blobs.get(Digest(question.path.rpartition("/")[2])) if "/blobs/" in question.path else None
        if question.method != "GET" or content is None or len(content) < large:
            await _contents(question, writer)
            return
        # The length is that of the descriptor: a response of another length is refused at once.
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\n\r\n".encode())
        for _ in range(3600):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(1)

    stage.hostile.answer = answer
    began = time.monotonic()
    status = await _sync_from(stage, ["v1"], seconds=max(seconds, 150.0), or_failed=True)
    outcome.saw(f"job {status} after {time.monotonic() - began:.0f} s")
    if status == "running":
        outcome.failed.append("the blob is waited for without an end")
    return outcome


async def endless_lists(stage: Stage, seconds: float) -> Outcome:
    """Endless lists of tags and referrers, with large names."""
    outcome = Outcome()
    pages = 0

    async def answer(question: Question, writer: asyncio.StreamWriter) -> None:
        nonlocal pages
        path = question.path.partition("?")[0]
        if not path.endswith("/tags/list") and "/referrers/" not in path:
            await _contents(question, writer)
            return
        pages += 1
        link = f'<{path}?n=1000&last=t{pages}>; rel="next"'
        if path.endswith("/tags/list"):
            body: dict[str, Any] = {
                "name": _APP,
                "tags": [f"{pages:08}-{number:05}-{'a' * 110}" for number in range(20_000)],
            }
        else:
            one = _SAMPLE.manifest.descriptor.to_json()
            body = {
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.index.v1+json",
                "manifests": [
                    {**one, "digest": Digest.of(f"{pages} {number}".encode()), "annotations": {"a": "b" * 4000}}
                    for number in range(500)
                ],
            }
        kind = "application/vnd.oci.image.index.v1+json" if "/referrers/" in path else "application/json"
        await reply(writer, 200, json.dumps(body).encode(), Link=link, Content_Type=kind)

    stage.hostile.answer = answer
    outcome.saw(f"job {await _sync_from(stage, [f'v{number}' for number in range(8)], seconds=seconds * 2)}")
    caller = stage.caller(region=HOSTILE)
    listed = await asyncio.to_thread(caller.management, "GET", f"/v2/manage/namespaces/{MALLORY}/repos/app/tags")
    code = listed.document["errors"][0]["errorCode"] if listed.status >= HTTPStatus.BAD_REQUEST else ""
    outcome.saw(f"list {listed.status} {code}".strip())
    if listed.status == HTTPStatus.INTERNAL_SERVER_ERROR and code != _REGISTRY_FAILED:
        outcome.failed.append("a list without an end is an internal error")
    outcome.seen[f"pages: {pages}"] += 1
    return outcome


async def strange_realm(stage: Stage, seconds: float) -> Outcome:
    """A challenge whose realm is on another host, which must not see the password."""
    outcome = Outcome()
    realm = f'Bearer realm="{stage.hostile.elsewhere}/token",service="x",scope="repository:{_APP}:pull"'
    outcome.saw(f"job {await _challenged(stage, realm, seconds)}")
    outcome.seen[f"credentials leaked: {len(stage.hostile.leaked)}"] += 1
    if stage.hostile.leaked:
        outcome.failed.append("the robot's password was sent to another host")
    return outcome


async def wrong_challenge(stage: Stage, seconds: float) -> Outcome:
    """A wrong challenge for a while, and then the right one."""
    outcome = Outcome()
    outcome.saw(f"job {await _challenged(stage, 'Digest realm=nonsense', 2)}")

    async def right(question: Question, writer: asyncio.StreamWriter) -> None:
        if "authorization" not in question.headers:
            await reply(writer, 401, b"{}", WWW_Authenticate='Basic realm="registry"')
        else:
            await _contents(question, writer)

    stage.hostile.answer = right
    status = await _sync_from(stage, ["v2"], seconds=_QUICK_SECONDS)
    outcome.saw(f"then job {status}")
    if status != "success":
        outcome.failed.append("the wrong challenge was not forgotten")
    return outcome


async def wrong_bytes(stage: Stage, seconds: float) -> Outcome:
    """Blobs with other bytes of the same length."""
    outcome = Outcome()

    async def answer(question: Question, writer: asyncio.StreamWriter) -> None:
        if "/blobs/" in question.path and question.method == "GET":
            content = _SAMPLE.blobs[Digest(question.path.rpartition("/")[2])]
            await reply(writer, 200, b"?" + content[1:])
        else:
            await _contents(question, writer)

    stage.hostile.answer = answer
    status = await _sync_from(stage, ["v1"], seconds=seconds)
    outcome.saw(f"job {status}")
    caller = stage.caller(region=SOUTH)
    for digest in _SAMPLE.blobs:
        there = await asyncio.to_thread(caller.registry, "GET", f"/v2/{_APP}/blobs/{digest}")
        outcome.wrong += there.status == 200 and there.digest != digest
    if status == "success":
        outcome.failed.append("the job is a success")
    return outcome


async def internal_page(stage: Stage, seconds: float) -> Outcome:
    """A redirect to another host of this machine, whose page must not be in the reason."""
    outcome = Outcome()

    async def answer(question: Question, writer: asyncio.StreamWriter) -> None:
        await reply(writer, 307, b"", Location=f"{stage.hostile.elsewhere}/admin")

    stage.hostile.answer = answer
    started = await stage.start_sync(_APP, ["v1"], to=SOUTH, at=HOSTILE)
    outcome.saw(f"sync {started.status}")
    if b"stolen" in started.body:
        outcome.failed.append("the page of another host is quoted")
    if started.status == 202:
        outcome.saw("job " + await stage.job_ended(_APP, started, user=MALLORY, at=HOSTILE, seconds=_QUICK_SECONDS))
    return outcome


async def _challenged(stage: Stage, challenge: str, seconds: float) -> str:
    async def answer(question: Question, writer: asyncio.StreamWriter) -> None:
        await reply(writer, 401, b"{}", WWW_Authenticate=challenge)

    stage.hostile.answer = answer
    return await _sync_from(stage, ["v1"], seconds=seconds)


async def _sync_from(stage: Stage, tags: list[str], *, seconds: float, or_failed: bool = False) -> str:
    """Return the status of a sync from the hostile region to an embedded one."""
    started = await stage.start_sync(_APP, tags, to=SOUTH, at=HOSTILE)
    if started.status != 202:
        return f"refused with {started.status}"
    return await stage.job_ended(_APP, started, user=MALLORY, at=HOSTILE, seconds=seconds, or_failed=or_failed)


async def _contents(question: Question, writer: asyncio.StreamWriter) -> None:
    """Be an ordinary registry that has one image under every tag."""
    path, is_head = question.path.partition("?")[0], question.method == "HEAD"
    if "/manifests/" in path:
        manifest: Any = _SAMPLE.manifest
        await reply(
            writer, 200, manifest.raw, head=is_head, Content_Type=OCI_MANIFEST, Docker_Content_Digest=manifest.digest
        )
    elif "/blobs/" in path and (digest := Digest(path.rpartition("/")[2])) in _SAMPLE.blobs:
        await reply(writer, 200, _SAMPLE.blobs[digest], head=is_head, Docker_Content_Digest=digest)
    elif path == "/v2/":
        await reply(writer, 200, b"{}", head=is_head)
    else:
        await reply(writer, 404, b'{"errors": []}', head=is_head)


ATTACKS = (
    Attack("region that never answers", silent_region),
    Attack("waits for a region that never answers", waits_for_a_silent_region),
    Attack("blob at one byte a second", trickling_blob),
    Attack("endless lists", endless_lists),
    Attack("realm on another host", strange_realm, short=True, repeats=True),
    Attack("wrong challenge, then the right one", wrong_challenge, short=True),
    Attack("blobs with wrong bytes", wrong_bytes, repeats=True),
    Attack("redirect to an internal page", internal_page, repeats=True),
)
