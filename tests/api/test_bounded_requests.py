"""No request costs more than what is right in it, before it is known who sent it and after."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tagferry import bounds
from tests.support.deployment import NORTH, Deployment, deployed

pytestmark = pytest.mark.asyncio(loop_scope="module")
TOKENS = "/v3/auth/tokens"
NAMESPACES = "/v2/manage/namespaces"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ferry(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    async with deployed(tmp_path_factory.mktemp("bounded")) as deployment:
        yield deployment


def identity(methods: bytes) -> bytes:
    return b'{"auth": {"identity": {"methods": ' + methods + b"}}}"


@pytest.mark.parametrize(
    "methods",
    [
        b"[" + b"1," * 500_000 + b"1]",
        b"[" + b"1," * 40_000 + b"1]",
        b"[" * 100_000,
        b"[" * 900 + b"]" * 900,
        b"9" * 100_000,
        b"[1e" + b"9" * 100_000 + b"]",
    ],
    ids=["values", "wrong values", "brackets", "depth", "digits", "exponent"],
)
async def test_a_body_that_nobody_signed_is_refused_in_a_few_words(ferry: Deployment, methods: bytes):
    answer = await ferry.http("POST", TOKENS, body=identity(methods), headers={"Content-Type": "application/json"})

    assert answer.refused()[0] == 400
    assert len(answer.content) < 4_000


async def test_of_many_wrong_elements_the_first_one_is_told(ferry: Deployment):
    answer = await ferry.http(
        "POST", TOKENS, body=identity(b'["password", 1, 2]'), headers={"Content-Type": "application/json"}
    )

    assert "auth.identity.methods[1] must be a string" in answer.refused()[2]
    assert len(answer.document["errors"]) == 1


@pytest.mark.parametrize("path", ["/" + "a" * 50_000, "/v2/manage" + "/a" * 20_000, f"{NAMESPACES}?" + "a&" * 20_000])
async def test_a_long_path_and_a_query_of_many_parameters_are_refused_unseen(ferry: Deployment, path: str):
    answer = await ferry.http("GET", path)

    assert answer.refused()[0] == 400
    assert len(answer.content) < 1_000


async def test_a_body_is_not_waited_for_where_nobody_may_have_sent_it(ferry: Deployment):
    sent = asyncio.Event()

    async def never_ends() -> AsyncIterator[bytes]:
        yield b"{"
        await sent.wait()

    for headers in (
        {},
        {"X-Auth-Token": "unknown"},
        {"Authorization": "SDK-HMAC-SHA256 Access=UNKNOWN, SignedHeaders=x-sdk-date, Signature=0"},
    ):
        asking = asyncio.create_task(ferry.http("POST", NAMESPACES, body=never_ends(), headers=headers))
        answer = await asyncio.wait_for(asking, 20)
        assert answer.refused()[0] == 401
    sent.set()


async def test_credentials_of_any_length_are_refused(ferry: Deployment):
    long = "x" * 7_000
    for path, headers in (
        (NAMESPACES, {"X-Auth-Token": long}),
        ("/v2/", {"Authorization": f"Bearer {long}"}),
        ("/v2/", {"Authorization": "Basic " + "eA==" * 1_700}),
    ):
        assert (await ferry.http("GET", path, headers=headers)).status == 401


async def test_a_password_has_a_longest_length(ferry: Deployment):
    headers = {"X-Auth-Token": await ferry.token(NORTH)}
    user = {"name": "longest", "password": "x" * (bounds.PASSWORD_CHARACTERS + 1), "domain_id": ""}
    answer = await ferry.http("POST", "/v3/users", body={"user": user}, headers=headers)
    assert "password must be at most 4096 characters long" in answer.refused()[2]
