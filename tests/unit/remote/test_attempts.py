"""An operation has a fixed number of attempts over all its requests; waits that a registry asks for do not count."""

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from tagferry.errors import Unavailable
from tagferry.names import Digest, RepositoryName
from tagferry.oci.images import BlobOutcome
from tagferry.remote import Credentials
from tests.support.images import blob, opening, read
from tests.support.scripted_registry import Asked, Reply, ScriptedRegistry, error, said, scripted_registry
from tests.unit.remote.conftest import Opening, Pauses

APP = RepositoryName("team/app")
TAGS = "/v2/team/app/tags/list"
UPLOADS = "/v2/team/app/blobs/uploads/"
SESSION = f"{UPLOADS}s"
CONTENT = bytes(range(256)) * 400
DIGEST = Digest.of(CONTENT)
BLOB = f"/v2/team/app/blobs/{DIGEST}"
ATTEMPTS = 3
AWAY = Reply(drop=True)
BUSY = Reply(status=429, headers={"Retry-After": "1"})
OPENED = Reply(status=202, headers={"Location": SESSION})


def by_method(script: ScriptedRegistry) -> dict[str, int]:
    return dict(Counter(asked.method for asked in script.asked))


def is_away(script: ScriptedRegistry) -> None:
    """Make the registry answer no further request."""
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
        script.always(method, "*", AWAY)


async def test_an_outage_during_an_upload_costs_the_usual_number_of_attempts(script: ScriptedRegistry, opened: Opening):
    script.on("POST", UPLOADS, OPENED)
    is_away(script)

    with pytest.raises(Unavailable):
        await opened(attempts=ATTEMPTS).write_blob(APP, blob(CONTENT), opening(CONTENT))

    # The session is asked for its offset and then cancelled; the registry is asked once whether it has the blob.
    assert by_method(script) == {"POST": 1, "PUT": 1, "GET": ATTEMPTS, "DELETE": 1, "HEAD": 1}


async def test_an_upload_whose_session_survives_has_the_same_number_of_attempts(
    script: ScriptedRegistry, opened: Opening
):
    script.on("POST", UPLOADS, OPENED)
    script.always("PUT", SESSION, AWAY)
    script.always("GET", SESSION, Reply(status=204, headers={"Range": "0-999", "Location": SESSION}))
    script.always("DELETE", SESSION, Reply(status=204))

    with pytest.raises(Unavailable):
        await opened(attempts=ATTEMPTS).write_blob(APP, blob(CONTENT), opening(CONTENT))

    assert by_method(script) == {"POST": 1, "PUT": ATTEMPTS, "GET": ATTEMPTS, "DELETE": 1, "HEAD": 1}


async def test_a_download_that_broke_has_the_same_number_of_attempts(script: ScriptedRegistry, opened: Opening):
    script.on("GET", BLOB, Reply(body=CONTENT, truncate_to=5000))
    is_away(script)

    with pytest.raises(Unavailable):
        await read(opened(attempts=ATTEMPTS), APP, blob(CONTENT))

    assert len(script.asked) == ATTEMPTS


async def test_source_requests_are_not_multiplied_by_the_target_s_attempts(script: ScriptedRegistry, opened: Opening):
    async with scripted_registry() as away:
        is_away(away)
        source, target = opened(attempts=ATTEMPTS, url=away.url, name="source"), opened(attempts=ATTEMPTS)
        script.always("POST", UPLOADS, OPENED)
        script.always("DELETE", SESSION, Reply(status=204))

        with pytest.raises(Unavailable, match="registry source"):
            await target.write_blob(APP, blob(CONTENT), lambda at: source.read_blob(APP, blob(CONTENT), offset=at))

        assert len(away.asked) == ATTEMPTS
    assert by_method(script)["POST"] == 1


async def test_token_requests_are_not_multiplied_by_the_registry_s_attempts(script: ScriptedRegistry, opened: Opening):
    script.always("GET", "/token", error(503, "UNAVAILABLE"))
    challenge = {"WWW-Authenticate": f'Bearer realm="{script.url}/token",service="script"'}
    script.always("GET", TAGS, Reply(status=401, headers=challenge))
    store = opened(attempts=ATTEMPTS, credentials=Credentials(username="carol", password="secret"))

    with pytest.raises(Unavailable, match="issue a token"):
        _ = [tag async for tag in store.list_tags(APP)]

    assert script.lines().count("GET /token") == ATTEMPTS


async def test_waiting_as_a_registry_asks_costs_no_attempt(script: ScriptedRegistry, opened: Opening, pauses: Pauses):
    script.on("GET", TAGS, *[BUSY] * 20, said({"tags": ["a"]}))

    assert [tag async for tag in opened(attempts=1).list_tags(APP)] == ["a"]
    assert pauses.count(1.0) >= 20


async def test_repeated_requests_to_wait_fail_with_the_time_to_retry(
    script: ScriptedRegistry, opened: Opening, pauses: Pauses
):
    script.always("GET", TAGS, Reply(status=429, headers={"Retry-After": "50"}))

    with pytest.raises(Unavailable) as raised:
        _ = [tag async for tag in opened().list_tags(APP)]

    assert raised.value.retry_after == 50
    assert len(script.asked) == 3


async def test_a_refused_put_is_sent_again_in_its_session(script: ScriptedRegistry, opened: Opening):
    script.on("POST", UPLOADS, OPENED)
    script.on("PUT", SESSION, *[BUSY] * 5, Reply(status=201))

    outcome = await opened(attempts=1).write_blob(APP, blob(CONTENT), opening(CONTENT))

    assert outcome is BlobOutcome.UPLOADED
    assert script.lines() == [f"POST {UPLOADS}"] + [f"PUT {SESSION}"] * 6
    assert [len(asked.body) for asked in script.asked[1:]] == [len(CONTENT)] * 6


async def test_a_large_put_refused_without_reading_is_repeated_in_its_session(
    script: ScriptedRegistry, opened: Opening
):
    content = bytes(20 * 1024 * 1024)
    script.on("POST", UPLOADS, OPENED)
    script.on("PUT", SESSION, *[replace(BUSY, unread=True)] * 3, Reply(status=201))

    await opened(attempts=1).write_blob(APP, blob(content), opening(content))

    sent = [line for line in script.lines() if line.startswith(("PUT", "DELETE", f"GET {SESSION}"))]
    assert sent == [f"PUT {SESSION}"] * 4


@pytest.mark.parametrize(
    "refusal",
    [
        Reply(status=429),
        Reply(status=429, headers={"Retry-After": "0"}),
        Reply(status=429, headers={"Retry-After": "soon"}),
        Reply(status=503, headers={"Retry-After": "1"}),
    ],
)
async def test_no_form_of_requested_pause_costs_an_attempt(script: ScriptedRegistry, opened: Opening, refusal: Reply):
    script.on("GET", TAGS, *[refusal] * 3, said({"tags": ["a"]}))

    assert [tag async for tag in opened(attempts=1).list_tags(APP)] == ["a"]


async def test_a_pause_until_a_date_costs_no_attempt(script: ScriptedRegistry, opened: Opening, pauses: Pauses):
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=50), usegmt=True)
    script.on("GET", TAGS, Reply(status=429, headers={"Retry-After": date}), said({"tags": ["a"]}))

    assert [tag async for tag in opened(attempts=1).list_tags(APP)] == ["a"]
    assert 30 < pauses[0] <= 50


async def test_a_put_that_fails_with_503_resumes_at_the_session_s_offset(script: ScriptedRegistry, opened: Opening):
    script.on("POST", UPLOADS, OPENED)
    script.on("PUT", SESSION, *[Reply(status=503, headers={"Retry-After": "1"})] * 2, Reply(status=201))
    script.on(
        "GET", SESSION, Reply(status=204, headers={"Range": "0-0"}), Reply(status=204, headers={"Range": "0-999"})
    )

    await opened(attempts=1).write_blob(APP, blob(CONTENT), opening(CONTENT))

    assert by_method(script) == {"POST": 1, "PUT": 3, "GET": 2}
    assert [len(asked.body) for asked in script.asked if asked.method == "PUT"] == [
        len(CONTENT),
        len(CONTENT),
        len(CONTENT) - 1000,
    ]


async def test_a_refused_part_is_sent_again_in_its_session(script: ScriptedRegistry, opened: Opening):
    script.always("POST", UPLOADS, OPENED)
    received: list[bytes] = []

    def take(asked: Asked) -> Reply:
        received.append(asked.body)
        return Reply(status=202, headers={"Location": SESSION})

    script.on("PUT", SESSION, Reply(status=413))
    script.on("PATCH", SESSION, take, BUSY, BUSY, take, BUSY, take, BUSY, take)
    script.on("PUT", SESSION, BUSY, Reply(status=201))
    script.always("DELETE", SESSION, Reply(status=204))

    store = opened(attempts=1, chunk_size=30_000)
    assert await store.write_blob(APP, blob(CONTENT), opening(CONTENT)) is BlobOutcome.UPLOADED

    assert b"".join(received) == CONTENT
    assert by_method(script) == {"POST": 2, "PUT": 3, "PATCH": 8, "DELETE": 1}


async def test_a_storage_host_may_ask_for_a_pause_too(script: ScriptedRegistry, opened: Opening):
    async with scripted_registry() as storage:
        script.always("GET", BLOB, Reply(status=307, headers={"Location": f"{storage.url}/data"}))
        storage.on("GET", "/data", *[BUSY] * 4, Reply(body=CONTENT))

        assert await read(opened(attempts=1), APP, blob(CONTENT)) == CONTENT
    assert len(storage.asked) == 5


async def test_the_token_server_may_ask_to_wait_too(script: ScriptedRegistry, opened: Opening):
    challenge = {"WWW-Authenticate": f'Bearer realm="{script.url}/token",service="script"'}
    script.on("GET", "/token", *[BUSY] * 4, said({"token": "t", "expires_in": 300}))
    script.on("GET", TAGS, Reply(status=401, headers=challenge), said({"tags": ["a"]}))
    store = opened(attempts=1, credentials=Credentials(username="carol", password="secret"))

    assert [tag async for tag in store.list_tags(APP)] == ["a"]


async def test_a_download_releases_its_slot_during_the_backoff(script: ScriptedRegistry, opened: Opening):
    async def others_go_ahead(seconds: float) -> None:
        await store.ping()

    script.always("GET", "/v2/", Reply())
    script.on("GET", BLOB, Reply(status=500), Reply(body=CONTENT))
    store = opened(max_connections=1, sleep=others_go_ahead)

    async with asyncio.timeout(30):
        assert await read(store, APP, blob(CONTENT)) == CONTENT
    assert script.lines() == [f"GET {BLOB}", "GET /v2/", f"GET {BLOB}"]
