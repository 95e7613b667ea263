import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

import pytest

from tagferry.errors import Refused, Unavailable, Unsupported
from tagferry.http.proxies import Proxy
from tagferry.remote import Credentials, Endpoint
from tagferry.remote.transport.auth import Authenticator, Refusal
from tagferry.remote.transport.challenges import Challenge, parse_challenges
from tagferry.remote.transport.endpoint import FixedCredentials
from tagferry.remote.transport.tokens import TokenRequest
from tests.support.clock import Clock

PULL = ("repository:team/app:pull",)
BEARER = 'Bearer realm="https://auth.registry.example/token",service="registry.example"'


class Door:
    """The registry's response to `GET /v2/` without an authorization."""

    def __init__(self, *offered: str) -> None:
        self.offered = list(offered)
        self.asked = 0

    async def __call__(self, repository: str) -> list[str]:
        self.asked += 1
        await asyncio.sleep(0)
        return self.offered


class TokenServer:
    """Answers each token request with a new token."""

    def __init__(self, **answer: object) -> None:
        self.asked: list[TokenRequest] = []
        self.answer = answer

    async def __call__(self, request: TokenRequest) -> bytes:
        self.asked.append(request)
        await asyncio.sleep(0)
        return json.dumps({"token": f"t{len(self.asked)}", **self.answer}).encode()


def authenticator(
    server: Callable[[TokenRequest], Awaitable[bytes]],
    clock: Clock | None = None,
    door: Door | None = None,
    **terms: object,
) -> Authenticator:
    endpoint = Endpoint(**{"name": "r", "url": "https://registry.example", **terms})  # type: ignore[arg-type]
    return Authenticator(endpoint, server, door or Door(), clock or Clock())


async def refused(
    auth: Authenticator,
    offered: str,
    sent: str | None = None,
    *,
    status: int = 401,
    scopes: tuple[str, ...] = PULL,
    rounds: int = 1,
) -> bool:
    """Report a refused request; return whether to send it again."""
    return await auth.reconsider(Refusal(status, [offered] if offered else [], scopes, sent, rounds))


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Basic", [Challenge("basic")]),
        ('Basic realm="a, b"', [Challenge("basic", {"realm": "a, b"})]),
        ("BASIC Realm=plain", [Challenge("basic", {"realm": "plain"})]),
        (
            'Bearer realm="https://a/t?x=1",service="s",scope="repository:a/b:pull,push"',
            [Challenge("bearer", {"realm": "https://a/t?x=1", "service": "s", "scope": "repository:a/b:pull,push"})],
        ),
        (
            'Basic realm="one", Bearer realm = "two" , service=three',
            [Challenge("basic", {"realm": "one"}), Challenge("bearer", {"realm": "two", "service": "three"})],
        ),
        (r'Bearer realm="a \"quoted\" one"', [Challenge("bearer", {"realm": 'a "quoted" one'})]),
        ("Negotiate, Basic realm=x", [Challenge("negotiate"), Challenge("basic", {"realm": "x"})]),
        (
            'Negotiate oRQwE/Ew==, NTLM TlRMTVNTUAAC/+, bEaReR realm="a",service=b',
            [Challenge("negotiate"), Challenge("ntlm"), Challenge("bearer", {"realm": "a", "service": "b"})],
        ),
        (
            'Digest qop="auth, auth-int",nonce=x==, Basic',
            [Challenge("digest", {"qop": "auth, auth-int", "nonce": "x=="}), Challenge("basic")],
        ),
        ("", []),
        ('="', []),
    ],
)
def test_challenges_are_read(header: str, expected: list[Challenge]):
    assert parse_challenges([header]) == expected


async def test_nothing_is_sent_before_the_registry_asks():
    assert await authenticator(TokenServer()).authorization(PULL) is None


async def test_a_token_is_asked_for_once_and_kept():
    server = TokenServer()
    auth = authenticator(server, credentials=Credentials(username="u", password="p"))
    assert await refused(auth, BEARER)

    values = await asyncio.gather(*(auth.authorization(PULL) for _ in range(20)))

    assert set(values) == {"Bearer t1"}
    assert len(server.asked) == 1
    asked = server.asked[0]
    assert (
        asked.url == "https://auth.registry.example/token?service=registry.example&scope=repository%3Ateam%2Fapp%3Apull"
    )
    assert asked.headers["Authorization"] == "Basic dTpw"


async def test_each_scope_has_a_token_of_its_own():
    server = TokenServer()
    auth = authenticator(server)
    await refused(auth, BEARER)

    assert await auth.authorization(PULL) == "Bearer t1"
    assert await auth.authorization((*PULL, "repository:other/app:pull")) == "Bearer t2"
    assert server.asked[1].url.count("scope=") == 2


@pytest.mark.parametrize(("lifetime", "still_good", "too_old"), [({}, 49, 51), ({"expires_in": 300}, 289, 291)])
async def test_a_token_is_renewed_shortly_before_it_expires(
    lifetime: dict[str, int], still_good: float, too_old: float
):
    server, clock = TokenServer(**lifetime), Clock()
    auth = authenticator(server, clock)
    await refused(auth, BEARER)
    await auth.authorization(PULL)

    clock.now = 1000 + still_good
    assert await auth.authorization(PULL) == "Bearer t1"
    clock.now = 1000 + too_old
    assert await auth.authorization(PULL) == "Bearer t2"


async def test_a_refused_token_is_replaced():
    auth = authenticator(TokenServer())
    await refused(auth, BEARER)
    old = await auth.authorization(PULL)

    assert await refused(auth, BEARER, old)
    assert await auth.authorization(PULL) == "Bearer t2"
    assert await refused(auth, BEARER, old), "a late refusal of the old token"
    assert await auth.authorization(PULL) == "Bearer t2"


async def test_a_scope_that_the_registry_requires_is_requested_from_then_on():
    server = TokenServer()
    auth = authenticator(server)
    await refused(auth, BEARER + ',scope="repository:team/app:pull,special"')

    await auth.authorization(PULL)

    assert "special" in server.asked[0].url


async def test_access_token_is_understood_too():
    auth = authenticator(TokenServer(token=None, access_token="other"))
    await refused(auth, BEARER)

    assert await auth.authorization(PULL) == "Bearer other"


async def test_an_identity_token_is_exchanged_by_post():
    server = TokenServer()
    auth = authenticator(server, credentials=Credentials(identity_token="long-lived"))
    await refused(auth, BEARER)

    assert await auth.authorization(PULL) == "Bearer t1"
    asked = server.asked[0]
    assert (asked.method, asked.url) == ("POST", "https://auth.registry.example/token")
    assert b"refresh_token=long-lived" in (asked.body or b"")
    assert b"grant_type=refresh_token" in (asked.body or b"")


async def test_a_token_server_that_takes_only_post_gets_the_password_by_it():
    asked: list[TokenRequest] = []

    async def post_only(request: TokenRequest) -> bytes:
        asked.append(request)
        if request.method == "GET":
            raise Unsupported("405")
        return b'{"access_token": "t"}'

    auth = authenticator(post_only, credentials=Credentials(username="u", password="p w"))
    assert await refused(auth, BEARER)

    assert await auth.authorization(PULL) == "Bearer t"
    form = parse_qs(asked[-1].body.decode())
    assert (form["grant_type"], form["username"], form["password"]) == (["password"], ["u"], ["p w"])
    assert (form["service"], form["scope"]) == (["registry.example"], [*PULL])
    assert asked[-1].is_secret


async def test_credentials_are_not_sent_in_clear_for_a_registry_that_is_encrypted():
    server = TokenServer()
    auth = authenticator(server, credentials=Credentials(username="u", password="p"))
    await refused(auth, BEARER.replace("https:", "http:"))

    with pytest.raises(Refused, match="without TLS"):
        await auth.authorization(PULL)
    assert server.asked == []


@pytest.mark.parametrize("scheme", ["http", "null", "ws"])
async def test_a_realm_with_a_wrong_scheme_is_requested_with_the_configured_one(scheme: str):
    server = TokenServer()
    auth = authenticator(
        server, url="https://registry.example:8443", credentials=Credentials(username="u", password="p")
    )
    await refused(auth, f'Bearer realm="{scheme}://registry.example/v2/_token?a=b",service="s"')

    assert await auth.authorization(PULL) == "Bearer t1"
    assert server.asked[0].url.startswith("https://registry.example:8443/v2/_token?a=b&service=s&")


async def test_basic_credentials_are_remembered_and_not_repeated_when_refused():
    auth = authenticator(TokenServer(), credentials=Credentials(username="u", password="p"))

    assert await refused(auth, "Basic realm=x")
    assert await auth.authorization(PULL) == "Basic dTpw"
    assert not await refused(auth, "Basic realm=x", "Basic dTpw")


async def test_basic_needs_credentials():
    auth = authenticator(TokenServer())

    assert not await refused(auth, "Basic realm=x")
    assert await auth.authorization(PULL) is None


@pytest.mark.parametrize(
    "holder",
    [
        Credentials(username="u", password="hidden", identity_token="hidden"),
        FixedCredentials(Credentials(username="u", password="hidden", identity_token="hidden")),
        Endpoint(name="r", url="https://r.example", proxy="http://u:hidden@proxy.example"),
        Proxy(("http", "proxy.example", 3128), "Basic hidden"),
        TokenRequest(method="POST", url="https://r.example", headers={}, body=b"hidden", is_secret=True),
    ],
)
def test_secrets_are_not_shown(holder: Any):
    assert "hidden" not in f"{holder} {holder!r}"


@pytest.mark.parametrize(
    ("realm", "asked"),
    [
        ("/token", "https://registry.example/token?service=s&scope="),
        ("token?a=b", "https://registry.example/v2/token?a=b&service=s&scope="),
        ("//auth.registry.example/t#x", "https://auth.registry.example/t?service=s&scope="),
    ],
)
async def test_a_realm_may_be_relative_and_hold_a_query(realm: str, asked: str):
    server = TokenServer()
    auth = authenticator(server)

    await refused(auth, f'Bearer realm="{realm}",service="s"')
    await auth.authorization(PULL)

    assert server.asked[0].url.startswith(asked)


@pytest.mark.parametrize(
    "realm", ["ftp://auth.registry.example", "https://[broken", "https://auth.registry.example:port/", "mailto:a"]
)
async def test_a_realm_that_is_no_address_is_refused(realm: str):
    server = TokenServer()
    auth = authenticator(server)
    await refused(auth, f'Bearer realm="{realm}"')

    with pytest.raises(Refused, match="registry r"):
        await auth.authorization(PULL)
    assert server.asked == []


@pytest.mark.parametrize("lifetime", ["300", 300.0, "3e2"])
async def test_a_lifetime_may_be_text(lifetime: object):
    server, clock = TokenServer(expires_in=lifetime), Clock()
    auth = authenticator(server, clock)
    await refused(auth, BEARER)
    await auth.authorization(PULL)

    clock.now = 1000 + 289
    assert await auth.authorization(PULL) == "Bearer t1"


@pytest.mark.parametrize("lifetime", ["soon", -1, "", None, [], "inf", "nan", True])
async def test_a_lifetime_that_makes_no_sense_is_the_shortest(lifetime: object):
    server, clock = TokenServer(expires_in=lifetime), Clock()
    auth = authenticator(server, clock)
    await refused(auth, BEARER)
    await auth.authorization(PULL)

    clock.now = 1000 + 51
    assert await auth.authorization(PULL) == "Bearer t2"


@pytest.mark.parametrize(
    ("age", "still_good"), [(100, 180), (0, 280), (400, 280), (-3600, 280)], ids=["old", "new", "older", "from later"]
)
async def test_a_token_that_was_kept_by_its_server_lives_for_what_is_left(age: float, still_good: float):
    issued = datetime.now(UTC) - timedelta(seconds=age)
    server, clock = TokenServer(expires_in=300, issued_at=issued.isoformat()), Clock()
    auth = authenticator(server, clock)
    await refused(auth, BEARER)
    await auth.authorization(PULL)

    clock.now = 1000 + still_good
    assert await auth.authorization(PULL) == "Bearer t1"
    clock.now = 1000 + still_good + 15
    assert await auth.authorization(PULL) == "Bearer t2"


@pytest.mark.parametrize("answer", [b"[]", b"", b"<html>", b'{"token": ""}', b'{"token": "a b\\nc"}', b'{"token": 1}'])
async def test_a_token_server_that_gives_no_token_is_named(answer: bytes):
    async def serve(request: TokenRequest) -> bytes:
        return answer

    auth = authenticator(serve)
    await refused(auth, BEARER)

    with pytest.raises(Unavailable, match=r"the token server https://auth\.registry\.example/token"):
        await auth.authorization(PULL)
