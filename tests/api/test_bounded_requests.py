"""No request costs more than what is right in it, before it is known who sent it and after."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tagferry import bounds
from tests.support.deployment import NORTH, Deployment, deployed
from tests.support.raw_client import connected

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


MANY = "&".join(["scope=repository:team/app:pull"] * (bounds.QUERY_PARAMETERS + 1))
ENOUGH = "&".join(["scope=repository:team/app:pull"] * bounds.QUERY_PARAMETERS)


@pytest.mark.parametrize("path", ["/v2/_token", "/v2/", "/v2/team/app/tags/list", "/v2/team/app/blobs/uploads/"])
async def test_a_query_of_many_parameters_is_refused_by_the_registry_and_its_token_service(
    ferry: Deployment, path: str
):
    method = "POST" if path.endswith("uploads/") else "GET"

    refused = await ferry.http(method, f"{path}?{MANY}")
    taken = await ferry.http(method, f"{path}?{ENOUGH}")

    assert refused.status == 414
    assert "query must have at most 200 parameters: got 201" in refused.document["errors"][0]["message"]
    assert taken.status in (200, 401)


async def test_a_long_path_is_refused_by_the_registry_and_not_repeated(ferry: Deployment):
    longest = bounds.PATH_BYTES - len("/v2/")

    for path, expected in (("a" * longest, 404), ("a" * (longest + 1), 414), ("%1b" * 6000, 414)):
        answer = await ferry.http("DELETE", f"/v2/{path}")

        assert answer.status == expected
        assert len(answer.content) < (20_000 if expected == 404 else 1_000)


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (ENOUGH, 400),
        (MANY, 413),
        ("&" * 60_000, 413),
        ("scope=" + "+".join(["a:b:c"] * 201), 400),
        ("scope=" + "+".join(["a:b:c"] * 10_000), 400),
    ],
)
async def test_a_form_of_many_parameters_is_refused(ferry: Deployment, form: str, expected: int):
    answer = await ferry.http("POST", "/v2/_token", body=form.encode())

    assert answer.status == expected
    assert len(answer.content) < 1_000


async def test_forms_that_nobody_completes_take_no_more_memory_than_other_bodies(ferry: Deployment):
    held = ferry.app.services.body_budget
    held.reserve("127.0.0.1", bounds.ANONYMOUS_BODIES_BYTES // 4)
    try:
        answer = await ferry.http("POST", "/v2/_token", body=b"grant_type=password&username=a&password=b")
    finally:
        held.release("127.0.0.1", bounds.ANONYMOUS_BODIES_BYTES // 4)

    assert (answer.status, answer.headers["Retry-After"]) == (503, "5")


@pytest.mark.parametrize(
    ("path", "kind", "code"),
    [
        ("/v3/auth/tokens", "application/json", "SVCSTG.SWR.4080000"),
        ("/v2/_token", "application/x-www-form-urlencoded", "UNSUPPORTED"),
    ],
)
async def test_a_body_of_nobody_that_does_not_arrive_in_time_is_answered_408(
    ferry: Deployment, monkeypatch: pytest.MonkeyPatch, path: str, kind: str, code: str
):
    monkeypatch.setattr(bounds, "ANONYMOUS_BODY_SECONDS", 0.2)
    async with connected(ferry.urls[NORTH]) as client:
        head = f"POST {path} HTTP/1.1\r\nHost: {ferry.urls[NORTH].removeprefix('http://')}\r\nContent-Type: {kind}\r\n"
        await client.send(f"{head}Content-Length: 900\r\n\r\n{{".encode())
        answer = await client.answer()

    assert answer.status == 408
    assert code.encode() in answer.body
