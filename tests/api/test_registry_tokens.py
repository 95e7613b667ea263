"""Tokens of the embedded registry, as docker, containerd and all who read a Bearer challenge get and use them."""

import asyncio
import base64
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
import pytest_asyncio
from huaweicloudsdkswr.v2 import CreateSecretRequest

from tagferry.accounts.model import Permission
from tagferry.accounts.repositories import RepositoryMetadata
from tagferry.names import Digest, Tag
from tagferry.signing import login_password
from tests.support import images
from tests.support.deployment import NORTH, SOUTH, Answer, Deployment, calling, deployed, name_in

pytestmark = pytest.mark.asyncio(loop_scope="module")

IMAGE = images.image()
APP, OPEN = "repository:team/app", "repository:team/open"
CATALOG = "registry:catalog:*"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ferry(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    """A reader, an editor and a manager of `team`, a stranger, and images in `team/app` and the public `team/open`."""
    async with deployed(tmp_path_factory.mktemp("tokens")) as deployment:
        for name, permission in (("reader", 1), ("editor", 3), ("manager", 7)):
            await deployment.user(name, team=Permission(permission))
        await deployment.user("stranger")
        admin = await deployment.app.accounts.users.find(deployment.admin.name)
        await deployment.app.services.swr.repositories.create(
            admin, NORTH, name_in("team", "open"), RepositoryMetadata(is_public=True)
        )
        for repository in ("app", "open"):
            await images.push(deployment.store(NORTH), name_in("team", repository), IMAGE, Tag("v1"))
        yield deployment


def basic(name: str, password: str | None = None) -> dict[str, str]:
    pair = f"{name}:{password or f'password of {name}'}"
    return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


async def ask(
    ferry: Deployment, who: str | dict[str, str] | None = None, *scopes: str, service: str = "dockyard", **query: str
) -> Answer:
    """Ask for a token as docker does: by GET, with the login as Basic."""
    headers = basic(who) if isinstance(who, str) else who or {}
    asked = urlencode([("service", service), *(("scope", one) for one in scopes), *query.items()])
    return await ferry.http("GET", f"/v2/_token?{asked}", headers=headers)


async def post(ferry: Deployment, **form: str) -> Answer:
    """Ask for a token as containerd does: by POST, with the login in a form."""
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return await ferry.http("POST", "/v2/_token", body=urlencode(form).encode(), headers=headers)


async def refreshable(ferry: Deployment, username: str, password: str | None = None, scope: str = "") -> Answer:
    """Ask as a client that wants to get more tokens later."""
    proof = {"username": username, "password": password or f"password of {username}"}
    return await post(ferry, grant_type="password", **proof, scope=scope, access_type="offline")


async def token(ferry: Deployment, who: str | dict[str, str] | None = None, *scopes: str) -> dict[str, str]:
    """The header that a token for these scopes makes."""
    answer = await ask(ferry, who, *scopes)
    assert answer.status == 200, answer.content
    return bearer(answer)


def bearer(answer: Answer) -> dict[str, str]:
    return {"Authorization": f"Bearer {answer.document['token']}"}


def refusal(answer: Answer) -> tuple[int, str]:
    (error,) = answer.document["errors"]
    assert error["message"]
    return answer.status, error["code"]


def challenge(answer: Answer) -> dict[str, str]:
    scheme, _, parameters = answer.headers["WWW-Authenticate"].partition(" ")
    assert scheme == "Bearer"
    return dict(re.findall(r'(\w+)="([^"]*)"', parameters))


async def statuses(ferry: Deployment, who: dict[str, str], repository: str = "team/app") -> tuple[int, int, int]:
    """Return the statuses of a pull, a push and a deletion."""
    base = f"/v2/{repository}"
    pulled = await ferry.http("GET", f"{base}/manifests/v1", headers=who)
    pushed = await ferry.http("POST", f"{base}/blobs/uploads/", headers=who)
    deleted = await ferry.http("DELETE", f"{base}/manifests/no-such-tag", headers=who)
    return pulled.status, pushed.status, deleted.status


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/v2/", None),
        ("GET", "/v2/_catalog", CATALOG),
        ("HEAD", "/v2/team/app/manifests/v1", f"{APP}:pull"),
        ("POST", "/v2/team/app/blobs/uploads/", f"{APP}:pull,push"),
        ("DELETE", "/v2/team/app/manifests/v1", f"{APP}:delete"),
        (
            "POST",
            f"/v2/team/app/blobs/uploads/?mount={Digest.of(b'x')}&from=team/open",
            f"{APP}:pull,push {OPEN}:pull",
        ),
        ("POST", f"/v2/team/app/blobs/uploads/?mount={Digest.of(b'x')}&from=A", f"{APP}:pull,push"),
    ],
)
async def test_whoever_shows_nothing_is_told_where_to_get_a_token_for_what(
    ferry: Deployment, method: str, path: str, scope: str | None
) -> None:
    answer = await ferry.http(method, path)
    assert answer.status == 401
    told = {"realm": f"{ferry.urls[NORTH]}/v2/_token", "service": "dockyard"}
    assert challenge(answer) == (told | {"scope": scope} if scope else told)


async def test_a_token_is_answered_as_the_protocol_has_it(ferry: Deployment) -> None:
    answer = await ask(ferry, "reader", f"{APP}:pull", account="reader", client_id="docker", offline_token="true")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    document = answer.document
    assert document["token"] == document["access_token"]
    assert (document["expires_in"], document["token_type"]) == (1800, "Bearer")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", document["issued_at"])
    assert "refresh_token" not in document


@pytest.mark.parametrize(
    ("who", "granted", "answered"),
    [
        ("reader", f"{APP}:pull", (200, 403, 403)),
        ("editor", f"{APP}:pull,push", (200, 202, 403)),
        ("manager", f"{APP}:pull,push,delete", (200, 202, 404)),
        ("stranger", "", (403, 403, 403)),
        (None, "", (401, 401, 401)),
    ],
)
async def test_of_what_is_asked_for_only_what_the_user_may_do_is_granted(
    ferry: Deployment, who: str | None, granted: str, answered: tuple[int, int, int]
) -> None:
    for actions in ("pull,push,delete", "*"):
        answer = await ask(ferry, who, f"{APP}:{actions}")
        assert answer.document["scope"] == granted
        assert await statuses(ferry, bearer(answer)) == answered


async def test_nobody_may_pull_what_is_public_and_nothing_else(ferry: Deployment) -> None:
    answer = await ask(ferry, None, f"{OPEN}:pull,push", f"{APP}:pull", CATALOG)
    assert answer.document["scope"] == f"{OPEN}:pull"
    who = bearer(answer)
    assert await statuses(ferry, who, "team/open") == (200, 401, 401)
    assert await statuses(ferry, who, "team/app") == (401, 401, 401)
    assert (await ferry.http("GET", "/v2/", headers=who)).status == 200
    assert (await ferry.http("GET", "/v2/_catalog", headers=who)).status == 401
    empty = {"Authorization": f"Basic {base64.b64encode(b':').decode()}"}
    assert (await ask(ferry, empty, f"{OPEN}:pull")).document["scope"] == f"{OPEN}:pull"


async def test_a_token_is_good_for_nothing_that_it_was_not_asked_for(ferry: Deployment) -> None:
    who = await token(ferry, "manager", f"{APP}:pull")
    assert await statuses(ferry, who) == (200, 401, 401)
    assert await statuses(ferry, who, "team/open") == (401, 401, 401)
    refused = await ferry.http("POST", "/v2/team/app/blobs/uploads/", headers=who)
    assert refusal(refused) == (401, "UNAUTHORIZED")
    assert (challenge(refused)["error"], challenge(refused)["scope"]) == ("insufficient_scope", f"{APP}:pull,push")
    for scopes in ((), (f"{APP}:pull",)):
        catalog = await ferry.http("GET", "/v2/_catalog", headers=await token(ferry, "reader", *scopes))
        assert (catalog.status, challenge(catalog)["scope"]) == (401, CATALOG)


async def test_the_catalog_needs_a_user(ferry: Deployment) -> None:
    listed = await ferry.http("GET", "/v2/_catalog", headers=await token(ferry, "reader", CATALOG))
    assert listed.document["repositories"] == ["team/app", "team/open"]


async def test_a_login_without_a_scope_is_proved_at_the_base(ferry: Deployment) -> None:
    """Log in as `docker login` does."""
    who = await token(ferry, "stranger")
    assert (await ferry.http("GET", "/v2/", headers=who)).status == 200
    assert (await ferry.http("GET", "/v2/team/app/manifests/v1", headers=who)).status == 401


async def test_several_scopes_let_a_blob_be_mounted(ferry: Deployment) -> None:
    digest = next(iter(IMAGE.all_blobs))
    path = f"/v2/team/fresh/blobs/uploads/?mount={digest}&from=team/app"
    fresh = "repository:team/fresh:pull,push"
    both = await token(ferry, "editor", fresh, f"{APP}:pull")
    assert (await ferry.http("POST", path, headers=both)).status == 201
    joined = await token(ferry, "editor", f"{fresh} {APP}:pull")
    assert (await ferry.http("POST", path, headers=joined)).status == 201
    alone = await ferry.http("POST", path, headers=await token(ferry, "editor", fresh))
    assert refusal(alone) == (401, "UNAUTHORIZED")
    assert f'scope="{fresh} {APP}:pull"' in alone.headers["WWW-Authenticate"]
    assert 'error="insufficient_scope"' in alone.headers["WWW-Authenticate"]


async def test_a_mount_from_where_one_may_not_pull_becomes_an_upload(ferry: Deployment) -> None:
    """Requesting the scope would not help, so the client must not be sent in a loop."""
    digest = next(iter(IMAGE.all_blobs))
    both = await token(ferry, "editor", "repository:team/fresh:pull,push", "repository:release/hidden:pull")
    path = f"/v2/team/fresh/blobs/uploads/?mount={digest}&from=release/hidden"
    assert (await ferry.http("POST", path, headers=both)).status == 202


async def test_every_login_of_the_registry_gets_tokens(ferry: Deployment) -> None:
    key = await ferry.key("reader")
    given = await calling(ferry.sdk(key=key).create_secret, CreateSecretRequest())
    ((_, info),) = given.auths.items()
    name, password = f"{NORTH}@{key.access_key}", login_password(key.access_key, key.secret_key)
    secret_name, _, secret = base64.b64decode(info.auth).decode().partition(":")
    for username, right in (("reader", "password of reader"), (name, password), (secret_name, secret)):
        by_get = await ask(ferry, basic(username, right), f"{APP}:pull,push")
        by_post = await post(
            ferry, grant_type="password", username=username, password=right, scope=f"{APP}:pull,push", client_id="x"
        )
        for answer in (by_get, by_post):
            assert (answer.status, answer.document["scope"]) == (200, f"{APP}:pull")
            assert await statuses(ferry, bearer(answer)) == (200, 403, 401)
    await ferry.app.accounts.keys.delete(key.access_key)


async def test_a_wrong_login_gets_none_and_five_lock_the_name(ferry: Deployment) -> None:
    password, _ = await ferry.user("victim")
    for number in range(3):
        answer = await ask(ferry, basic("victim", f"guess {number}"))
        assert refusal(answer) == (401, "UNAUTHORIZED")
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")
    for number in range(2):
        guess = await post(ferry, grant_type="password", username="victim", password=f"guess {number}")
        assert refusal(guess) == (401, "UNAUTHORIZED")
    for locked in (
        await ask(ferry, basic("victim", password)),
        await post(ferry, grant_type="password", username="victim", password=password),
    ):
        assert refusal(locked) == (429, "TOOMANYREQUESTS")
        assert int(locked.headers["Retry-After"]) > 0


async def test_a_permission_is_that_of_the_moment_and_not_the_tokens(ferry: Deployment) -> None:
    await ferry.user("climber")
    who = await token(ferry, "climber", f"{APP}:pull,push")
    assert await statuses(ferry, who) == (403, 403, 401)
    await ferry.grant("climber", NORTH, name_in("team").namespace, Permission.EDIT)
    assert (await statuses(ferry, who))[:2] == (200, 202)
    await ferry.grant("climber", NORTH, name_in("team").namespace, Permission.READ)
    assert (await statuses(ferry, who))[:2] == (200, 403)


@pytest.mark.parametrize("end", ["delete", "disable", "password"])
async def test_a_token_ends_with_its_user_or_the_password(ferry: Deployment, end: str) -> None:
    name = f"leaver-{end}"
    await ferry.user(name, team=Permission.READ)
    given = await refreshable(ferry, name, scope=f"{APP}:pull")
    assert (await statuses(ferry, bearer(given)))[0] == 200
    users = ferry.app.accounts.users
    user_id = (await users.find(name)).user_id
    if end == "delete":
        await users.delete(user_id)
    elif end == "disable":
        await users.update(user_id, enabled=False)
    else:
        await users.update(user_id, password="another password")
    assert (await statuses(ferry, bearer(given)))[0] == 401
    again = await post(ferry, grant_type="refresh_token", refresh_token=given.document["refresh_token"])
    assert refusal(again) == (401, "UNAUTHORIZED")
    # The login itself was right a moment ago.
    assert refusal(await ask(ferry, name)) == (401, "UNAUTHORIZED")


async def test_a_token_ends_with_the_key_and_no_later_than_the_secret_that_it_was_got_by(ferry: Deployment) -> None:
    key = await ferry.key("reader")
    headers = {"X-Auth-Token": await ferry.token(user="reader", password="password of reader")}
    made = await ferry.http("POST", "/v2/manage/utils/secret?duration_seconds=900", headers=headers)
    ((_, info),) = made.document["auths"].items()
    username, _, secret = base64.b64decode(info["auth"]).decode().partition(":")
    given = await refreshable(ferry, username, secret, f"{APP}:pull")
    assert 890 <= given.document["expires_in"] <= 900
    with ferry.later(timedelta(minutes=15)):
        assert (await statuses(ferry, bearer(given)))[0] == 401
        again = await post(ferry, grant_type="refresh_token", refresh_token=given.document["refresh_token"])
        assert refusal(again) == (401, "UNAUTHORIZED")

    derived = basic(f"x@{key.access_key}", login_password(key.access_key, key.secret_key))
    who = await token(ferry, derived, f"{APP}:pull")
    assert (await statuses(ferry, who))[0] == 200
    await ferry.app.accounts.keys.delete(key.access_key)
    assert (await statuses(ferry, who))[0] == 401


async def test_a_token_ends_at_its_time_and_a_refresh_token_gets_another(ferry: Deployment) -> None:
    given = await refreshable(ferry, "editor", scope=f"{APP}:pull")
    refresh = given.document["refresh_token"]
    with ferry.later(timedelta(minutes=29)):
        assert (await statuses(ferry, bearer(given)))[0] == 200
    with ferry.later(timedelta(days=300)):
        refused = await ferry.http("GET", "/v2/team/app/manifests/v1", headers=bearer(given))
        assert refusal(refused) == (401, "UNAUTHORIZED")
        assert "has expired" in refused.document["errors"][0]["message"]
        again = await post(ferry, grant_type="refresh_token", refresh_token=refresh, scope=f"{APP}:pull,push")
        assert await statuses(ferry, bearer(again)) == (200, 202, 401)


async def test_a_token_is_for_one_regions_registry_and_for_nothing_else(ferry: Deployment) -> None:
    given = await refreshable(ferry, "reader", scope=f"{APP}:pull")
    refresh = given.document["refresh_token"]
    for region, who in ((SOUTH, bearer(given)), (NORTH, {"Authorization": f"Bearer {refresh}"})):
        answer = await ferry.http("GET", "/v2/", region=region, headers=who)
        assert refusal(answer) == (401, "UNAUTHORIZED")
    for wrong in (given.document["token"], "x", "é"):
        assert refusal(await post(ferry, grant_type="refresh_token", refresh_token=wrong)) == (401, "UNAUTHORIZED")
    managed = await ferry.http("GET", "/v2/manage/regions", headers=bearer(given))
    assert managed.refused()[0] == 401
    as_password = await ask(ferry, basic("reader", given.document["token"]))
    assert refusal(as_password) == (401, "UNAUTHORIZED")


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("scope=app", "scope must have the form type:name:action,action"),
        ("scope=repository:team/app", "scope must have the form"),
        ("scope=repository:team/app:", "scope must have the form"),
        ("&".join(f"scope=repository:team/r{number}:pull" for number in range(33)), "scope must be at most 32"),
    ],
)
async def test_a_scope_that_cannot_be_read_is_refused(ferry: Deployment, query: str, told: str) -> None:
    answer = await ferry.http("GET", f"/v2/_token?{query}", headers=basic("reader"))
    assert refusal(answer) == (400, "UNSUPPORTED")
    assert answer.document["errors"][0]["message"].startswith(told)


async def test_what_there_is_not_here_is_not_granted(ferry: Deployment) -> None:
    unknown = ["repository(plugin):team/app:pull", "repository:Team/App:pull", f"{APP}:fly", "registry:catalog:pull"]
    odd = [f"repository:{'a' * 300}:pull", "repository:host:5000/team/app:pull", "a:b:c", "repository:é:pull"]
    answer = await ask(ferry, ferry_admin(ferry), *unknown, *odd, "")
    assert (answer.status, answer.document["scope"]) == (200, "")
    missing = await ask(ferry, ferry_admin(ferry), "repository:nobody/app:pull")
    assert (missing.status, missing.document["scope"]) == (200, "")


def ferry_admin(ferry: Deployment) -> dict[str, str]:
    return basic(ferry.admin.name, ferry.admin.password)


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ({}, "grant_type is mandatory"),
        ({"grant_type": "magic"}, "grant_type must be password or refresh_token"),
        ({"grant_type": "password"}, "username is mandatory"),
        ({"grant_type": "password", "username": "reader"}, "password is mandatory"),
        ({"grant_type": "refresh_token"}, "refresh_token is mandatory"),
        ({"grant_type": "password", "username": "reader", "password": "x", "scope": "x"}, "scope must have the form"),
    ],
)
async def test_a_form_that_breaks_a_rule_is_refused(ferry: Deployment, form: dict[str, str], told: str) -> None:
    answer = await post(ferry, **form)
    assert refusal(answer) == (400, "UNSUPPORTED")
    assert answer.document["errors"][0]["message"].startswith(told)


@pytest.mark.parametrize("body", [b"\xff\xfe=%ff&grant_type=%00", b"grant_type=password&username=%ff&password=%ff%00"])
async def test_a_form_of_any_bytes_is_refused(ferry: Deployment, body: bytes) -> None:
    answer = await ferry.http("POST", "/v2/_token", body=body)
    assert refusal(answer) in ((400, "UNSUPPORTED"), (401, "UNAUTHORIZED"))


async def test_a_form_has_a_limit_and_the_path_two_methods(ferry: Deployment) -> None:
    assert refusal(await ferry.http("POST", "/v2/_token", body=b"x" * 70_000)) == (413, "UNSUPPORTED")
    answer = await ferry.http("PUT", "/v2/_token")
    assert (*refusal(answer), answer.headers["Allow"]) == (405, "UNSUPPORTED", "GET, POST")


@pytest.mark.parametrize(
    ("host", "scheme", "realm"),
    [
        (b"registry.example.com:5000", b"", "http://registry.example.com:5000/v2/_token"),
        (b"[::1]:5000", b"", "http://[::1]:5000/v2/_token"),
        (b"registry.example.com", b"https", "https://registry.example.com/v2/_token"),
        (b"a_b", b"", "http://a_b/v2/_token"),
        (b"odd$host", b"", None),
    ],
)
async def test_the_challenge_leads_where_the_caller_came_from(
    ferry: Deployment, host: bytes, scheme: bytes, realm: str | None
) -> None:
    """The scheme comes from a proxy on the same machine; the host is the one of the request."""
    headers = b"X-Forwarded-Proto: " + scheme + b"\r\n" if scheme else b""
    address, _, port = ferry.urls[NORTH].removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(address, int(port))
    try:
        writer.write(b"GET /v2/ HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n" + headers + b"\r\n")
        answer = await asyncio.wait_for(reader.read(), timeout=60)
    finally:
        writer.close()
        await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 401 ")
    (told,) = re.findall(rb'realm="([^"]*)"', answer)
    assert told.decode() == (realm or f"{ferry.urls[NORTH]}/v2/_token")


async def test_a_region_that_is_reached_by_another_address_leads_there(tmp_path: Any) -> None:
    regions: dict[str, dict[str, Any]] = {
        NORTH: {"listen": "", "public_url": "https://registry.example.com"},
        SOUTH: {"listen": ""},
    }
    async with deployed(tmp_path, regions=regions, limits={"registry_token_lifetime_minutes": 5}) as ferry:
        told = challenge(await ferry.http("GET", "/v2/"))
        assert told["realm"] == "https://registry.example.com/v2/_token"
        given = await ask(ferry, ferry_admin(ferry), f"{APP}:pull")
        assert given.document["expires_in"] == 300
