"""The identity changes with the authorization under which content was read."""

import pytest

from tagferry.copy.engine import CopyEngine
from tagferry.copy.preflight import Verdict
from tagferry.copy.route import Route
from tagferry.errors import Refused
from tagferry.names import RepositoryName, Tag
from tagferry.remote import Credentials
from tests.support.clock import Clock
from tests.support.images import image, push
from tests.support.memory_store import MemoryStore
from tests.support.scripted_registry import Asked, Reply, ScriptedRegistry, error, said
from tests.support.token_registry import TokenRegistry
from tests.unit.remote.conftest import Opening
from tests.unit.remote.test_auth import BEARER, PULL, TokenServer, authenticator, refused

APP, V1 = RepositoryName("team/app"), Tag("v1")
NEW, OLD = image(seed="new"), image(seed="old")
USER = Credentials(username="u", password="p")


async def test_a_token_that_takes_the_place_of_one_that_has_expired_is_another_identity():
    clock = Clock()
    auth = authenticator(TokenServer(expires_in=60), clock, credentials=USER)
    assert await refused(auth, BEARER)
    first = await auth.authorization(PULL)
    before = auth.identities

    clock.now += 61
    assert await auth.authorization(PULL) != first
    assert auth.identities != before


async def test_a_token_that_takes_the_place_of_a_refused_one_is_another_identity():
    auth = authenticator(TokenServer(), credentials=USER)
    assert await refused(auth, BEARER)
    first = await auth.authorization(PULL)
    before = auth.identities

    assert await refused(auth, BEARER, sent=first)
    assert await auth.authorization(PULL) != first
    assert auth.identities != before


async def test_tokens_for_other_repositories_are_no_other_identity():
    auth = authenticator(TokenServer(), credentials=USER)
    assert await refused(auth, BEARER)
    await auth.authorization(PULL)
    before = auth.identities

    await auth.authorization(("repository:team/other:pull",))
    await auth.authorization(PULL)

    assert auth.identities == before


@pytest.mark.parametrize("tokens", [1, 2])
async def test_an_image_that_a_token_which_grants_nothing_hid_is_not_replaced(
    script: ScriptedRegistry, opened: Opening, tokens: int
):
    registry = TokenRegistry(script, hides=True)
    registry.hold(APP, V1, OLD)
    registry.grants = lambda user, scope: "" if len(registry.scopes) <= tokens else scope.rpartition(":")[2]
    source = MemoryStore()
    await push(source, APP, NEW, V1)

    outcome = await CopyEngine().copy(Route(source, APP, opened(credentials=USER), APP), V1, override=False)

    assert outcome.verdict is Verdict.BLOCKED
    assert registry.at(APP, V1) == OLD.digest


@pytest.mark.parametrize("refusal", [401, 403])
async def test_a_challenge_is_requested_at_a_repository_if_the_root_has_none(
    script: ScriptedRegistry, opened: Opening, refusal: int
):
    def write(asked: Asked) -> Reply:
        is_known = asked.headers.get("Authorization") == "Bearer t"
        return Reply(status=201) if is_known else error(refusal, "DENIED")

    challenge = {"WWW-Authenticate": f'Bearer realm="{script.url}/token",service="r"'}
    script.always("GET", "/token", said({"token": "t"}))
    script.always("GET", "/v2/", Reply(status=404))
    script.always("GET", "/v2/team/app/tags/list", error(401, "UNAUTHORIZED", headers=challenge))
    script.always("PUT", "/v2/team/app/manifests/*", write)
    store = opened(credentials=USER)

    await store.put_manifest(APP, NEW.manifest, V1)
    await store.put_manifest(APP, OLD.manifest, V1)

    assert script.lines().count("GET /v2/team/app/tags/list") == 1


async def test_a_challenge_at_a_repository_is_requested_again_after_a_token_failure(
    script: ScriptedRegistry, opened: Opening
):
    def write(asked: Asked) -> Reply:
        is_known = asked.headers.get("Authorization") == "Bearer t"
        return Reply(status=201) if is_known else error(401, "DENIED")

    challenge = {"WWW-Authenticate": f'Bearer realm="{script.url}/token",service="r"'}
    script.on("GET", "/token", Reply(status=500))
    script.always("GET", "/token", said({"token": "t"}))
    script.always("GET", "/v2/", Reply(status=404))
    script.always("GET", "/v2/team/app/tags/list", error(401, "UNAUTHORIZED", headers=challenge))
    script.always("PUT", "/v2/team/app/manifests/*", write)

    await opened(credentials=USER).put_manifest(APP, NEW.manifest, V1)

    assert script.lines().count("GET /v2/team/app/tags/list") == 2


async def test_a_registry_without_a_challenge_is_not_probed_for_each_refusal(script: ScriptedRegistry, opened: Opening):
    script.always("GET", "/v2/", Reply())
    script.always("PUT", "/v2/team/app/manifests/*", error(403, "DENIED"))
    store = opened(credentials=USER)

    for tag in ("v1", "v2", "v3"):
        with pytest.raises(Refused):
            await store.put_manifest(APP, NEW.manifest, Tag(tag))

    assert script.lines().count("GET /v2/team/app/tags/list") == 1
