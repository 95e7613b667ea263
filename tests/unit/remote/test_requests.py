"""The number of requests per operation, and their targets."""

import base64
import secrets
from pathlib import Path
from typing import Any

import pytest

from tagferry import __version__, bounds
from tagferry.errors import Corrupt, NotFound, Refused, TooLarge, Unavailable, Unsupported
from tagferry.names import Digest, RepositoryName, Tag
from tagferry.oci.images import BlobOutcome
from tagferry.oci.model import OCI_INDEX, OCI_MANIFEST
from tagferry.remote import Credentials, Endpoint, RemoteStore, Retry
from tests.support.docker_registry import PASSWORD, USERNAME, docker_registry
from tests.support.images import artifact, blob, image, opening, push, read
from tests.support.scripted_registry import Asked, Reply, ScriptedRegistry, error, said, scripted_registry
from tests.unit.remote.conftest import Opening

APP, LATEST = RepositoryName("team/app"), Tag("latest")
USER = Credentials(username="u", password="p")
UPLOADS = "/v2/team/app/blobs/uploads/"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory):
    with docker_registry(tmp_path_factory.mktemp("guarded"), auth=True) as registry:
        yield registry


async def test_a_blob_costs_one_post_and_one_put_at_a_real_registry(tmp_path: Path):
    content = secrets.token_bytes(1_000_000)
    with docker_registry(tmp_path) as registry:
        store = RemoteStore(Endpoint(name="r", url=registry.url))
        await store.write_blob(APP, blob(content), opening(content))
        uploaded = await registry.requests()
        registry.forget_requests()
        await store.write_blob(APP, blob(content), opening(content))
        present = await registry.requests()
        await store.close()

    assert [(seen.method, seen.status) for seen in uploaded] == [("POST", 202), ("PUT", 201)]
    assert [(seen.method, seen.status) for seen in present] == [("POST", 201)]


async def test_a_real_registry_need_not_read_a_manifest_that_is_known(tmp_path: Path):
    sample, other = image(), image(seed="other")
    with docker_registry(tmp_path) as registry:
        store = RemoteStore(Endpoint(name="r", url=registry.url))
        await push(store, APP, sample, LATEST)
        registry.forget_requests()
        found = [await store.head_manifest(APP, LATEST, known=known.manifest.descriptor) for known in (sample, other)]
        statuses = [seen.status for seen in await registry.requests()]
        await store.close()

    assert found == [sample.manifest.descriptor] * 2
    assert statuses == [304, 200]


def emptied_links(folder: Path) -> dict[Path, str]:
    """Empty the files that link blobs to a repository of docker-registry; return their contents."""
    links = {link: link.read_text() for link in folder.rglob("_layers/sha256/*/link")}
    for link in links:
        link.write_text("")
    return links


async def test_a_put_that_races_with_a_rewritten_blob_link_is_retried(tmp_path: Path):
    sample = image()
    with docker_registry(tmp_path) as registry:
        written: dict[Path, str] = {}

        async def written_to_its_end(_seconds: float) -> None:
            for link, content in written.items():
                link.write_text(content)

        retry = Retry(attempts=2, sleep=written_to_its_end)
        store = RemoteStore(Endpoint(name="r", url=registry.url), retry=retry)
        await push(store, APP, sample, LATEST)
        written |= emptied_links(tmp_path)
        registry.forget_requests()
        await store.put_manifest(APP, sample.manifest, Tag("again"))
        asked = await registry.requests()
        await store.close()

    assert len(written) == len(sample.all_blobs)
    assert [seen.kind for seen in asked] == ["PUT manifest 400", "PUT manifest 201"]


async def test_a_success_with_another_digest_is_rejected(script: ScriptedRegistry, store: RemoteStore):
    known = image().manifest.descriptor
    digest = image(seed="other").digest
    script.on("HEAD", "/v2/team/app/manifests/latest", Reply(status=304, headers={"Docker-Content-Digest": digest}))

    with pytest.raises(Corrupt, match=f"reports the digest {digest} instead of {known.digest}"):
        await store.head_manifest(APP, LATEST, known=known)
    assert script.asked[0].headers["If-None-Match"] == f'"{known.digest}"'


async def test_a_server_cannot_accept_what_was_not_sent(script: ScriptedRegistry, store: RemoteStore):
    script.always("HEAD", "/v2/team/app/manifests/latest", Reply(status=304))

    with pytest.raises(Unavailable, match="answered 304 when asked to find manifest team/app:latest"):
        await store.head_manifest(APP, LATEST)
    assert "If-None-Match" not in script.asked[0].headers


async def test_credentials_are_asked_for_once(guarded):
    store = RemoteStore(
        Endpoint(name="r", url=guarded.url, credentials=Credentials(username=USERNAME, password=PASSWORD))
    )
    guarded.forget_requests()
    await push(store, APP, image(b"one", b"two"), LATEST)
    await store.close()

    statuses = [seen.status for seen in await guarded.requests()]
    assert statuses == [401, 202, 201, 202, 201, 202, 201, 201]


@pytest.mark.parametrize("credentials", [None, Credentials(username=USERNAME, password="wrong")])
async def test_a_missing_client_certificate_is_reported(guarded, credentials: Credentials | None):
    store = RemoteStore(Endpoint(name="hub", url=guarded.url, credentials=credentials))
    with pytest.raises(Refused, match="hub"):
        await store.get_manifest(APP, LATEST)
    await store.close()


def bearer_protected(script: ScriptedRegistry, reply: Reply) -> Reply:
    """Make a path require a token, which the script issues at /token."""

    def answer(asked: Asked) -> Reply:
        if asked.headers.get("Authorization") == "Bearer good":
            return reply
        challenge = f'Bearer realm="{script.url}/token",service="s"'
        return error(401, "UNAUTHORIZED", headers={"WWW-Authenticate": challenge})

    return answer  # type: ignore[return-value]


async def test_later_requests_carry_their_token_at_once(script: ScriptedRegistry, opened: Opening):
    script.always("GET", "/token", said({"token": "good"}))
    script.always("GET", "/v2/*", bearer_protected(script, said({"tags": ["a"]})))
    store = opened(credentials=USER)

    for _ in range(3):
        assert [tag async for tag in store.list_tags(APP)] == ["a"]

    tags = "GET /v2/team/app/tags/list"
    assert script.lines() == ["GET /v2/", "GET /token", tags, tags, tags]
    assert script.asked[1].query == "service=s&scope=repository%3Ateam%2Fapp%3Apull"


async def test_a_token_server_that_refuses_is_named(script: ScriptedRegistry, opened: Opening):
    script.always("GET", "/token", error(401, "UNAUTHORIZED", "bad password"))
    script.always("GET", "/v2/*", bearer_protected(script, Reply()))

    with pytest.raises(Refused, match=r"issue a token at http.*/token"):
        await opened(credentials=USER).get_manifest(APP, LATEST)


async def test_a_mount_asks_for_both_scopes(script: ScriptedRegistry, opened: Opening):
    script.always("GET", "/token", said({"token": "good"}))
    script.always("GET", "/v2/", bearer_protected(script, Reply()))
    script.always("POST", UPLOADS, bearer_protected(script, Reply(status=201)))

    outcome = await opened(credentials=USER).write_blob(
        APP, blob(b"x"), opening(b"x"), mount_from=RepositoryName("other/app")
    )

    assert outcome is BlobOutcome.MOUNTED
    assert script.lines() == ["GET /v2/", "GET /token", f"POST {UPLOADS}"]
    query = script.asked[1].query
    assert "scope=repository%3Ateam%2Fapp%3Apull%2Cpush" in query
    assert "scope=repository%3Aother%2Fapp%3Apull" in query


async def test_an_existing_blob_is_not_sent_if_its_mount_from_another_repository_fails(
    script: ScriptedRegistry, opened: Opening
):
    session = f"{UPLOADS}1"
    script.always("POST", UPLOADS, Reply(status=202, headers={"Location": session}))
    script.always("HEAD", f"/v2/team/app/blobs/{blob(b'x').digest}", Reply())
    script.always("DELETE", session, Reply(status=204))

    outcome = await opened().write_blob(APP, blob(b"x"), opening(b"x"), mount_from=RepositoryName("gone/app"))

    assert outcome is BlobOutcome.PRESENT
    assert [asked.method for asked in script.asked] == ["POST", "HEAD", "DELETE"]


async def test_a_redirect_to_another_host_is_followed_without_the_credentials(
    script: ScriptedRegistry, opened: Opening
):
    content = b"from the storage"
    async with scripted_registry() as storage:
        storage.always("GET", "/signed", Reply(body=content))
        location = f"{storage.url}/signed?Signature=a%2Fb%3D"
        challenge = Reply(status=401, headers={"WWW-Authenticate": "Basic realm=x"})
        script.on("GET", "/v2/*", challenge, Reply(status=307, headers={"Location": location}))

        assert await read(opened(credentials=USER), APP, blob(content)) == content

        assert "Authorization" in script.asked[1].headers
        assert "Authorization" not in storage.asked[0].headers
        assert storage.asked[0].query == "Signature=a%2Fb%3D"


async def test_redirect_loops_end(script: ScriptedRegistry, opened: Opening):
    script.always("GET", "/v2/*", Reply(status=307, headers={"Location": "/v2/again"}))

    with pytest.raises(Unavailable, match="redirected more than 5 times"):
        await read(opened(attempts=1), APP, blob(b"x"))


async def test_an_upload_session_elsewhere_does_not_see_the_credentials(script: ScriptedRegistry, opened: Opening):
    async with scripted_registry() as storage:
        storage.always("PUT", "/session", Reply(status=201))
        challenge = Reply(status=401, headers={"WWW-Authenticate": "Basic realm=x"})
        script.on("POST", UPLOADS, challenge, Reply(status=202, headers={"Location": f"{storage.url}/session"}))

        await opened(credentials=USER).write_blob(APP, blob(b"x"), opening(b"x"))

        assert "Authorization" not in storage.asked[0].headers


async def test_every_request_has_a_user_agent(script: ScriptedRegistry, store: RemoteStore):
    script.always("GET", "/v2/", Reply())

    await store.ping()

    assert script.asked[0].headers["User-Agent"] == f"tagferry/{__version__}"


async def test_head_replaces_self_mounts_once_they_are_inconclusive(script: ScriptedRegistry, store: RemoteStore):
    session = Reply(status=202, headers={"Location": f"{UPLOADS}s"})
    script.on("POST", UPLOADS, error(400, "NAME_INVALID"), session, session)
    script.always("PUT", f"{UPLOADS}s", Reply(status=201))

    for content in (b"one", b"two"):
        await store.write_blob(APP, blob(content), opening(content))

    assert [asked.method for asked in script.asked] == ["POST", "HEAD", "POST", "PUT", "HEAD", "POST", "PUT"]


async def test_a_blob_that_is_too_large_for_one_request_goes_in_parts(script: ScriptedRegistry, opened: Opening):
    content = secrets.token_bytes(25)
    headers = {"Location": f"{UPLOADS}s?state=0", "OCI-Chunk-Min-Length": "10"}
    script.always("POST", UPLOADS, Reply(status=202, headers=headers))
    script.on("PUT", f"{UPLOADS}s", Reply(status=413))
    script.always("DELETE", f"{UPLOADS}s", Reply(status=204))
    for number in (1, 2, 3):
        script.on("PATCH", "*", Reply(status=202, headers={"Location": f"{UPLOADS}s?state={number}"}))
    script.on("PUT", f"{UPLOADS}s", Reply(status=201))

    await opened(chunk_size=4).write_blob(APP, blob(content), opening(content, chunk=7))

    patches = [asked for asked in script.asked if asked.method == "PATCH"]
    assert [patch.headers["Content-Range"] for patch in patches] == ["0-9", "10-19", "20-24"]
    assert b"".join(patch.body for patch in patches) == content
    assert [patch.query for patch in patches] == ["state=0", "state=1", "state=2"]
    assert script.asked[-1].query.startswith("state=3&digest=sha256%3A")


async def test_an_early_refusal_of_a_large_upload_is_understood(script: ScriptedRegistry, opened: Opening):
    content = bytes(3_000_000)
    script.always("POST", UPLOADS, Reply(status=202, headers={"Location": f"{UPLOADS}s"}))
    script.always("PUT", f"{UPLOADS}s", error(403, "DENIED", "quota exceeded", unread=True))

    with pytest.raises((Refused, Unavailable)):
        await opened(attempts=1).write_blob(APP, blob(content), opening(content))


async def test_a_registry_that_stores_another_digest_is_detected(script: ScriptedRegistry, store: RemoteStore):
    other = {"Docker-Content-Digest": Digest.of(b"else")}
    script.always("POST", UPLOADS, Reply(status=202, headers={"Location": f"{UPLOADS}s"}))
    script.always("PUT", "*", Reply(status=201, headers=other))

    with pytest.raises(Corrupt):
        await store.write_blob(APP, blob(b"x"), opening(b"x"))
    with pytest.raises(Corrupt):
        await store.put_manifest(APP, image().manifest, LATEST)


async def test_a_manifest_whose_bytes_do_not_match_is_corrupt(script: ScriptedRegistry, store: RemoteStore):
    raw = image().manifest.raw
    typed = {"Content-Type": OCI_MANIFEST}
    script.always("GET", "*/latest", Reply(body=raw, headers={**typed, "Docker-Content-Digest": Digest.of(b"else")}))
    script.always("GET", "*sha256*", Reply(body=raw, headers=typed))

    with pytest.raises(Corrupt, match=r"^registry script returned manifest .* but other bytes; try again"):
        await store.get_manifest(APP, LATEST)
    with pytest.raises(Corrupt, match=r"^registry script holds wrong bytes: manifest .*; push the image there again$"):
        await store.get_manifest(APP, Digest.of(b"else"))


async def test_the_registry_that_lacks_a_part_of_an_image_is_named(script: ScriptedRegistry, store: RemoteStore):
    script.always("GET", "*", error(404, "MANIFEST_UNKNOWN"))

    with pytest.raises(NotFound, match=r"does not exist; registry script lacks it; push the image there again$"):
        await store.get_manifest(APP, Digest.of(b"else"))
    with pytest.raises(NotFound, match=r"does not exist; registry script lacks it; push the image there again$"):
        await read(store, APP, blob(b"x"))


@pytest.mark.parametrize("document", [{"errors": []}, {"tags": ["v1"]}, {}, {"status": "ok"}])
async def test_a_document_that_is_not_a_manifest_is_not_conclusive_about_a_tag(
    script: ScriptedRegistry, store: RemoteStore, document: dict[str, Any]
):
    script.always("HEAD", f"/v2/{APP}/manifests/v1", Reply(headers={"Content-Type": "application/json"}))
    script.always("GET", f"/v2/{APP}/manifests/v1", said(document, headers={"Content-Type": "application/json"}))

    with pytest.raises(Unavailable, match="answered with no manifest"):
        await store.head_manifest(APP, Tag("v1"), confirm_missing=True)


async def test_a_manifest_beyond_the_limit_is_not_read(script: ScriptedRegistry, store: RemoteStore):
    script.always("GET", "/v2/*", Reply(body=bytes(bounds.MANIFEST_BYTES + 1), headers={"Content-Type": OCI_MANIFEST}))

    with pytest.raises(TooLarge):
        await store.get_manifest(APP, LATEST)


async def test_head_falls_back_to_get_where_the_digest_is_left_out(script: ScriptedRegistry, store: RemoteStore):
    manifest = image().manifest
    typed = {"Content-Type": OCI_MANIFEST}
    script.always("HEAD", "/v2/*", Reply(headers={**typed, "Content-Length": str(manifest.size)}))
    script.always("GET", "/v2/*", Reply(body=manifest.raw, headers=typed))

    assert await store.head_manifest(APP, LATEST) == manifest.descriptor


async def test_a_server_without_ranges_is_read_from_the_offset_all_the_same(
    script: ScriptedRegistry, store: RemoteStore
):
    content = secrets.token_bytes(500_000)
    script.always("GET", "/v2/*", Reply(body=content))

    assert await read(store, APP, blob(content), offset=400_001) == content[400_001:]
    assert script.asked[0].headers["Range"] == "bytes=400001-"


@pytest.mark.parametrize("relative", [True, False])
async def test_tags_come_in_pages(script: ScriptedRegistry, store: RemoteStore, relative: bool):
    path = "/v2/team/app/tags/list"
    start = "" if relative else script.url
    link = {"Link": f'<{start}{path}?n=2&last=b>; rel="next"'}
    script.on("GET", path, said({"tags": ["c", "b"]}, headers=link), said({"tags": ["a"]}))

    assert [tag async for tag in store.list_tags(APP)] == ["a", "b", "c"]
    assert script.asked[1].query == "n=2&last=b"


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/v2/x", "/v2/team/app/tags/list?n=1000"])
async def test_an_invalid_next_page_link_is_not_followed(script: ScriptedRegistry, store: RemoteStore, target: str):
    script.always("GET", "/v2/team/app/tags/list", said({"tags": []}, headers={"Link": f"<{target}>; rel=next"}))

    with pytest.raises(Unavailable, match=r"invalid next-page link|not http or https"):
        _ = [tag async for tag in store.list_tags(APP)]
    assert len(script.asked) == 1


@pytest.mark.parametrize("status", [401, 403, 404, 405])
async def test_a_registry_may_refuse_its_catalog(script: ScriptedRegistry, store: RemoteStore, status: int):
    script.always("GET", "/v2/_catalog", Reply(status=status))

    with pytest.raises(Unsupported):
        _ = [name async for name in store.list_repositories()]


async def test_the_referrers_api_is_asked_first_and_filtered_here(script: ScriptedRegistry, store: RemoteStore):
    subject = image()
    signature = artifact(subject=subject.manifest)
    other = artifact(subject=subject.manifest, artifact_type="other/type")
    path = f"/v2/team/app/referrers/{subject.digest}"
    pages = [{"manifests": [entry.manifest.referrer_descriptor.to_json()]} for entry in (signature, other)]
    link = {"Link": f'<{path}?next=1>; rel="next"'}
    script.on("GET", path, said(pages[0], headers=link), said(pages[1]))

    found = await store.list_referrers(APP, subject.digest, "other/type")

    assert [entry.digest for entry in found] == [other.digest]
    assert script.lines() == [f"GET {path}"] * 2


@pytest.mark.parametrize(
    ("headers", "besides"),
    [({"OCI-Tag": "stable, v1"}, []), ({}, ["/v2/team/app/manifests/v1?"])],
    ids=["takes tags along", "does not"],
)
async def test_a_tag_of_another_algorithm_is_sent_with_its_digest_if_the_registry_supports_it(
    script: ScriptedRegistry, store: RemoteStore, headers: dict[str, str], besides: list[str]
):
    manifest = image(algorithm="sha512").manifest
    script.always("PUT", "/v2/*", Reply(status=201, headers=headers))

    await store.put_manifest(APP, manifest, Tag("v1"))

    asked = [f"{one.path}?{one.query}" for one in script.asked]
    assert asked == [f"/v2/team/app/manifests/{manifest.digest}?tag=v1", *besides]


async def test_a_registry_that_notes_the_subject_needs_no_index(script: ScriptedRegistry, store: RemoteStore):
    signature = artifact(subject=image().manifest)
    script.always("PUT", "/v2/*", Reply(status=201, headers={"OCI-Subject": str(image().digest)}))

    await store.put_manifest(APP, signature.manifest)

    assert [asked.method for asked in script.asked] == ["PUT"]


async def test_entries_of_others_in_the_index_of_referrers_are_kept(script: ScriptedRegistry, store: RemoteStore):
    subject = image()
    foreign = {**image(seed="foreign").manifest.descriptor.to_json(), "x-unknown": 1}
    tag = f"/v2/team/app/manifests/sha256-{subject.digest.encoded}"
    old = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [foreign]}
    script.on("GET", tag, said(old, headers={"Content-Type": OCI_INDEX}))
    script.always("PUT", "/v2/*", Reply(status=201))

    await store.put_manifest(APP, artifact(subject=subject.manifest).manifest)

    assert script.lines()[-1] == f"PUT {tag}"
    assert b'"x-unknown":1' in script.asked[-1].body
    assert script.asked[-1].body.count(b'"digest"') == 2


async def test_credentials_are_sent_as_basic_pairs(script: ScriptedRegistry, opened: Opening):
    script.on("GET", "/v2/", Reply(status=401, headers={"WWW-Authenticate": "Basic realm=x"}), Reply())

    await opened(credentials=Credentials(username="ü", password="p:q")).ping()

    assert base64.b64decode(script.asked[1].headers["Authorization"].removeprefix("Basic ")).decode() == "ü:p:q"


@pytest.mark.parametrize(
    ("reply", "size"),
    [
        (Reply(status=206, headers={"Content-Range": "bytes 0-0/123"}, body=b"x"), 123),
        (Reply(status=200, body=bytes(77)), 77),
        (Reply(status=404), None),
    ],
)
async def test_a_registry_that_leaves_the_size_out_of_head_is_asked_for_one_byte(
    script: ScriptedRegistry, store: RemoteStore, reply: Reply, size: int | None
):
    digest = Digest.of(b"content")
    script.always("HEAD", f"/v2/team/app/blobs/{digest}", Reply(headers={"Transfer-Encoding": "chunked"}))
    script.always("GET", f"/v2/team/app/blobs/{digest}", reply)

    assert await store.stat_blob(APP, digest) == size
    assert script.asked[-1].headers["Range"] == "bytes=0-0"


async def test_a_registry_that_reports_no_size_is_named(script: ScriptedRegistry, store: RemoteStore):
    digest = Digest.of(b"content")
    script.always("HEAD", f"/v2/team/app/blobs/{digest}", Reply(headers={"Transfer-Encoding": "chunked"}))
    script.always("GET", f"/v2/team/app/blobs/{digest}", Reply(status=206, body=b"x"))

    with pytest.raises(Unavailable, match="registry script reported no size"):
        await store.stat_blob(APP, digest)
