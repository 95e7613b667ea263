"""Extreme numbers, texts and codings cause an error in bounded time and memory."""

import gzip
import json
import zlib
from collections.abc import AsyncIterator

import pytest

from tagferry import bounds
from tagferry.errors import TagferryError, TooLarge, Unavailable
from tagferry.http.content_coding import decoded
from tagferry.http.explanation import without_secrets
from tagferry.http.faults import ConnectionFailed
from tagferry.names import RepositoryName, Tag
from tagferry.remote import Credentials
from tagferry.remote.transport.challenges import parse_challenges
from tagferry.remote.transport.tokens import _lifetime
from tests.support.images import blob, image, opening, read
from tests.support.scripted_registry import Reply, ScriptedRegistry, said
from tests.unit.remote.conftest import Opening

APP, V1 = RepositoryName("team/app"), Tag("v1")
USER = Credentials(username="u", password="p")
DIGITS = "9" * 10_000
UPLOADS = "/v2/team/app/blobs/uploads/"
SAMPLE = image()


async def test_no_number_of_an_upload_is_too_long(script: ScriptedRegistry, opened: Opening):
    headers = {"Location": f"{UPLOADS}s", "OCI-Chunk-Min-Length": DIGITS}
    script.always("POST", UPLOADS, Reply(status=202, headers=headers))
    script.always("PUT", f"{UPLOADS}s", Reply(drop=True))
    script.always("GET", f"{UPLOADS}s", Reply(status=204, headers={"Range": f"0-{DIGITS}"}))
    with pytest.raises(Unavailable):
        await opened(attempts=2).write_blob(APP, blob(b"x" * 100), opening(b"x" * 100))


@pytest.mark.parametrize(
    "content_range", [f"bytes 0-{DIGITS}/{DIGITS}", f"bytes {DIGITS}-{DIGITS}/{DIGITS}", f"bytes */{DIGITS}"]
)
async def test_no_number_of_a_range_is_too_long(script: ScriptedRegistry, opened: Opening, content_range: str):
    script.always("HEAD", "/v2/*", Reply(status=405))
    script.always("GET", "/v2/*", Reply(status=206, headers={"Content-Range": content_range}, body=b"x"))
    store = opened(attempts=1)
    with pytest.raises(TagferryError):
        await store.stat_blob(APP, blob(b"xyz").digest)
    with pytest.raises(TagferryError) as failure:
        await read(store, APP, blob(b"xyz"))
    assert len(failure.value.message) < 500


@pytest.mark.parametrize("expires", [10**400, "1e999", float("nan"), -1, "x" * 1000, [1], 1e300])
def test_a_token_lives_for_a_day_at_most(expires: object):
    assert 0 < _lifetime({"expires_in": expires}) <= 24 * 3600


async def test_a_token_that_is_longer_than_any_header_is_refused(script: ScriptedRegistry, opened: Opening):
    headers = {"WWW-Authenticate": f'Bearer realm="{script.url}/token"'}
    script.always("GET", "/v2/*", Reply(status=401, headers=headers))
    script.always("GET", "/token", said({"token": "x" * (bounds.REGISTRY_TOKEN_CHARACTERS + 1)}))
    with pytest.raises(Unavailable, match=f"a token of more than {bounds.REGISTRY_TOKEN_CHARACTERS} characters"):
        await opened(attempts=1, credentials=USER).get_manifest(APP, V1)


async def test_an_answer_of_a_token_server_is_bounded(script: ScriptedRegistry, opened: Opening):
    headers = {"WWW-Authenticate": f'Bearer realm="{script.url}/token"'}
    script.always("GET", "/v2/*", Reply(status=401, headers=headers))
    script.always("GET", "/token", said({"token": "x", "more": "y" * bounds.TOKEN_RESPONSE_BYTES}))
    with pytest.raises(TagferryError, match=f"at most {bounds.TOKEN_RESPONSE_BYTES} bytes"):
        await opened(attempts=1, credentials=USER).get_manifest(APP, V1)


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000, b'{"tags": ' + b"[" * 100_000, DIGITS.encode()])
async def test_documents_that_nest_or_count_without_end_are_no_lists(
    script: ScriptedRegistry, opened: Opening, body: bytes
):
    script.always("GET", "/v2/*", Reply(body=body, headers={"Content-Type": "application/json"}))
    store = opened(attempts=1)
    with pytest.raises(TagferryError):
        _ = [tag async for tag in store.list_tags(APP)]
    with pytest.raises(TagferryError):
        await store.get_manifest(APP, V1)
    with pytest.raises(TagferryError):
        await store.list_referrers(APP, SAMPLE.digest)


async def test_an_address_that_is_too_long_is_not_followed(script: ScriptedRegistry, opened: Opening):
    location = "/" + "x" * bounds.URL_CHARACTERS
    script.always("POST", UPLOADS, Reply(status=202, headers={"Location": location[:8000] * 3}))
    with pytest.raises(Unavailable, match=f"URL of more than {bounds.URL_CHARACTERS} characters"):
        await opened(attempts=1).write_blob(APP, blob(b"x"), opening(b"x"))


ODD = [
    "http://ex%41mple/",
    "http://a_b!c/",
    "http://a;b/",
    "http://*.x/",
    "http://[::1%25x]/",
    "http://[v1.a]/",
    "http://[",
    "http://a..b/",
    "http://a:99999/",
    "http://a:-1/",
    "http:///x",
    "http://\u00f0\u009f\u0098\u0080/",
    "http://\u00e3\u0080\u0082b/",
    f"http://{'a' * 64}.example/",
    "ftp://a/",
    "//",
]


@pytest.mark.parametrize("kind", ["redirect", "session", "realm", "realm for a user"])
@pytest.mark.parametrize("address", ODD, ids=range(len(ODD)))
async def test_an_address_of_no_host_is_an_error(script: ScriptedRegistry, opened: Opening, address: str, kind: str):
    name, value = ("WWW-Authenticate", f'Bearer realm="{address}"') if "realm" in kind else ("Location", address)
    status = {"redirect": 307, "session": 202}.get(kind, 401)
    raw = f"HTTP/1.1 {status} X\r\n{name}: {value}\r\nContent-Length: 0\r\n\r\n".encode("latin-1")
    for method in ("GET", "HEAD", "POST"):
        script.always(method, "/v2/*", Reply(raw=raw))
    store = opened(attempts=1, credentials=USER if kind == "realm for a user" else None, connect_timeout=1.0)
    asking = store.write_blob(APP, blob(b"x"), opening(b"x")) if kind == "session" else read(store, APP, blob(b"x"))
    with pytest.raises(TagferryError):
        await asking


async def test_a_long_host_is_shown_in_part(script: ScriptedRegistry, opened: Opening):
    script.always("GET", "/v2/*", Reply(status=307, headers={"Location": f"http://{'x.' * 3000}example/blob"}))
    with pytest.raises(TagferryError) as failure:
        await read(opened(attempts=1), APP, blob(b"x"))
    assert len(failure.value.message) < 500


@pytest.mark.parametrize("text", ["?" * 16_000, "eyJ" * 5000, "://a" * 4000, "?a" * 8000, "bearer " * 2000])
def test_secrets_are_looked_for_in_a_bounded_part(text: str):
    assert len(without_secrets(text)) <= 2000


def test_a_secret_that_is_cut_off_is_not_shown_in_part():
    assert "hunter2" not in without_secrets("x" * 1980 + " Bearer hunter2hunter2hunter2")


@pytest.mark.parametrize(
    "header", ["a " * 30_000, ',a="' * 15_000, "a=" * 30_000, " " * 60_000, '\\"' * 30_000, "Bearer a=b," * 5000]
)
def test_challenges_are_read_in_one_go(header: str):
    parse_challenges([header])


async def coded(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def test_padding_that_is_coded_once_more_does_not_keep_the_process_busy():
    """Zeros after a gzip file are ignored, and a megabyte of coded data expands to a gigabyte of them."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = compressor.compress(gzip.compress(b"{}"))
    for _ in range(64):
        bomb += compressor.compress(bytes(1024 * 1024))
    bomb += compressor.flush()
    with pytest.raises(ConnectionFailed, match="decodes to implausibly much"):
        _ = [piece async for piece in decoded(coded(bomb), ["gzip", "gzip"])]


async def test_what_is_coded_twice_is_read():
    content = json.dumps({"n": list(range(50_000))}).encode()
    twice = gzip.compress(gzip.compress(content))
    assert b"".join([piece async for piece in decoded(coded(twice), ["gzip", "gzip"])]) == content


async def test_a_decompression_bomb_instead_of_a_list_ends_at_the_limit(script: ScriptedRegistry, opened: Opening):
    bomb = gzip.compress(bytes(4 * bounds.TAG_LIST_BYTES))
    script.always("GET", "/v2/*", Reply(body=bomb, headers={"Content-Encoding": "gzip"}))
    with pytest.raises(TooLarge):
        _ = [tag async for tag in opened(attempts=1).list_tags(APP)]
