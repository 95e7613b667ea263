from datetime import UTC, datetime

import pytest

from tagferry.errors import Invalid, NotFound, Refused, Unavailable, Unsupported
from tagferry.http.retry_after import retry_after
from tagferry.names import Digest, RepositoryName, Tag
from tagferry.remote import RemoteStore, Retry
from tests.support.images import blob, image, opening, read
from tests.support.scripted_registry import Reply, ScriptedRegistry, error, said
from tests.unit.remote.conftest import Opening, Pauses

APP, LATEST = RepositoryName("team/app"), Tag("latest")
TAGS = "/v2/team/app/tags/list"
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


async def tags_of(store: RemoteStore) -> list[str]:
    return [tag async for tag in store.list_tags(APP)]


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        ("Tue, 01 Jan 2030 12:00:30 GMT", 30.0),
        ("Tue, 01 Jan 2030 11:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("", None),
        ("9" * 5000, 999_999_999.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 1e9),
        ("Tue, 01 Jan 2030 12:00:30 +99999999999999", None),
        ("Tue, 99999999999999999999 Jan 2030 12:00:30", None),
    ],
)
def test_both_forms_of_retry_after_are_understood(header: str, seconds: float | None):
    assert retry_after({"Retry-After": header}, NOON) == seconds


def test_pauses_double_up_to_a_limit_and_are_random_within_it():
    max_delay = Retry(attempts=9, base_delay=1.0, max_delay=5.0, jitter=lambda: 1.0)
    none = Retry(attempts=9, jitter=lambda: 0.0)

    assert [max_delay.delay(failures) for failures in range(1, 6)] == [1, 2, 4, 5, 5]
    assert none.delay(3) == 0
    assert max_delay.delay(9) is None


@pytest.mark.parametrize("fault", [Reply(status=s) for s in (408, 429, 500, 502, 503, 504)] + [Reply(drop=True)])
async def test_temporary_faults_are_tried_again(script: ScriptedRegistry, store: RemoteStore, fault: Reply):
    script.on("GET", TAGS, fault, said({"tags": ["a"]}))

    assert await tags_of(store) == ["a"]
    assert script.lines() == [f"GET {TAGS}"] * 2


@pytest.mark.parametrize(
    ("status", "expected"),
    [(400, Invalid), (401, Refused), (403, Refused), (404, NotFound), (405, Unsupported), (418, Invalid)],
)
async def test_other_refusals_are_final_and_name_the_registry_and_the_task(
    script: ScriptedRegistry, store: RemoteStore, status: int, expected: type[Exception]
):
    script.always("PUT", "/v2/*", error(status, "SOME_CODE", "the registry's own words"))

    with pytest.raises(expected) as raised:
        await store.put_manifest(APP, image().manifest, LATEST)

    assert [asked.method for asked in script.asked].count("PUT") == 1
    for part in ("script", "SOME_CODE", "the registry's own words", "team/app:latest"):
        assert part in str(raised.value)


async def test_the_budget_is_bounded(script: ScriptedRegistry, store: RemoteStore):
    script.always("GET", TAGS, error(503, "UNAVAILABLE", "later"))

    with pytest.raises(Unavailable, match="registry script answered 503 UNAVAILABLE: later"):
        await tags_of(store)
    assert len(script.asked) == 3


async def test_retry_after_is_obeyed(script: ScriptedRegistry, store: RemoteStore, pauses: Pauses):
    script.on("GET", TAGS, Reply(status=429, headers={"Retry-After": "7"}), said({"tags": []}))

    assert await tags_of(store) == []
    assert pauses[0] == 7.0


async def test_a_wait_beyond_the_maximum_fails(script: ScriptedRegistry, store: RemoteStore, pauses: Pauses):
    script.always("GET", TAGS, Reply(status=429, headers={"Retry-After": "3600"}))

    with pytest.raises(Unavailable) as raised:
        await tags_of(store)
    assert raised.value.retry_after == 3600
    assert (len(script.asked), pauses) == (1, [])


async def test_an_unresponsive_registry_times_out(script: ScriptedRegistry, opened: Opening):
    script.always("GET", TAGS, Reply(delay=0.3))

    with pytest.raises(Unavailable, match="in time"):
        await tags_of(opened(attempts=1, read_timeout=0.05))


async def test_an_unreachable_registry_is_unavailable(opened: Opening):
    with pytest.raises(Unavailable, match="registry script could not be reached to list the tags"):
        await tags_of(opened(url="http://127.0.0.1:1"))


async def test_a_truncated_answer_is_tried_again(script: ScriptedRegistry, store: RemoteStore):
    document = said({"tags": ["a"]})
    script.on("GET", TAGS, Reply(body=document.body, truncate_to=4), document)

    assert await tags_of(store) == ["a"]


async def test_a_truncated_blob_is_unavailable(script: ScriptedRegistry, store: RemoteStore):
    content = b"x" * 100_000
    script.always("GET", f"/v2/team/app/blobs/{Digest.of(content)}", Reply(body=content, truncate_to=70_000))

    with pytest.raises(Unavailable):
        await read(store, APP, blob(content))


async def test_a_blob_that_ends_early_without_a_fault_is_unavailable(script: ScriptedRegistry, store: RemoteStore):
    content = b"x" * 1000
    unknown_length = Reply(raw=b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + content[:-1])
    script.always("GET", f"/v2/team/app/blobs/{Digest.of(content)}", unknown_length)

    with pytest.raises(Unavailable, match="sent 999 bytes instead of 1000"):
        await read(store, APP, blob(content))


async def test_a_broken_upload_is_restarted_and_its_session_cancelled(script: ScriptedRegistry, store: RemoteStore):
    content = b"layer" * 1000
    session = Reply(status=202, headers={"Location": "/v2/team/app/blobs/uploads/s1?_state=x"})
    script.always("POST", "/v2/team/app/blobs/uploads/", session)
    script.on("PUT", "/v2/team/app/blobs/uploads/s1", Reply(drop=True), Reply(status=201))
    script.always("DELETE", "/v2/team/app/blobs/uploads/s1", Reply(status=204))

    await store.write_blob(APP, blob(content), opening(content))

    assert [asked.method for asked in script.asked] == ["POST", "PUT", "GET", "DELETE", "HEAD", "POST", "PUT"]
    assert script.asked[-1].body == content
    assert "_state=x&digest=sha256%3A" in script.asked[-1].query
