"""Requests are authenticated before the first response that matters, with the permissions that are needed."""

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from tagferry.errors import Refused, Unavailable
from tagferry.names import RepositoryName, Tag
from tagferry.remote import Credentials, RemoteStore
from tests.support.certificates import Authority
from tests.support.images import blob, image, opening, push, read
from tests.support.scripted_proxy import scripted_proxy
from tests.support.scripted_registry import Asked, Reply, ScriptedRegistry, error, said, scripted_registry
from tests.support.token_registry import TokenRegistry
from tests.unit.remote.conftest import Opening, Pauses

APP, V1 = RepositoryName("team/app"), Tag("v1")
USER = Credentials(username="u", password="p")
SAMPLE = image()
PULL, BOTH = "repository:team/app:pull", "repository:team/app:pull,push"
MANIFEST = "/v2/team/app/manifests/v1"


def hide_from_the_anonymous(registry: TokenRegistry) -> None:
    registry.hides = True


def say_nothing_at_the_door(registry: TokenRegistry) -> None:
    registry.hides, registry.challenges, registry.basic = True, False, True


@pytest.mark.parametrize("kind", [hide_from_the_anonymous, say_nothing_at_the_door])
async def test_what_is_hidden_from_anonymous_readers_is_found_with_credentials(
    script: ScriptedRegistry, opened: Opening, kind: Callable[[TokenRegistry], None]
):
    registry = TokenRegistry(script)
    registry.hold(APP, V1, SAMPLE)
    kind(registry)
    store = opened(credentials=USER)

    found = await store.head_manifest(APP, V1)

    assert found is not None
    assert found.digest == SAMPLE.digest
    assert [tag async for tag in store.list_tags(APP)] == [V1]
    assert await opened().head_manifest(APP, V1) is None


async def test_anonymous_responses_do_not_count_while_another_request_learns_the_challenge(
    script: ScriptedRegistry, opened: Opening
):
    registry = TokenRegistry(script)
    registry.hold(APP, V1, SAMPLE)
    say_nothing_at_the_door(registry)
    store = opened(credentials=USER)

    found = await asyncio.gather(*(store.head_manifest(APP, V1) for _ in range(20)))

    assert {one.digest if one else None for one in found} == {SAMPLE.digest}


async def test_one_request_fetches_the_challenge_of_an_unavailable_registry_for_all(
    script: ScriptedRegistry, opened: Opening
):
    script.always("GET", "/v2/", Reply(status=503, delay=0.05))
    store = opened(credentials=USER, attempts=1)

    results = await asyncio.gather(*(store.head_manifest(APP, V1) for _ in range(20)), return_exceptions=True)

    assert {type(result) for result in results} == {Unavailable}
    assert script.lines() == ["GET /v2/"]


async def test_a_registry_is_asked_for_its_challenge_once(script: ScriptedRegistry, opened: Opening):
    registry = TokenRegistry(script)
    store = opened(credentials=USER)

    for tag in ("v1", "v2", "v3"):
        await store.head_manifest(APP, Tag(tag))

    assert script.lines()[:2] == ["GET /v2/", "GET /token"]
    assert script.lines().count("GET /v2/") == script.lines().count("GET /token") == 1
    assert registry.scopes == [PULL]


async def test_a_registry_without_credentials_is_not_asked_for_its_challenge(
    script: ScriptedRegistry, store: RemoteStore
):
    TokenRegistry(script, hides=True)

    await store.head_manifest(APP, V1)

    assert script.lines()[0] == f"HEAD {MANIFEST}"


async def test_a_registry_without_a_challenge_gets_the_password_anyway(script: ScriptedRegistry, opened: Opening):
    script.always("GET", "/v2/", Reply())
    store = opened(credentials=USER)

    assert [await store.head_manifest(APP, Tag(tag)) for tag in ("v1", "v2")] == [None, None]

    paths = [(asked.path[-2:], "Authorization" in asked.headers) for asked in script.asked]
    assert paths == [("2/", False), ("v1", False), ("v1", True), ("v2", True)]


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_challenge_request_that_fails_is_repeated(script: ScriptedRegistry, opened: Opening, status: int):
    registry = TokenRegistry(script, hides=True)
    registry.hold(APP, V1, SAMPLE)
    script.on("GET", "/v2/", error(status, "DOWN"))

    assert await opened(credentials=USER).head_manifest(APP, V1) is not None


@pytest.mark.parametrize("status", [403, 404, 405])
async def test_a_challenge_for_a_repository_is_used_if_the_root_has_none(
    script: ScriptedRegistry, opened: Opening, status: int
):
    registry = TokenRegistry(script)
    registry.hold(APP, V1, SAMPLE)
    script.on("GET", "/v2/", error(status, "UNSUPPORTED"))

    assert await opened(credentials=USER).head_manifest(APP, V1) is not None


async def test_an_identity_token_that_cannot_be_shown_is_no_proof_of_absence(script: ScriptedRegistry, opened: Opening):
    script.always("GET", "/v2/", Reply())

    with pytest.raises(Refused, match="configure a username and a password"):
        await opened(credentials=Credentials(identity_token="t")).head_manifest(APP, V1)


@pytest.mark.parametrize("credentials", [USER, None], ids=["user", "anonymous"])
@pytest.mark.parametrize("status", [0, 401, 404, 503])
async def test_a_new_token_server_is_noticed_once_the_old_one_fails(
    script: ScriptedRegistry, opened: Opening, status: int, credentials: Credentials | None
):
    registry = TokenRegistry(script)
    registry.grants = lambda user, scope: "pull"
    registry.hold(APP, V1, SAMPLE)
    registry.hold("team/other", V1, SAMPLE)
    store = opened(credentials=credentials)
    await store.head_manifest(APP, V1)

    registry.realm = f"{script.url}/tokens/new"
    script.always("GET", "/tokens/new", registry._give_token)
    # A pooled connection that breaks is replaced by a new one, which breaks, too.
    script.on("GET", "/token", *([Reply(drop=True)] * 2 if status == 0 else [error(status, "GONE")]))

    assert await store.head_manifest(RepositoryName("team/other"), V1) is not None
    assert "GET /tokens/new" in script.lines()


async def test_another_challenge_takes_the_place_of_the_first_one(script: ScriptedRegistry, opened: Opening):
    registry = TokenRegistry(script)
    registry.hold(APP, V1, SAMPLE)
    store = opened(credentials=USER)
    await store.head_manifest(APP, V1)

    registry.basic = True
    assert await store.head_manifest(APP, V1) is not None
    assert script.asked[-1].headers["Authorization"].startswith("Basic ")

    registry.basic = False
    assert await store.head_manifest(APP, V1) is not None
    assert script.asked[-1].headers["Authorization"].startswith("Bearer ")


async def test_a_target_is_asked_for_both_permissions_from_the_first_question_on(
    script: ScriptedRegistry, opened: Opening
):
    registry = TokenRegistry(script)
    registry.grants = lambda user, scope: scope.rpartition(":")[2] if scope == BOTH else ""
    store = opened(credentials=USER)

    assert await store.head_manifest(APP, V1, for_write=True) is None
    await push(store, APP, SAMPLE, V1)
    assert [tag async for tag in store.list_tags(APP)] == [V1]
    assert await store.list_referrers(APP, SAMPLE.digest) == []

    assert set(registry.scopes) == {BOTH}
    assert script.lines().count("GET /token") == 1


async def test_a_source_is_asked_for_permission_to_read_alone(script: ScriptedRegistry, opened: Opening):
    registry = TokenRegistry(script)
    registry.hold(APP, V1, SAMPLE)
    store = opened(credentials=USER)

    await store.get_manifest(APP, V1)
    for digest, content in SAMPLE.blobs.items():
        assert await read(store, APP, blob(content)) == registry.blobs[digest]

    assert registry.scopes == [PULL]


def refuse_the_token(registry: TokenRegistry) -> None:
    def give(asked: Asked) -> Reply:
        return error(403, "DENIED") if "push" in asked.query else registry._give_token(asked)

    registry.script.on("GET", "/token", give)


def refuse_the_request(registry: TokenRegistry) -> None:
    registry.grants = lambda user, scope: "" if "push" in scope else "pull"


@pytest.mark.parametrize("kind", [refuse_the_token, refuse_the_request])
async def test_a_target_that_may_only_be_read_can_be_looked_at(
    script: ScriptedRegistry, opened: Opening, kind: Callable[[TokenRegistry], None]
):
    registry = TokenRegistry(script)
    registry.hold(APP, V1, SAMPLE)
    kind(registry)
    store = opened(credentials=USER)

    assert await store.head_manifest(APP, V1, for_write=True) is not None
    assert await store.head_manifest(APP, Tag("v2"), for_write=True) is None


async def test_a_token_that_grants_too_little_is_answered_by_what_is_needed(script: ScriptedRegistry, opened: Opening):
    registry = TokenRegistry(script)
    registry.grants = lambda user, scope: "pull"
    store = opened(credentials=USER)
    await store.head_manifest(APP, V1, for_write=True)

    with pytest.raises(Refused, match='the user "u" needs permission to pull and push in "team/app"'):
        await store.write_blob(APP, blob(b"x"), opening(b"x"))


@pytest.mark.parametrize("misses", [True, False], ids=["HEAD misses", "HEAD finds"])
async def test_a_tag_is_certainly_missing_if_get_shows_it(script: ScriptedRegistry, opened: Opening, misses: bool):
    registry = TokenRegistry(script)
    registry.head_misses = misses
    registry.hold(APP, V1, SAMPLE)
    store = opened(credentials=USER)

    for _ in range(2):
        found = [await store.head_manifest(APP, Tag(tag), confirm_missing=True) for tag in ("v0", "v1", "v2")]
        assert [one.digest if one else None for one in found] == [None, SAMPLE.digest, None]

    asked = [f"{asked.method} {asked.path[-2:]}" for asked in script.asked if "manifests" in asked.path]
    first = ["HEAD v0", "GET v0", "GET v1", "GET v2"]
    again = ["GET v0", "HEAD v1", "GET v1", "GET v2"] if misses else ["GET v0", "HEAD v1", "HEAD v2"]
    assert asked == first + again


async def test_tags_are_described_and_parts_found_where_head_misses_them(script: ScriptedRegistry, opened: Opening):
    registry = TokenRegistry(script)
    registry.head_misses = True
    registry.hold(APP, V1, SAMPLE)
    store = opened(credentials=USER)

    assert [(record.tag, record.digest) for record in await store.describe_tags(APP)] == [(V1, SAMPLE.digest)]
    assert await store.head_manifest(APP, SAMPLE.digest, confirm_missing=True) == SAMPLE.manifest.descriptor
    assert await store.head_manifest(APP, image(seed="other").digest, confirm_missing=True) is None


async def test_a_token_server_that_is_busy_is_asked_again_as_often_as_a_registry(
    script: ScriptedRegistry, opened: Opening, pauses: Pauses
):
    registry = TokenRegistry(script)
    registry.hold(APP, V1, SAMPLE)
    script.on("GET", "/token", error(429, "TOOMANYREQUESTS", headers={"Retry-After": "2"}), error(502, "BAD"))

    assert await opened(attempts=3, credentials=USER).head_manifest(APP, V1) is not None
    assert pauses[0] >= 2

    script.always("GET", "/busy", error(503, "BUSY"))
    registry.realm = f"{script.url}/busy"
    script.asked.clear()
    with pytest.raises(Unavailable, match="503 BUSY when asked to issue a token"):
        await opened(attempts=3, credentials=USER).head_manifest(APP, V1)
    assert script.lines().count("GET /busy") == 3


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_token_server_may_redirect(script: ScriptedRegistry, opened: Opening, status: int):
    registry = TokenRegistry(script)
    registry.hold(APP, V1, SAMPLE)
    registry.realm = "/elsewhere?account=a"
    location = f"/token?account=a&service=s&scope={PULL}"
    script.always("GET", "/elsewhere", Reply(status=status, headers={"Location": location}))

    assert await opened(credentials=USER).head_manifest(APP, V1) is not None
    assert registry.scopes == [PULL]
    assert script.asked[1].query.startswith("account=a&service=s&scope=")


async def test_credentials_do_not_follow_a_token_server_to_another_host_in_clear(
    script: ScriptedRegistry, opened: Opening
):
    async with scripted_registry() as other:
        registry = TokenRegistry(script)
        script.on("GET", "/token", Reply(status=307, headers={"Location": f"{other.url}/token"}))
        registry.hold(APP, V1, SAMPLE)

        with pytest.raises(Refused, match="without TLS"):
            await opened(credentials=USER).head_manifest(APP, V1)
        assert other.asked == []


@pytest.mark.parametrize(
    ("goal", "may"),
    [
        ("auth.example.com:8443", True),
        ("eu.auth.example.com", True),
        ("registry.example.com", True),
        ("example.com", False),
        ("evil-auth.example.com", False),
        ("auth.example.com.evil.example", False),
        ("auth.example.com@evil.example", False),
    ],
)
@pytest.mark.parametrize("credentials", [USER, Credentials(identity_token="refresh")], ids=["user", "identity"])
async def test_credentials_follow_a_token_server_within_its_domain_only(
    tmp_path: Path, opened: Opening, credentials: Credentials, goal: str, may: bool
):
    host = goal.rpartition("@")[2]
    names = {"registry.example.com", "auth.example.com", host.partition(":")[0]}
    authority, context = Authority(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.issue(tmp_path / "server.pem", *names))
    async with scripted_registry(tls=context) as served, scripted_proxy() as proxy:
        proxy.hosts = dict.fromkeys([*(f"{name}:443" for name in names), host], served.url.partition("://")[2])
        realm = {"WWW-Authenticate": 'Bearer realm="https://auth.example.com/token"'}
        served.on("GET", "/v2/*", Reply(status=401, headers=realm))
        served.always("GET", "/v2/*", Reply(status=404))
        for method in ("GET", "POST"):
            served.always(method, "/token", Reply(status=307, headers={"Location": f"https://{goal}/goal"}))
            served.always(method, "/goal", said({"token": "t"}))
        store = opened(
            url="https://registry.example.com",
            proxy=proxy.url,
            ca_file=authority.write(tmp_path / "ca.pem"),
            credentials=credentials,
            attempts=1,
        )
        if may:
            assert await store.head_manifest(APP, V1) is None
        else:
            with pytest.raises(Refused, match=f"redirected to {host}, which may not receive the credentials"):
                await store.head_manifest(APP, V1)
    assert any(asked.path == "/goal" for asked in served.asked) is may


async def test_an_anonymous_request_for_a_token_may_be_redirected_anywhere(script: ScriptedRegistry, opened: Opening):
    async with scripted_registry() as other:
        registry = TokenRegistry(script)
        registry.grants = lambda user, scope: "pull"
        other.always("GET", "/token", registry._give_token)
        script.always(
            "GET",
            "/moved",
            lambda asked: Reply(status=307, headers={"Location": f"{other.url}/token?{asked.query}"}),
        )
        registry.realm = f"{script.url}/moved"
        registry.hold(APP, V1, SAMPLE)

        assert await opened().head_manifest(APP, V1) is not None


async def test_redirect_loops_of_a_token_server_end(script: ScriptedRegistry, opened: Opening):
    registry = TokenRegistry(script)
    registry.realm = f"{script.url}/circle"
    script.always("GET", "/circle", Reply(status=302, headers={"Location": "/circle"}))

    with pytest.raises(Unavailable, match="redirected more than 5 times when asked to issue a token"):
        await opened(attempts=1, credentials=USER).head_manifest(APP, V1)


async def test_a_redirect_target_may_require_its_own_anonymous_token(script: ScriptedRegistry, opened: Opening):
    async with scripted_registry() as other:
        guest = TokenRegistry(other)
        guest.grants = lambda user, scope: "pull"
        guest.hold("images/app", V1, SAMPLE)
        location = f"{other.url}/v2/images/app/manifests/v1"
        challenge = Reply(status=401, headers={"WWW-Authenticate": "Basic realm=x"})
        script.on("GET", "/v2/", challenge)
        script.always("GET", MANIFEST, Reply(status=307, headers={"Location": location}))
        store = opened(credentials=USER)

        for _ in range(2):
            assert (await store.get_manifest(APP, V1)).digest == SAMPLE.digest

        assert script.asked[1].headers["Authorization"].startswith("Basic ")
        assert other.lines().count("GET /token") == 1
        assert not any(asked.headers.get("Authorization", "").startswith("Basic") for asked in other.asked)


@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_a_refused_password_is_not_taken_for_a_missing_permission(
    script: ScriptedRegistry, opened: Opening, method: str
):
    script.always(method, "/*", Reply(status=401, headers={"WWW-Authenticate": "Basic realm=x"}))
    script.always("GET", "/v2/", Reply(status=401, headers={"WWW-Authenticate": "Basic realm=x"}))
    store = opened(credentials=USER)

    with pytest.raises(Refused, match='it does not accept the user "u": check the name and the password'):
        await (store.head_manifest(APP, V1) if method == "HEAD" else store.get_manifest(APP, V1))


async def test_a_redirect_target_does_not_get_the_credentials(script: ScriptedRegistry, opened: Opening):
    async with scripted_registry() as other:
        challenge = Reply(status=401, headers={"WWW-Authenticate": "Basic realm=x"})
        other.always("GET", "/*", challenge)
        script.on("GET", "/v2/", challenge)
        script.always("GET", MANIFEST, Reply(status=307, headers={"Location": f"{other.url}/m"}))

        with pytest.raises(Refused, match=r"redirected to 127\.0\.0\.1:\d+, which requires a username and a password"):
            await opened(credentials=USER).get_manifest(APP, V1)
        assert [asked.headers.get("Authorization") for asked in other.asked] == [None]


async def test_a_token_server_that_takes_no_post_is_asked_by_get(script: ScriptedRegistry, opened: Opening):
    registry = TokenRegistry(script)
    registry.hold(APP, V1, SAMPLE)
    registry.passwords = {"robot": "identity"}
    script.on("POST", "/token", error(405, "UNSUPPORTED"))
    credentials = Credentials(username="robot", identity_token="identity")

    assert await opened(credentials=credentials).head_manifest(APP, V1) is not None
    assert script.lines()[1:3] == ["POST /token", "GET /token"]


async def test_a_rotated_refresh_token_is_used_from_then_on(script: ScriptedRegistry, opened: Opening):
    registry = TokenRegistry(script)
    registry.hold(APP, V1, SAMPLE)
    bodies: list[bytes] = []

    def rotate(asked: Asked) -> Reply:
        bodies.append(asked.body)
        token = f"t9{len(bodies)}"
        registry._tokens[token] = f"{PULL} repository:team/other:pull"
        return said({"access_token": token, "refresh_token": "second", "expires_in": "300"})

    script.on("POST", "/token", *[rotate] * 2)
    store = opened(credentials=Credentials(identity_token="first"))
    await store.head_manifest(APP, V1)
    await store.head_manifest(RepositoryName("team/other"), V1)

    assert b"refresh_token=first" in bodies[0]
    assert b"refresh_token=second" in bodies[1]
