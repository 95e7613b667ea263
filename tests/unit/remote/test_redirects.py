"""Redirected writes arrive complete, with the same method and without the registry's credentials."""

import random
import ssl
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import pytest

from tagferry.errors import Refused, Unavailable
from tagferry.names import RepositoryName, Tag
from tagferry.oci.images import BlobOutcome
from tagferry.remote import Capabilities, Credentials, Endpoint, RemoteStore, Retry
from tests.support.certificates import loopback_certificate
from tests.support.images import blob, image, opening, read
from tests.support.scripted_registry import Answering, Asked, Reply, ScriptedRegistry, error, said, scripted_registry
from tests.unit.remote.conftest import Opening
from tests.unit.remote.test_capabilities import MemoryCapabilities
from tests.unit.remote.test_digest_check import CONTENT as LARGE_CONTENT
from tests.unit.remote.test_digest_check import KNOWN, Crossing, crossing, source, source_script

__all__ = ["crossing", "source", "source_script"]

APP, LATEST = RepositoryName("team/app"), Tag("latest")
UPLOADS = "/v2/team/app/blobs/uploads/"
USER = Credentials(username="u", password="p")
CONTENT = random.Random(10).randbytes(3 * 1024 * 1024 + 7)


class Stored:
    """Return the requests below `/moved`, whose responses have relative Locations."""

    def __init__(self, script: ScriptedRegistry) -> None:
        self.blobs: dict[str, bytes] = {}
        self._received = b""
        replies: list[tuple[str, str, Answering]] = [
            ("POST", f"/moved{UPLOADS}", Reply(status=202, headers={"Location": "session?state=a%2Bb"})),
            ("PATCH", f"/moved{UPLOADS}s*", self._patch),
            ("PUT", f"/moved{UPLOADS}s*", self._put),
            ("PUT", "/moved/v2/team/app/manifests/latest", Reply(status=201)),
            ("DELETE", "/moved/v2/team/app/manifests/latest", Reply(status=202)),
        ]
        for verb, path, reply in replies:
            script.always(verb, path, reply)

    def _patch(self, asked: Asked) -> Reply:
        self._received += asked.body
        return Reply(status=202, headers={"Location": f"session?state={len(self._received)}"})

    def _put(self, asked: Asked) -> Reply:
        content, self._received = self._received + asked.body, b""
        digest = f"sha256%3A{sha256(content).hexdigest()}"
        if f"digest={digest}" not in asked.query:
            return error(400, "DIGEST_INVALID")
        self.blobs[digest] = content
        return Reply(status=201)

    def has(self, content: bytes) -> bool:
        return self.blobs.get(f"sha256%3A{sha256(content).hexdigest()}") == content


def leading(script: ScriptedRegistry, to: str, status: int, *, methods: str = "POST PATCH PUT DELETE") -> None:
    """Redirect writes to the same path below `/moved` after their body has been read."""

    def led(asked: Asked) -> Reply:
        query = f"?{asked.query}" if asked.query else ""
        return Reply(status=status, headers={"Location": f"{to}/moved{asked.path}{query}"})

    for method in methods.split():
        script.always(method, "/v2/team/app/*", led)


def leading_early(script: ScriptedRegistry, to: str, status: int) -> None:
    """Redirect the PUT of `CONTENT` before its body has been read."""
    target = f"{to}/moved{UPLOADS}session?digest=sha256%3A{sha256(CONTENT).hexdigest()}"
    script.always("PUT", f"{UPLOADS}s", Reply(status=status, headers={"Location": target}, unread=True))


@pytest.fixture(params=["same host", "other host"])
async def elsewhere(request: pytest.FixtureRequest, script: ScriptedRegistry) -> AsyncIterator[ScriptedRegistry]:
    """The target of the scripted registry's redirects."""
    if request.param == "same host":
        yield script
        return
    async with scripted_registry() as other:
        yield other


def place(script: ScriptedRegistry, elsewhere: ScriptedRegistry) -> str:
    return "" if script is elsewhere else elsewhere.url


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirected_blob_arrives_in_one_piece(
    script: ScriptedRegistry, elsewhere: ScriptedRegistry, opened: Opening, status: int
):
    stored = Stored(elsewhere)
    leading(script, place(script, elsewhere), status)

    assert await opened(attempts=1).write_blob(APP, blob(CONTENT), opening(CONTENT)) is BlobOutcome.UPLOADED

    assert stored.has(CONTENT)
    assert [line for line in script.lines() if "/moved" not in line] == [f"POST {UPLOADS}"]


@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize("early", [False, True], ids=["after the body", "before the body"])
async def test_a_stream_that_is_redirected_midway_is_sent_from_its_beginning(
    script: ScriptedRegistry, elsewhere: ScriptedRegistry, opened: Opening, status: int, early: bool
):
    stored = Stored(elsewhere)
    script.always("POST", UPLOADS, Reply(status=202, headers={"Location": f"{UPLOADS}s"}))
    if early:
        leading_early(script, place(script, elsewhere), status)
    else:
        leading(script, place(script, elsewhere), status, methods="PUT")

    assert await opened(attempts=1).write_blob(APP, blob(CONTENT), opening(CONTENT)) is BlobOutcome.UPLOADED

    assert stored.has(CONTENT)
    assert script.lines().count(f"POST {UPLOADS}") == 1


async def test_the_next_stream_sends_expect(script: ScriptedRegistry, opened: Opening):
    other_content = CONTENT[::-1]
    stored = Stored(script)
    script.always("POST", UPLOADS, Reply(status=202, headers={"Location": f"{UPLOADS}s"}))
    leading(script, "", 307, methods="PUT")
    store = opened(attempts=1)

    for content in (CONTENT, other_content):
        await store.write_blob(APP, blob(content), opening(content))

    assert stored.has(CONTENT)
    assert stored.has(other_content)
    expecting = [asked.headers.get("Expect") for asked in script.asked if asked.method == "PUT"]
    assert expecting == [None, "100-continue", "100-continue", "100-continue"]


async def test_redirected_parts_arrive_in_order(script: ScriptedRegistry, elsewhere: ScriptedRegistry, opened: Opening):
    stored = Stored(elsewhere)
    script.always("POST", UPLOADS, Reply(status=202, headers={"Location": f"{UPLOADS}s"}))
    leading(script, place(script, elsewhere), 307, methods="PATCH")
    capabilities = MemoryCapabilities(Capabilities(mounts_from_itself=True, whole_limit=1))
    store = opened(attempts=1, capabilities=capabilities, chunk_size=1024 * 1024)

    assert await store.write_blob(APP, blob(CONTENT), opening(CONTENT)) is BlobOutcome.UPLOADED
    assert stored.has(CONTENT)


async def test_every_part_may_be_redirected(script: ScriptedRegistry, elsewhere: ScriptedRegistry, opened: Opening):
    stored = Stored(elsewhere)

    def back(asked: Asked) -> Reply:
        """Accept a part, and redirect the next one to the common target."""
        stored._patch(asked)
        return Reply(status=202, headers={"Location": f"{script.url}{UPLOADS}s?state={asked.query}"})

    elsewhere.on("PATCH", f"/moved{UPLOADS}s", *[back] * 100)
    script.always("POST", UPLOADS, Reply(status=202, headers={"Location": f"{UPLOADS}s"}))
    leading(script, place(script, elsewhere), 307, methods="PATCH PUT")
    capabilities = MemoryCapabilities(Capabilities(mounts_from_itself=True, whole_limit=1))
    store = opened(attempts=1, capabilities=capabilities, chunk_size=256 * 1024)

    assert await store.write_blob(APP, blob(CONTENT), opening(CONTENT)) is BlobOutcome.UPLOADED
    assert stored.has(CONTENT)


async def test_a_redirected_download_that_breaks_resumes_at_the_redirect_target(
    script: ScriptedRegistry, elsewhere: ScriptedRegistry, opened: Opening
):
    kept = 1_000_000
    session = f"/moved{UPLOADS}session"
    script.always("POST", UPLOADS, Reply(status=202, headers={"Location": f"{UPLOADS}s"}))
    leading_early(script, place(script, elsewhere), 307)
    script.always("GET", f"{UPLOADS}s", Reply(status=307, headers={"Location": f"{place(script, elsewhere)}{session}"}))
    elsewhere.on("PUT", session, Reply(drop=True), Reply(status=201))
    elsewhere.always("GET", session, Reply(status=204, headers={"Range": f"0-{kept - 1}"}))

    assert await opened().write_blob(APP, blob(CONTENT), opening(CONTENT)) is BlobOutcome.UPLOADED

    sent = [asked for asked in elsewhere.asked if (asked.method, asked.path) == ("PUT", session)]
    assert sent[0].body == CONTENT
    assert sent[1].body == CONTENT[kept:]
    assert sent[1].headers["Content-Range"] == f"{kept}-{len(CONTENT) - 1}"


async def test_a_registry_that_ignores_expect_gets_no_further_expect(script: ScriptedRegistry, opened: Opening):
    stored = Stored(script)
    script.on("POST", UPLOADS, Reply(status=307, headers={"Location": f"/moved{UPLOADS}"}))
    script.always("POST", UPLOADS, Reply(status=202, headers={"Location": f"/moved{UPLOADS}s"}))
    script.on("PUT", f"/moved{UPLOADS}session", Reply(status=417, unread=True))
    store = opened(attempts=1)

    for content in (CONTENT, CONTENT[::-1]):
        await store.write_blob(APP, blob(content), opening(content))
        assert stored.has(content)

    assert [asked.headers.get("Expect") for asked in script.asked if asked.method == "PUT"] == [
        "100-continue",
        None,
        None,
    ]


async def test_a_redirected_manifest_is_stored_and_deleted_at_the_target(
    script: ScriptedRegistry, elsewhere: ScriptedRegistry, store: RemoteStore
):
    Stored(elsewhere)
    leading(script, place(script, elsewhere), 308)
    sample = image().manifest

    await store.put_manifest(APP, sample, LATEST)
    await store.delete_manifest(APP, LATEST)

    moved = [asked for asked in elsewhere.asked if asked.path.startswith("/moved")]
    assert [(asked.method, asked.body) for asked in moved] == [("PUT", sample.raw), ("DELETE", b"")]
    assert moved[0].headers["Content-Type"] == sample.media_type


async def test_another_host_never_learns_the_credentials(script: ScriptedRegistry, opened: Opening):
    async with scripted_registry() as other:
        stored = Stored(other)
        script.on("POST", UPLOADS, Reply(status=401, headers={"WWW-Authenticate": "Basic realm=x"}))
        leading(script, other.url, 307)
        await opened(credentials=USER).write_blob(APP, blob(CONTENT), opening(CONTENT))
        assert stored.has(CONTENT)
    assert script.asked[-1].headers["Authorization"].startswith("Basic ")
    assert all("Authorization" not in asked.headers for asked in other.asked)


async def test_a_redirect_back_from_another_host_gets_no_credentials(script: ScriptedRegistry, opened: Opening):
    script.on("PUT", "/v2/team/app/manifests/latest", Reply(status=401, headers={"WWW-Authenticate": "Basic realm=x"}))
    async with scripted_registry() as other:
        other.always("PUT", "/away", Reply(status=307, headers={"Location": f"{script.url}/v2/secret/manifests/v1"}))
        script.on("PUT", "/v2/team/app/manifests/latest", Reply(status=307, headers={"Location": f"{other.url}/away"}))
        script.on("PUT", "/v2/secret/manifests/v1", Reply(status=201))
        await opened(credentials=USER).put_manifest(APP, image().manifest, LATEST)
    assert "Authorization" in script.asked[-2].headers
    assert script.asked[-1].path == "/v2/secret/manifests/v1"
    assert "Authorization" not in script.asked[-1].headers


async def test_the_registry_s_own_host_gets_the_credentials_after_any_redirect(
    script: ScriptedRegistry, opened: Opening
):
    stored = Stored(script)
    script.on("POST", UPLOADS, Reply(status=401, headers={"WWW-Authenticate": "Basic realm=x"}))
    leading(script, "", 307)
    await opened(credentials=USER).write_blob(APP, blob(CONTENT), opening(CONTENT))
    assert stored.has(CONTENT)
    assert all(asked.headers["Authorization"].startswith("Basic ") for asked in script.asked[2:])


async def test_a_303_is_followed_by_get(script: ScriptedRegistry, store: RemoteStore):
    sample = image().manifest
    script.on("PUT", "/v2/team/app/manifests/latest", Reply(status=303, headers={"Location": "/result"}))
    script.on("GET", "/result", Reply(status=201))
    await store.put_manifest(APP, sample, LATEST)
    assert (script.asked[-1].method, script.asked[-1].body) == ("GET", b"")


async def test_a_login_page_is_not_a_success(script: ScriptedRegistry, opened: Opening):
    page = Reply(body=b"<html><title>Please log in</title>", headers={"Content-Type": "text/html; charset=utf-8"})
    for status in (302, 303):
        script.on("PUT", "/v2/team/app/manifests/latest", Reply(status=status, headers={"Location": "/login"}))
    script.always("PUT", "/login", page)
    script.always("GET", "/login", page)
    for _ in range(2):
        with pytest.raises(Unavailable, match="answered 200 Please log in when asked to store manifest"):
            await opened(attempts=1).put_manifest(APP, image().manifest, LATEST)


async def test_lists_of_a_redirecting_registry_are_requested_at_the_target(
    script: ScriptedRegistry, store: RemoteStore
):
    script.always("GET", "/v2/_catalog", Reply(status=301, headers={"Location": "/moved/v2/_catalog?n=7"}))
    script.always("GET", "/moved/v2/_catalog", said({"repositories": ["team/app"]}))
    script.always("GET", "/v2/team/app/tags/list", Reply(status=301, headers={"Location": "/moved/tags"}))
    script.always("GET", "/moved/tags", said({"name": "team/app", "tags": ["latest"]}))
    assert [name async for name in store.list_repositories()] == [APP]
    assert (await store.check_any(())).request == "the tags of team/app"


async def test_a_registry_that_redirects_from_its_root_authenticates_its_user(
    script: ScriptedRegistry, store: RemoteStore
):
    script.always("GET", "/v2/_catalog", Reply(status=404))
    script.always("GET", "/v2/", Reply(status=308, headers={"Location": "/moved/v2/"}))
    script.always("GET", "/moved/v2/", Reply())
    assert (await store.check_any(())).request.startswith("/v2/ alone")
    await store.ping()


async def test_a_login_page_is_not_a_successful_login(script: ScriptedRegistry, opened: Opening):
    script.always("GET", "/v2/_catalog", Reply(status=404))
    script.always("GET", "/v2/", Reply(status=302, headers={"Location": "/login"}))
    script.always("GET", "/login", Reply(body=b"<title>Please log in</title>", headers={"Content-Type": "text/html"}))
    store = opened(attempts=1)
    for asking in (lambda: store.check_any(()), store.ping):
        with pytest.raises(Unavailable, match="answered 200 Please log in when asked to"):
            await asking()


async def test_a_redirect_loop_ends(script: ScriptedRegistry, opened: Opening):
    script.always("POST", UPLOADS, Reply(status=307, headers={"Location": UPLOADS}))
    with pytest.raises(Unavailable, match="redirected more than 5 times"):
        await opened(attempts=1).write_blob(APP, blob(b"x"), opening(b"x"))
    # The optional mount, a lookup of the blob, and the session that would be opened instead.
    assert len(script.asked) == 6 + 1 + 6


async def test_a_redirect_loop_of_a_stream_ends(script: ScriptedRegistry, opened: Opening):
    script.always("POST", UPLOADS, Reply(status=202, headers={"Location": f"{UPLOADS}s"}))
    script.always("PUT", f"{UPLOADS}s", Reply(status=307, headers={"Location": f"{UPLOADS}s"}, unread=True))
    with pytest.raises(Unavailable, match=r"redirected more than 5 times|led to"):
        await opened(attempts=1).write_blob(APP, blob(CONTENT), opening(CONTENT))
    assert len(script.asked) < 20


@pytest.mark.parametrize("chunk_size", [None, 1024 * 1024], ids=["whole", "parts"])
async def test_a_blob_that_is_redirected_after_its_end_is_not_sent_forever(
    script: ScriptedRegistry, opened: Opening, chunk_size: int | None
):
    def lead_on(asked: Asked) -> Reply:
        bodies.append(len(asked.body))
        return Reply(status=307, headers={"Location": f"{UPLOADS}{len(bodies)}"})

    bodies: list[int] = []
    script.always("POST", UPLOADS, Reply(status=202, headers={"Location": f"{UPLOADS}s"}))
    script.always("PUT" if chunk_size is None else "PATCH", f"{UPLOADS}*", lead_on)
    if chunk_size is not None:
        script.always("PUT", f"{UPLOADS}*", Reply(status=413))
    store = opened(attempts=5, chunk_size=chunk_size or 1)
    message = f"redirected blob {blob(CONTENT).digest} in team/app more than 5 times, each time after it was sent"
    with pytest.raises(Unavailable, match=message) as failure:
        await store.write_blob(APP, blob(CONTENT), opening(CONTENT))
    assert not failure.value.is_retryable
    assert bodies == [chunk_size or len(CONTENT)] * 6


async def test_only_what_its_digest_verifies_is_read_in_clear_by_a_registry_with_tls(tmp_path: Path):
    certificate = loopback_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    async with scripted_registry(tls=context) as encrypted, scripted_registry() as clear:
        clear_url = clear.url.replace("127.0.0.1", "localhost")
        encrypted.always("GET", "/v2/*", Reply(status=307, headers={"Location": f"{clear_url}/stored"}))
        encrypted.always("HEAD", "/v2/*", Reply(status=307, headers={"Location": f"{clear_url}/stored"}))
        clear.always("GET", "/stored", Reply(body=b"x"))
        store = RemoteStore(Endpoint(name="r", url=encrypted.url, ca_file=certificate), retry=Retry(attempts=1))
        assert await read(store, APP, blob(b"x")) == b"x"
        clear.asked.clear()
        for ask in (store.get_manifest, store.head_manifest):
            with pytest.raises(Refused, match=f"redirected to {clear_url}, without TLS, when asked to"):
                await ask(APP, LATEST)
        with pytest.raises(Refused, match="without TLS"):
            _ = [tag async for tag in store.list_tags(APP)]
        await store.close()
        assert clear.asked == []


async def test_what_is_written_is_not_sent_in_clear_by_a_registry_with_tls(tmp_path: Path):
    certificate = loopback_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    async with scripted_registry(tls=context) as encrypted, scripted_registry() as clear:
        clear_url = clear.url.replace("127.0.0.1", "localhost")
        encrypted.always("POST", UPLOADS, Reply(status=307, headers={"Location": f"{clear_url}{UPLOADS}"}))
        store = RemoteStore(Endpoint(name="r", url=encrypted.url, ca_file=certificate), retry=Retry(attempts=1))
        with pytest.raises(Refused, match="without TLS, when asked to"):
            await store.write_blob(APP, blob(b"x"), opening(b"x"))
        await store.close()
    assert clear.asked == []


async def test_a_spliced_blob_that_is_redirected_midway_arrives(
    script: ScriptedRegistry, opened: Opening, crossing: Crossing
):
    async with scripted_registry() as other:
        stored = Stored(other)
        digest = f"sha256%3A{sha256(LARGE_CONTENT).hexdigest()}"
        script.always("POST", UPLOADS, Reply(status=202, headers={"Location": f"{UPLOADS}s"}))
        script.always("DELETE", f"{UPLOADS}s", Reply(status=204))
        script.on("PUT", f"{UPLOADS}s", error(400, "DIGEST_INVALID"))
        target = f"{other.url}/moved{UPLOADS}session?digest={digest}"
        script.on("PUT", f"{UPLOADS}s", Reply(status=307, headers={"Location": target}, unread=True))
        store = opened(attempts=1, capabilities=MemoryCapabilities(KNOWN))

        assert await store.write_blob(APP, blob(LARGE_CONTENT), crossing) is BlobOutcome.UPLOADED

        assert stored.has(LARGE_CONTENT)
    assert crossing.flowed >= len(LARGE_CONTENT) // 2
