"""A guarded tag is looked at before its manifest is sent a second time."""

import base64

import pytest

from tagferry.errors import Conflict, TagferryError, Unavailable
from tagferry.names import Digest, RepositoryName, Tag
from tagferry.oci.model import Manifest
from tagferry.remote import Credentials, RemoteStore
from tests.support.images import image
from tests.support.scripted_images import hold_manifest
from tests.support.scripted_registry import Asked, Reply, ScriptedRegistry, error
from tests.unit.remote.conftest import Opening

APP, V1 = RepositoryName("team/app"), Tag("v1")
MINE, OTHER = image().manifest, image(seed="other").manifest
AT_V1 = "/v2/team/app/manifests/v1"
UNTAKEN = {
    "reset": Reply(drop=True),
    "500": Reply(status=500),
    "502": Reply(status=502),
    "503": Reply(status=503, headers={"Retry-After": "1"}),
    "504": Reply(status=504),
    "429": Reply(status=429, headers={"Retry-After": "1"}),
    "read too early": error(400, "DIGEST_INVALID"),
}
REFUSED = {
    "400": error(400, "TAG_INVALID", "the tag is immutable"),
    "403": error(403, "DENIED", "the tag is immutable"),
    "405": error(405, "UNSUPPORTED", "the tag is immutable"),
    "409": error(409, "CONFLICT", "the tag is immutable"),
    "412": error(412, "PRECONDITION", "the tag is immutable"),
    "422": error(422, "UNPROCESSABLE", "the tag is immutable"),
}
UNAUTHORIZED = {
    "asks first now": error(401, "UNAUTHORIZED", headers={"WWW-Authenticate": 'Basic realm="r"'}),
    "refuses": error(403, "DENIED"),
    "refuses without asking": error(401, "UNAUTHORIZED"),
}
CREDENTIALS = Credentials(username="u", password="p")


async def put(store: RemoteStore, *, override: bool = False, seen: Digest | None = None) -> None:
    await store.put_manifest(APP, MINE, V1, override=override, seen=seen)


def methods(script: ScriptedRegistry) -> list[str]:
    return [asked.method for asked in script.asked if asked.path == AT_V1]


@pytest.mark.parametrize("untaken", UNTAKEN.values(), ids=UNTAKEN)
async def test_a_tag_that_others_wrote_between_two_attempts_is_not_taken(
    script: ScriptedRegistry, store: RemoteStore, untaken: Reply
):
    script.on("PUT", AT_V1, untaken)
    script.always("PUT", AT_V1, Reply(status=201))
    hold_manifest(script, APP, OTHER, V1)

    with pytest.raises(Conflict, match="team/app:v1"):
        await put(store)

    assert methods(script).count("PUT") == 1


@pytest.mark.parametrize("untaken", UNTAKEN.values(), ids=UNTAKEN)
async def test_a_tag_that_only_get_finds_is_not_taken(script: ScriptedRegistry, store: RemoteStore, untaken: Reply):
    script.on("PUT", AT_V1, untaken)
    script.always("PUT", AT_V1, Reply(status=201))
    script.always("GET", AT_V1, Reply(body=OTHER.raw, headers={"Content-Type": OTHER.media_type}))

    with pytest.raises(Conflict):
        await put(store)

    assert methods(script) == ["PUT", "HEAD", "GET"]


@pytest.mark.parametrize("untaken", UNTAKEN.values(), ids=UNTAKEN)
@pytest.mark.parametrize("standing", [None, OTHER, MINE], ids=["free", "as it was seen", "already written"])
async def test_a_tag_that_is_as_it_was_seen_is_written(
    script: ScriptedRegistry, store: RemoteStore, untaken: Reply, standing: Manifest | None
):
    script.on("PUT", AT_V1, untaken)
    script.always("PUT", AT_V1, Reply(status=201))
    if standing is not None:
        hold_manifest(script, APP, standing, V1)

    await put(store, seen=OTHER.digest)

    assert methods(script).count("PUT") == (1 if standing is MINE else 2)


async def test_a_tag_that_may_be_taken_is_not_looked_at_after_a_refused_request(
    script: ScriptedRegistry, store: RemoteStore
):
    script.on("PUT", AT_V1, UNTAKEN["429"], Reply(status=201))
    hold_manifest(script, APP, OTHER, V1)

    await put(store, override=True)

    assert methods(script) == ["PUT", "PUT"]


@pytest.mark.parametrize("look", [Reply(status=503), Reply(status=403), Reply(drop=True)], ids=["503", "403", "reset"])
async def test_nothing_is_sent_again_while_the_tag_cannot_be_looked_up(
    script: ScriptedRegistry, store: RemoteStore, look: Reply
):
    script.on("PUT", AT_V1, Reply(status=503))
    script.always("PUT", AT_V1, Reply(status=201))
    for method in ("HEAD", "GET"):
        script.always(method, AT_V1, look)

    with pytest.raises(TagferryError):
        await put(store)

    assert methods(script).count("PUT") == 1


async def test_a_tag_that_can_be_seen_again_is_written(script: ScriptedRegistry, store: RemoteStore):
    script.on("PUT", AT_V1, Reply(status=503), Reply(status=201))
    script.on("HEAD", AT_V1, Reply(status=503))

    await put(store)

    assert methods(script) == ["PUT", "HEAD", "HEAD", "GET", "PUT"]


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
async def test_an_immutable_tag_written_by_others_is_not_taken_for_a_refusal(
    script: ScriptedRegistry, store: RemoteStore, refused: Reply
):
    script.always("PUT", AT_V1, refused)
    hold_manifest(script, APP, OTHER, V1)

    with pytest.raises(Conflict, match="team/app:v1"):
        await put(store)


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
async def test_an_immutable_tag_that_others_wrote_with_the_same_image_is_there(
    script: ScriptedRegistry, store: RemoteStore, refused: Reply
):
    script.always("PUT", AT_V1, refused)
    hold_manifest(script, APP, MINE, V1)

    await put(store)


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
async def test_a_refusal_of_a_free_tag_is_the_registry_s(script: ScriptedRegistry, store: RemoteStore, refused: Reply):
    script.always("PUT", AT_V1, refused)

    with pytest.raises(TagferryError, match="the tag is immutable") as raised:
        await put(store)

    assert not isinstance(raised.value, Unavailable | Conflict)


def known_only(reply: Reply, unknown: Reply) -> "Reply":
    """A reply to authenticated callers; others get another one."""

    def answer(asked: Asked) -> Reply:
        return reply if "Authorization" in asked.headers else unknown

    return answer  # type: ignore[return-value]


@pytest.mark.parametrize("unauthorized", UNAUTHORIZED.values(), ids=UNAUTHORIZED)
async def test_a_tag_visible_only_to_the_writing_user_is_not_replaced(
    script: ScriptedRegistry, opened: Opening, unauthorized: Reply
):
    script.always("GET", "/v2/", Reply())
    script.always("PUT", AT_V1, known_only(Reply(status=201), unauthorized))
    there = Reply(
        body=OTHER.raw,
        headers={
            "Content-Type": OTHER.media_type,
            "Content-Length": str(OTHER.size),
            "Docker-Content-Digest": OTHER.digest,
        },
    )
    for method in ("HEAD", "GET"):
        script.always(method, AT_V1, known_only(there, Reply(status=404)))

    with pytest.raises(Conflict):
        await put(opened(credentials=CREDENTIALS))

    sent = [asked for asked in script.asked if asked.method == "PUT"]
    assert [asked.headers.get("Authorization") for asked in sent] == [None]


@pytest.mark.parametrize("unauthorized", UNAUTHORIZED.values(), ids=UNAUTHORIZED)
async def test_a_free_tag_is_written_as_the_writing_user(
    script: ScriptedRegistry, opened: Opening, unauthorized: Reply
):
    script.always("GET", "/v2/", Reply())
    script.always("PUT", AT_V1, known_only(Reply(status=201), unauthorized))

    await put(opened(credentials=CREDENTIALS))

    basic = f"Basic {base64.b64encode(b'u:p').decode()}"
    sent = [asked for asked in script.asked if asked.method == "PUT"]
    assert [asked.headers.get("Authorization") for asked in sent] == [None, basic]


@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_a_wrong_digest_in_a_header_is_not_taken_for_another_image(
    script: ScriptedRegistry, store: RemoteStore, method: str
):
    headers = {"Content-Type": MINE.media_type, "Docker-Content-Digest": OTHER.digest}
    script.on("PUT", AT_V1, Reply(status=500))
    if method == "HEAD":
        script.on("HEAD", AT_V1, Reply(headers={**headers, "Content-Length": str(MINE.size)}))
    else:
        script.on("HEAD", AT_V1, Reply(status=404))
        script.on("GET", AT_V1, Reply(body=MINE.raw, headers=headers))
    script.always("PUT", AT_V1, Reply(status=201))
    hold_manifest(script, APP, MINE, V1)

    await put(store)

    assert methods(script).count("PUT") <= 2
