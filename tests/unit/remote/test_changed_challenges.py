"""A wrong or changed challenge is dropped: later requests succeed without a restart."""

import socket
from collections.abc import Callable

import pytest

from tagferry.errors import Refused, TagferryError
from tagferry.names import RepositoryName, Tag
from tagferry.remote import Credentials, RemoteStore
from tests.support.images import image
from tests.support.scripted_registry import Asked, Reply, ScriptedRegistry, error, said
from tests.support.token_registry import TokenRegistry
from tests.unit.remote.conftest import Opening

APP, OTHER, V1 = RepositoryName("team/app"), RepositoryName("team/other"), Tag("v1")
USER = Credentials(username="u", password="p")
SAMPLE = image()
MANIFEST = f"/v2/{OTHER}/manifests/v1"


@pytest.fixture
def registry(script: ScriptedRegistry) -> TokenRegistry:
    registry = TokenRegistry(script)
    registry.grants = lambda user, scope: "pull"
    registry.hold(APP, V1, SAMPLE)
    registry.hold(OTHER, V1, SAMPLE)
    return registry


def bearer(realm: str, **more: str) -> Reply:
    parameters = "".join(f',{name}="{value}"' for name, value in more.items())
    return Reply(status=401, headers={"WWW-Authenticate": f'Bearer realm="{realm}"{parameters}'})


def nowhere() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}/token"


WRONG: dict[str, Callable[[str], Reply]] = {
    "a realm that refuses connections": lambda url: bearer(nowhere()),
    "a realm that is missing": lambda url: bearer(f"{url}/wrong/missing"),
    "a realm that refuses": lambda url: bearer(f"{url}/wrong/refusing"),
    "a realm that is broken": lambda url: bearer(f"{url}/wrong/broken"),
    "a realm that gives no token": lambda url: bearer(f"{url}/wrong/page"),
    "a realm that gives a wrong token": lambda url: bearer(f"{url}/wrong/token"),
    "a realm that redirects away": lambda url: bearer(f"{url}/wrong/redirect"),
    "a realm over TLS that speaks none": lambda url: bearer(url.replace("http:", "https:") + "/token"),
    "a realm at a foreign host": lambda url: bearer("https://evil.example.org/token"),
    "a realm that is no URL": lambda url: bearer("ftp://[broken"),
    "another service": lambda url: bearer(f"{url}/wrong/refusing", service="other"),
    "a scope that no user gets": lambda url: bearer(f"{url}/token", service="s", scope="repository:secret/x:pull"),
    "a password": lambda url: Reply(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'}),
}


def make_wrong_servers(script: ScriptedRegistry) -> None:
    script.always("GET", "/wrong/missing", error(404, "NOT_FOUND"))
    script.always("GET", "/wrong/refusing", error(401, "UNAUTHORIZED"))
    script.always("GET", "/wrong/broken", error(503, "BROKEN"))
    script.always("GET", "/wrong/page", Reply(body=b"<html>", headers={"Content-Type": "text/html"}))
    script.always("GET", "/wrong/token", said({"token": "wrong"}))
    script.always("GET", "/wrong/redirect", Reply(status=307, headers={"Location": "http://localhost:1/token"}))


def refuse_the_secret(registry: TokenRegistry, script: ScriptedRegistry) -> None:
    """Make the token server refuse every request that includes one scope."""
    give = registry._give_token

    def answer(asked: Asked) -> Reply:
        return error(401, "UNAUTHORIZED") if "secret" in asked.query else give(asked)

    script._always = [one for one in script._always if one[:2] != ("GET", "/token")]
    script.always("GET", "/token", answer)


async def reads(store: RemoteStore) -> bool:
    return await store.head_manifest(OTHER, V1) is not None


@pytest.mark.parametrize("door", [True, False], ids=["asks at the door", "silent at the door"])
@pytest.mark.parametrize("credentials", [USER, None], ids=["user", "anonymous"])
@pytest.mark.parametrize("wrong", WRONG)
async def test_a_wrong_challenge_that_was_given_once_is_forgotten(
    script: ScriptedRegistry,
    opened: Opening,
    registry: TokenRegistry,
    wrong: str,
    credentials: Credentials | None,
    door: bool,
):
    registry.challenges = door
    make_wrong_servers(script)
    refuse_the_secret(registry, script)
    store = opened(credentials=credentials, attempts=3)
    assert await store.head_manifest(APP, V1) is not None
    right = len(script.asked)

    # A load balancer, or an ingress under maintenance, answers one request instead of the registry.
    script.on("HEAD", MANIFEST, WRONG[wrong](script.url))

    if wrong == "a password" and credentials is None:
        with pytest.raises(Refused, match="401"):
            await reads(store)
    assert await reads(store)
    assert len(script.asked) - right <= 12
    settled = len(script.asked)
    assert await reads(store)
    assert len(script.asked) == settled + 1


@pytest.mark.parametrize("wrong", WRONG)
async def test_a_wrong_first_challenge_is_forgotten(
    script: ScriptedRegistry, opened: Opening, registry: TokenRegistry, wrong: str
):
    make_wrong_servers(script)
    refuse_the_secret(registry, script)
    registry.challenges = False
    store = opened(credentials=USER, attempts=3)
    script.on("GET", "/v2/", WRONG[wrong](script.url))

    assert await reads(store)


async def test_an_identity_token_outlives_a_wrong_challenge_for_a_password(
    script: ScriptedRegistry, opened: Opening, registry: TokenRegistry
):
    script.on("POST", "/token", *[error(404, "NO_OAUTH2")] * 5)
    registry.passwords = {"<token>": "refresh"}
    script.on("GET", "/v2/", Reply(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'}))

    assert await reads(opened(credentials=Credentials(identity_token="refresh")))


async def test_required_scopes_are_bounded(script: ScriptedRegistry, opened: Opening, registry: TokenRegistry):
    """A registry that requires another scope each time must not make token requests longer and longer."""
    count = 0

    def insist(asked: Asked) -> Reply:
        nonlocal count
        count += 1
        return bearer(f"{script.url}/token", service="s", scope=f"repository:a/b{count}:pull {'x' * 5000}:{count}:y")

    script.on("HEAD", MANIFEST, *[insist] * 400)
    store = opened(credentials=USER, attempts=1)
    for _ in range(100):
        with pytest.raises(TagferryError):
            await reads(store)
    assert max(len(asked.query) for asked in script.asked) < 4096
