"""Signed requests over real HTTP: those that are accepted, and the reasons for rejection."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from tagferry import signing
from tagferry.accounts.model import AccessKey
from tagferry.names import RegionId
from tests.support.deployment import NORTH, SOUTH, Answer, Deployment, deployed
from tests.support.raw_client import connected

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAMESPACES = "/v2/manage/namespaces"
SYNC = f"{NAMESPACES}/team/repos/app/sync_images"
MISMATCH = (401, "SVCSTG.SWR.4000031")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ferry(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    async with deployed(tmp_path_factory.mktemp("signatures")) as deployment:
        yield deployment


@pytest_asyncio.fixture(loop_scope="module")
async def key(ferry: Deployment) -> AccessKey:
    """A fresh access key, so that the failures of one test do not lock another's."""
    return await ferry.key(ferry.admin.name)


def signed(
    ferry: Deployment,
    key: AccessKey,
    method: str = "GET",
    path: str = NAMESPACES,
    *,
    query: str = "",
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    age: timedelta = timedelta(),
    region: RegionId = NORTH,
) -> dict[str, str]:
    """The headers of a signed request."""
    sent = {"Host": ferry.urls[region].removeprefix("http://"), **(headers or {})}
    request = signing.Request(method=method, path=path, query=query, headers=list(sent.items()), body=body)
    return sent | signing.sign(request, key.access_key, key.secret_key, now=datetime.now(UTC) - age)


async def test_a_signed_request_is_let_in(ferry: Deployment, key: AccessKey) -> None:
    answer = await ferry.http("GET", NAMESPACES, headers=signed(ferry, key))
    assert answer.status == 200
    assert [one["name"] for one in answer.document["namespaces"]] == ["release", "team"]


@pytest.mark.parametrize("age", [timedelta(minutes=16), -timedelta(minutes=16), timedelta(days=400)])
async def test_a_date_too_far_from_now_is_refused_and_told(ferry: Deployment, key: AccessKey, age: timedelta) -> None:
    status, code, message = (await ferry.http("GET", NAMESPACES, headers=signed(ferry, key, age=age))).refused()
    assert (status, code) == MISMATCH
    assert "15 minutes" in message
    assert "clock" in message


async def test_a_date_within_the_tolerance_is_let_in(ferry: Deployment, key: AccessKey) -> None:
    for minutes in (-14, 14):
        headers = signed(ferry, key, age=timedelta(minutes=minutes))
        assert (await ferry.http("GET", NAMESPACES, headers=headers)).status == 200


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"X-Sdk-Date": None}, ["X-Sdk-Date"]),
        ({"X-Sdk-Date": "yesterday"}, ["X-Sdk-Date", "YYYYMMDDTHHMMSSZ"]),
        ({"X-Sdk-Date": "20261324T000000Z"}, ["X-Sdk-Date"]),
        ({"Authorization": "SDK-HMAC-SHA256"}, ["Authorization must have the form"]),
        ({"Authorization": "Basic dXNlcjpwYXNzd29yZA=="}, ["Basic", "SDK-HMAC-SHA256"]),
        ({"Authorization": "Bearer token"}, ["Bearer", "SDK-HMAC-SHA256"]),
        ({"Authorization": "SDK-HMAC-SM3 Access=A, SignedHeaders=b, Signature=c"}, ["SDK-HMAC-SM3", "SDK-HMAC-SHA256"]),
        ({"Authorization": "V11-HMAC-SHA256 Credential=A, SignedHeaders=b, Signature=c"}, ["V11-HMAC-SHA256"]),
        ({"Authorization": "SDK-ECDSA-P256-SHA256 Access=A, SignedHeaders=b, Signature=c"}, ["SDK-ECDSA-P256-SHA256"]),
        ({"Authorization": "SDK-HMAC-SHA256 Access=A"}, ["no SignedHeaders and no Signature"]),
        ({"Authorization": "SDK-HMAC-SHA256 Access=, SignedHeaders=, Signature="}, ["no Access"]),
        ({"Authorization": "SDK-HMAC-SHA256 Access=UNKNOWN, SignedHeaders=x-sdk-date, Signature=0"}, ["UNKNOWN"]),
        ({"Authorization": "SDK-HMAC-SHA256 Access=é, SignedHeaders=é, Signature=é"}, ["unknown"]),
    ],
    ids=str,
)  # fmt: skip
async def test_what_cannot_be_verified_says_why(
    ferry: Deployment, key: AccessKey, change: dict[str, str | None], words: list[str]
) -> None:
    headers = {name: value for name, value in (signed(ferry, key) | change).items() if value is not None}
    status, code, message = (await ferry.http("GET", NAMESPACES, headers=headers)).refused()
    assert status == 401
    assert code in ("SVCSTG.SWR.4010000", "SVCSTG.SWR.4000031")
    assert [word for word in words if word not in message] == []


async def test_a_date_that_is_not_signed_is_refused(ferry: Deployment, key: AccessKey) -> None:
    headers = signed(ferry, key)
    headers["Authorization"] = headers["Authorization"].replace("host;x-sdk-date", "host")
    status, code, message = (await ferry.http("GET", NAMESPACES, headers=headers)).refused()
    assert (status, code) == MISMATCH
    assert "SignedHeaders must include x-sdk-date" in message


async def test_a_signature_holds_for_its_own_request_only(ferry: Deployment, key: AccessKey) -> None:
    body = json.dumps({"namespace": "one"}).encode()
    other = body.replace(b"one", b"two")
    headers = signed(ferry, key, "POST", body=body)

    attempts = [
        await ferry.http("POST", NAMESPACES, body=other, headers=headers),
        await ferry.http("POST", f"{NAMESPACES}/team", body=body, headers=headers),
        await ferry.http("POST", f"{NAMESPACES}?namespace=two", body=body, headers=headers),
        await ferry.http("PUT", NAMESPACES, body=body, headers=headers),
    ]

    assert [answer.refused()[:2] for answer in attempts] == [MISMATCH] * 4
    listed = await ferry.http("GET", NAMESPACES, headers={"X-Auth-Token": await ferry.token()})
    assert [one["name"] for one in listed.document["namespaces"]] == ["release", "team"]


async def test_a_signature_of_one_region_does_not_hold_in_another(ferry: Deployment, key: AccessKey) -> None:
    headers = signed(ferry, key) | {"Host": ferry.urls[SOUTH].removeprefix("http://")}
    answer = await ferry.http("GET", NAMESPACES, region=SOUTH, headers=headers)
    assert answer.refused()[:2] == MISMATCH


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_request_that_was_signed_for_one_region_is_refused_at_another(
    ferry: Deployment, key: AccessKey, method: str
) -> None:
    headers = signed(ferry, key, method, f"{NAMESPACES}/release")

    answer = await ferry.http(method, f"{NAMESPACES}/release", region=SOUTH, headers=headers)

    status, code, message = answer.refused()
    assert (status, code) == MISMATCH
    assert f'signed for the Host "{headers["Host"]}"' in message
    assert f"regions.{SOUTH}.hosts" in message
    assert (await ferry.http("GET", NAMESPACES, region=SOUTH, headers=signed(ferry, key, region=SOUTH))).status == 200


async def test_a_signature_that_changes_something_is_good_once(ferry: Deployment, key: AccessKey) -> None:
    body = b'{"namespace": "once"}'
    create = signed(ferry, key, "POST", body=body)
    made = await ferry.http("POST", NAMESPACES, body=body, headers=create)
    delete = signed(ferry, key, "DELETE", f"{NAMESPACES}/once")
    deleted = await ferry.http("DELETE", f"{NAMESPACES}/once", headers=delete)
    assert (made.status, deleted.status) == (201, 204)

    again = await ferry.http("POST", NAMESPACES, body=body, headers=create)
    spelled = create["Authorization"][:-64] + create["Authorization"][-64:].upper()
    other_spelling = await ferry.http("POST", NAMESPACES, body=body, headers=create | {"Authorization": spelled})
    assert (await ferry.http("GET", f"{NAMESPACES}/once", headers=signed(ferry, key))).status != 200

    for answer in (again, other_spelling):
        status, code, message = answer.refused()
        assert (status, code) == MISMATCH
        assert "was used already; sign the request again" in message
    signed_again = signed(ferry, key, "POST", body=body, headers={"X-Request-Nonce": "1"})
    assert (await ferry.http("POST", NAMESPACES, body=body, headers=signed_again)).status == 201
    assert (await ferry.http("DELETE", f"{NAMESPACES}/once", headers=delete)).refused()[0] == 401
    await ferry.http("DELETE", f"{NAMESPACES}/once", headers={"X-Auth-Token": await ferry.token()})


@pytest.mark.parametrize(
    ("header", "status"), [("X-Trace", 409), ("X-Forwarded-For", 401), ("Forwarded", 401), ("Via", 401)]
)
async def test_a_connection_that_proxies_may_share_takes_no_signature_again(
    ferry: Deployment, key: AccessKey, header: str, status: int
) -> None:
    """The same request twice on one connection: for a client it is a second call, and behind a proxy anybody's."""
    body = b'{"namespace": "shared"}'
    sent = signed(ferry, key, "POST", body=body, headers={"X-Request-Nonce": header})
    lines = "".join(f"{name}: {value}\r\n" for name, value in (sent | {header: "10.1.1.1"}).items())
    request = f"POST {NAMESPACES} HTTP/1.1\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body

    async with connected(ferry.urls[NORTH]) as client:
        await client.send(request + request)
        answers = [(await client.answer()).status for _ in range(2)]

    assert answers == [201, status]
    await ferry.http("DELETE", f"{NAMESPACES}/shared", headers={"X-Auth-Token": await ferry.token()})


async def test_a_signature_that_reads_is_good_again_and_replays_lock_nobody_out(
    ferry: Deployment, key: AccessKey
) -> None:
    headers = signed(ferry, key)
    assert [(await ferry.http("GET", NAMESPACES, headers=headers)).status for _ in range(3)] == [200] * 3

    body = b'{"namespace": "team"}'
    headers = signed(ferry, key, "POST", body=body)
    answers = [await ferry.http("POST", NAMESPACES, body=body, headers=headers) for _ in range(8)]

    assert [answer.status for answer in answers] == [409] + [401] * 7
    assert (await attempt(ferry, key)).status == 200


async def test_a_change_that_was_signed_for_no_host_is_good_once_in_all_regions(
    ferry: Deployment, key: AccessKey
) -> None:
    """The SDK for Go signs no Host."""
    body = b'{"namespace": "for-any"}'
    request = signing.Request(method="POST", path=NAMESPACES, query="", headers=(), body=body)
    headers = signing.sign(request, key.access_key, key.secret_key, now=datetime.now(UTC))

    first = await ferry.http("POST", NAMESPACES, body=body, headers=headers)
    status, code, message = (await ferry.http("POST", NAMESPACES, region=SOUTH, body=body, headers=headers)).refused()

    assert first.status == 201
    assert (status, code) == MISMATCH
    assert "was used already" in message
    await ferry.http("DELETE", f"{NAMESPACES}/for-any", headers={"X-Auth-Token": await ferry.token()})


async def test_the_querys_order_and_encoding_do_not_matter(ferry: Deployment, key: AccessKey) -> None:
    headers = signed(ferry, key, query="filter=namespace%3A%3Ateam&namespace=")
    for query in ("namespace=&filter=namespace::team", "filter=namespace%3a%3Ateam&namespace="):
        answer = await ferry.http("GET", f"{NAMESPACES}?{query}", headers=headers)
        assert [one["name"] for one in answer.document["namespaces"]] == ["team"]


async def test_headers_that_a_proxy_adds_do_not_matter(ferry: Deployment, key: AccessKey) -> None:
    headers = signed(ferry, key) | {"X-Forwarded-For": "192.0.2.1", "Via": "1.1 proxy", "X-Trace": "é"}
    assert (await ferry.http("GET", NAMESPACES, headers=headers)).status == 200


async def test_a_signed_header_may_hold_any_text(ferry: Deployment, key: AccessKey) -> None:
    headers = signed(ferry, key, headers={"User-Agent": "客户端/1.0 é", "X-Empty": ""})
    assert (await ferry.http("GET", NAMESPACES, headers=headers)).status == 200
    changed = headers | {"User-Agent": "客户端/1.1 é"}
    assert (await ferry.http("GET", NAMESPACES, headers=changed)).refused()[:2] == MISMATCH


async def test_a_body_of_another_hash_than_given_is_refused(ferry: Deployment, key: AccessKey) -> None:
    body = b'{"namespace": "one"}'
    headers = signed(ferry, key, "POST", body=body, headers={"X-Sdk-Content-Sha256": "0" * 64})
    status, code, message = (await ferry.http("POST", NAMESPACES, body=body, headers=headers)).refused()
    assert (status, code) == MISMATCH
    assert "X-Sdk-Content-Sha256" in message


async def test_a_body_must_be_signed_where_there_is_one(ferry: Deployment, key: AccessKey) -> None:
    unsigned = {"X-Sdk-Content-Sha256": "UNSIGNED-PAYLOAD"}
    assert (await ferry.http("GET", NAMESPACES, headers=signed(ferry, key, headers=unsigned))).status == 200
    body = b'{"namespace": "one"}'
    headers = signed(ferry, key, "POST", body=body, headers=unsigned)
    assert (await ferry.http("POST", NAMESPACES, body=body, headers=headers)).refused()[:2] == MISMATCH


async def test_a_key_is_locked_after_five_failures_even_for_the_right_secret(ferry: Deployment, key: AccessKey) -> None:
    wrong = AccessKey(key.access_key, "wrong")
    failures = [await attempt(ferry, wrong) for _ in range(5)]
    locked = [await attempt(ferry, one) for one in (wrong, key)]

    assert [answer.refused()[:2] for answer in failures] == [MISMATCH] * 5
    for answer in locked:
        status, code, message = answer.refused()
        assert (status, code) == (429, "APIGW.0308")
        assert "locked after 5 failed authentications" in message
        assert 290 <= int(answer.headers["Retry-After"]) <= 300
    assert (await attempt(ferry, ferry.admin.key)).status == 200


async def test_a_success_forgets_earlier_failures(ferry: Deployment, key: AccessKey) -> None:
    wrong = AccessKey(key.access_key, "wrong")
    for _ in range(2):
        for _ in range(4):
            assert (await attempt(ferry, wrong)).status == 401
        assert (await attempt(ferry, key)).status == 200


async def test_a_lock_ends(tmp_path: Any) -> None:
    async with deployed(
        tmp_path / "data", limits={"lockout_failure_attempts": 1, "lockout_duration_seconds": 0}
    ) as ferry:
        assert (await attempt(ferry, AccessKey(ferry.admin.key.access_key, "wrong"))).status == 401
        assert (await attempt(ferry, ferry.admin.key)).status == 200


async def test_a_deleted_key_opens_nothing(ferry: Deployment, key: AccessKey) -> None:
    await ferry.app.accounts.keys.delete(key.access_key)
    status, code, message = (await attempt(ferry, key)).refused()
    assert (status, code) == MISMATCH
    assert f"{key.access_key} is unknown" in message


@pytest.mark.parametrize("part", ["user", "password"])
async def test_a_wrong_password_gets_no_token_and_five_lock_the_user(ferry: Deployment, part: str) -> None:
    name = f"guessed-{part}"
    password, _ = await ferry.user(name)
    claimed = name if part == "password" else f"no-{name}"
    answers = [await log_in(ferry, claimed, "a wrong guess") for _ in range(6)]
    assert [answer.refused()[:2] for answer in answers[:5]] == [(401, "SVCSTG.SWR.4010000")] * 5
    assert answers[5].refused()[:2] == (429, "APIGW.0308")
    assert "X-Subject-Token" not in answers[0].headers
    assert (await log_in(ferry, name, password)).status == (429 if part == "password" else 201)


async def log_in(ferry: Deployment, name: str, password: str) -> Answer:
    identity = {"methods": ["password"], "password": {"user": {"name": name, "password": password}}}
    return await ferry.http("POST", "/v3/auth/tokens", body={"auth": {"identity": identity}})


async def attempt(ferry: Deployment, key: AccessKey) -> Answer:
    return await ferry.http("GET", NAMESPACES, headers=signed(ferry, key))
