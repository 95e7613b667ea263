"""The text of a registry's error is quoted in any format, and that of another host never is."""

import gzip

import pytest

from tagferry.errors import Invalid, Refused, TagferryError, Unavailable
from tagferry.names import RepositoryName, Tag
from tagferry.remote import Credentials
from tests.support.images import blob, image, read
from tests.support.scripted_registry import Reply, ScriptedRegistry, said, scripted_registry
from tests.unit.remote.conftest import Opening

APP, LATEST = RepositoryName("team/app"), Tag("latest")
JSON = {"Content-Type": "application/json"}
TEXT = {"Content-Type": "text/plain; charset=utf-8"}
HTML = {"Content-Type": "text/html"}


@pytest.mark.parametrize(
    ("body", "headers", "reason"),
    [
        (b'{"errors": [{"code": "DENIED", "message": "no"}]}', JSON, "DENIED: no"),
        (b'{"errors": [{"code": "DENIED", "detail": "x"}]}', JSON, "DENIED"),
        (b'{"errors": ["quota exceeded", "really"]}', JSON, "quota exceeded: really"),
        (b'{"errors": "quota exceeded"}', JSON, "quota exceeded"),
        (b'{"errors": {"message": "quota exceeded"}}', JSON, "quota exceeded"),
        (b'{"message": "quota\\nexceeded", "time": 1}', JSON, "quota exceeded"),
        (b'{"error": "insufficient_scope", "error_description": "no scope"}', JSON, "insufficient_scope: no scope"),
        (b'{"error": {"code": 403, "message": "billing is off"}}', JSON, "billing is off"),
        (b'{"details": "incorrect username or password"}', JSON, "incorrect username or password"),
        (b'{"reason": "unknown"}', JSON, '{"reason": "unknown"}'),
        (b'{"title": "Quota", "detail": "exceeded", "status": 403}', JSON, "Quota: exceeded"),
        ("Größe falsch".encode("latin-1"), {"Content-Type": "text/plain"}, "Größe falsch"),
        (
            b"refused: Authorization: Basic dTpzZWNyZXQ= from 10.0.0.1",
            TEXT,
            "refused: Authorization: Basic … from 10.0.0.1",
        ),
        (b'{"message": "no access by Bearer eyJhbGciOi.eyJhIjox.c2ln"}', JSON, "no access by Bearer …"),
        (b'["a"]', JSON, '["a"]'),
        (b"access\tdenied\r\n by policy 7\x1b\n", TEXT, "access denied by policy 7"),
        (b"no type at all", {}, "no type at all"),
        (b"x" * 5000, TEXT, "x" * 300 + "…"),
        (b"<html><head><TITLE>Sign in &amp; go</TITLE></head><body>more</body>", HTML, "Sign in & go"),
        (b"<html><script>var a = '<b>';</script><body><h1>Gone</h1> fishing</body>", HTML, "Gone fishing"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", {}, "AccessDenied"),
        (b"<title>" * 2000, HTML, ""),
        (b"\x00\x01\x02", {"Content-Type": "application/octet-stream"}, ""),
        (b"\xff\xd8\xff\xe0", {"Content-Type": "image/jpeg"}, ""),
        (b"", {}, ""),
    ],
)
async def test_the_reason_is_quoted(
    script: ScriptedRegistry, opened: Opening, body: bytes, headers: dict[str, str], reason: str
):
    script.always("GET", "/v2/team/app/manifests/latest", Reply(status=403, body=body, headers=headers))
    with pytest.raises(Refused) as failure:
        await opened(attempts=1).get_manifest(APP, LATEST)
    said_so = f" {reason}" if reason else ""
    assert failure.value.message == (
        f"registry script answered 403{said_so} when asked to return manifest team/app:latest"
    )


@pytest.mark.parametrize(
    ("body", "coding"), [(gzip.compress(bytes(5 * 1024 * 1024)), "gzip"), (b"x", "br"), (b"x" * (5 * 1024 * 1024), "")]
)
async def test_a_refusal_is_one_whatever_its_body_is(
    script: ScriptedRegistry, opened: Opening, body: bytes, coding: str
):
    headers = {"Content-Encoding": coding} if coding else {}
    script.always("PUT", "/v2/team/app/manifests/latest", Reply(status=400, body=body, headers=headers))
    with pytest.raises(Invalid, match="was refused by registry script, which answered 400"):
        await opened(attempts=1).put_manifest(APP, image().manifest, LATEST)


async def test_a_repeated_status_is_shown_once(script: ScriptedRegistry, opened: Opening):
    body = b"<html><head><title>502 Bad Gateway</title></head>"
    script.always("GET", "/v2/team/app/manifests/latest", Reply(status=502, body=body, headers=HTML))
    with pytest.raises(Unavailable, match="answered 502 Bad Gateway when asked"):
        await opened(attempts=1).get_manifest(APP, LATEST)


async def test_the_text_of_another_host_is_not_quoted(script: ScriptedRegistry, opened: Opening):
    async with scripted_registry() as other:
        target = other.url.replace("127.0.0.1", "localhost")
        script.always("GET", "/v2/*", Reply(status=307, headers={"Location": f"{target}/internal"}))
        other.always("GET", "/internal", Reply(status=403, body=b"the internal secret", headers=TEXT))
        with pytest.raises(TagferryError, match="answered 403 when asked") as failure:
            await read(opened(attempts=1), APP, blob(b"x"))
    assert "secret" not in failure.value.message


async def test_the_token_server_s_error_is_quoted(script: ScriptedRegistry, opened: Opening):
    async with scripted_registry() as tokens:
        realm = {"WWW-Authenticate": f'Bearer realm="{tokens.url}/token"'}
        script.always("GET", "/v2/*", Reply(status=401, headers=realm))
        tokens.always("GET", "/token", said({"details": "incorrect username or password"}, status=401))
        store = opened(attempts=1, credentials=Credentials(username="u", password="p"))
        with pytest.raises(Refused, match="answered 401 incorrect username or password when asked to issue a token"):
            await store.get_manifest(APP, LATEST)
