"""The embedded registry has the same users and permissions as the management API."""

import base64
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tagferry.accounts.model import AccessKey, Permission
from tagferry.names import Digest, Tag
from tagferry.signing import login_password
from tests.support import images
from tests.support.deployment import NORTH, SOUTH, Answer, Deployment, deployed, name_in

pytestmark = pytest.mark.asyncio(loop_scope="module")

IMAGE = images.image()
USERS = {"reader": Permission.READ, "editor": Permission.EDIT, "manager": Permission.MANAGE}
CONTENT = b"a small blob"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ferry(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    """A reader, an editor and a manager of `team`, and a stranger; an image in `team/app` and in `release/app`."""
    async with deployed(tmp_path_factory.mktemp("door")) as deployment:
        for name, permission in USERS.items():
            await deployment.user(name, team=permission)
        await deployment.user("stranger")
        for name in (name_in("team"), name_in("release")):
            await images.push(deployment.store(NORTH), name, IMAGE, Tag("v1"))
        yield deployment


def login(name: str, password: str | None = None) -> dict[str, str]:
    """The header of a `docker login`."""
    pair = f"{name}:{password or f'password of {name}'}"
    return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


async def refusal(answer: Answer) -> tuple[int, str]:
    """The status and code of an error in the registry's own form."""
    assert answer.headers["Content-Type"] == "application/json"
    (error,) = answer.document["errors"]
    assert error["message"]
    return answer.status, error["code"]


async def pull(ferry: Deployment, who: dict[str, str], repository: str = "team/app") -> Answer:
    return await ferry.http("GET", f"/v2/{repository}/manifests/v1", headers=who)


async def push(ferry: Deployment, who: dict[str, str], repository: str = "team/app") -> Answer:
    return await ferry.http("POST", f"/v2/{repository}/blobs/uploads/", headers=who)


async def test_nobody_is_asked_to_log_in(ferry: Deployment) -> None:
    for path in ("/v2/", "/v2", "/v2/_catalog", "/v2/team/app/tags/list", "/v2/nobody/app/manifests/v1"):
        answer = await ferry.http("GET", path)
        assert await refusal(answer) == (401, "UNAUTHORIZED")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
        assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"
        assert answer.headers["X-Request-Id"]


async def test_a_user_logs_in_by_password(ferry: Deployment) -> None:
    for name in (*USERS, "stranger"):
        assert (await ferry.http("GET", "/v2/", headers=login(name))).status == 200
    admin = login(ferry.admin.name, ferry.admin.password)
    assert (await ferry.http("GET", "/v2/", headers=admin)).status == 200


async def test_an_access_key_logs_in_by_the_password_that_is_derived_from_it(ferry: Deployment) -> None:
    key = await ferry.key("reader")
    derived = login_password(key.access_key, key.secret_key)
    for name in (f"{NORTH}@{key.access_key}", f"any-project@{key.access_key}"):
        answer = await pull(ferry, login(name, derived))
        assert (answer.status, answer.content) == (200, IMAGE.manifest.raw)
    assert await refusal(await push(ferry, login(f"{NORTH}@{key.access_key}", derived))) == (403, "DENIED")


@pytest.mark.parametrize(
    "header",
    [
        "Basic",
        "Basic !!!",
        f"Basic {base64.b64encode(b'no colon').decode()}",
        f"Basic {base64.b64encode(bytes([255, 58, 254])).decode()}",
        f"Basic {base64.b64encode(b':').decode()}",
        f"Basic {base64.b64encode(b'@:').decode()}",
        f"Basic {base64.b64encode(bytes(3) + b':' + bytes(3)).decode()}",
        "Bearer token",
        "é",
    ],
)
async def test_a_login_that_cannot_be_read_is_refused(ferry: Deployment, header: str) -> None:
    answer = await ferry.http("GET", "/v2/", headers={"Authorization": header})
    assert await refusal(answer) == (401, "UNAUTHORIZED")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer ")


async def test_a_wrong_password_is_refused_and_five_lock_the_name(ferry: Deployment) -> None:
    password, key = await ferry.user("victim")
    for name, right in (("victim", password), (f"{NORTH}@{key.access_key}", login_password(*astuple(key)))):
        wrong = [await ferry.http("GET", "/v2/", headers=login(name, f"guess {number}")) for number in range(5)]
        assert {await refusal(answer) for answer in wrong} == {(401, "UNAUTHORIZED")}
        locked = await ferry.http("GET", "/v2/", headers=login(name, right))
        assert await refusal(locked) == (429, "TOOMANYREQUESTS")
        assert int(locked.headers["Retry-After"]) > 0


async def test_the_secret_key_itself_is_no_password(ferry: Deployment) -> None:
    key = await ferry.key("reader")
    answer = await ferry.http("GET", "/v2/", headers=login(f"{NORTH}@{key.access_key}", key.secret_key))
    assert await refusal(answer) == (401, "UNAUTHORIZED")


@pytest.mark.parametrize(
    ("name", "pulls", "pushes", "deletes"),
    [
        ("reader", 200, 403, 403),
        ("editor", 200, 202, 403),
        ("manager", 200, 202, 404),
        ("stranger", 403, 403, 403),
    ],
)
async def test_each_permission_allows_what_it_says(
    ferry: Deployment, name: str, pulls: int, pushes: int, deletes: int
) -> None:
    who = login(name)
    assert (await pull(ferry, who)).status == pulls
    assert (await push(ferry, who)).status == pushes
    gone = await ferry.http("DELETE", "/v2/team/app/manifests/no-such-tag", headers=who)
    assert gone.status == deletes


async def test_a_permission_in_one_organization_or_region_is_none_in_another(ferry: Deployment) -> None:
    editor = login("editor")
    assert await refusal(await pull(ferry, editor, "release/app")) == (403, "DENIED")
    assert await refusal(await push(ferry, editor, "release/app")) == (403, "DENIED")
    south = await ferry.http("POST", "/v2/team/app/blobs/uploads/", region=SOUTH, headers=editor)
    assert await refusal(south) == (403, "DENIED")


async def test_a_missing_organization_or_repository_is_told(ferry: Deployment) -> None:
    who = login(ferry.admin.name, ferry.admin.password)
    assert await refusal(await push(ferry, who, "nobody/app")) == (404, "NAME_UNKNOWN")
    assert await refusal(await pull(ferry, who, "nobody/app")) == (404, "NAME_UNKNOWN")
    assert await refusal(await pull(ferry, who, "team/nothing")) == (404, "NAME_UNKNOWN")
    assert (await refusal(await push(ferry, who, "team")))[0] in (400, 404)
    assert (await refusal(await push(ferry, who, "Team/app")))[0] == 400


async def test_the_catalog_shows_each_user_what_it_may_pull(ferry: Deployment) -> None:
    admin = login(ferry.admin.name, ferry.admin.password)
    shown = {
        name: (await ferry.http("GET", "/v2/_catalog", headers=who)).document["repositories"]
        for name, who in {"admin": admin, "reader": login("reader"), "stranger": login("stranger")}.items()
    }
    assert shown == {"admin": ["release/app", "team/app"], "reader": ["team/app"], "stranger": []}


async def test_a_blob_is_not_mounted_out_of_a_repository_that_the_user_may_not_read(ferry: Deployment) -> None:
    secret = Digest.of(CONTENT)
    await ferry.store(NORTH).write_blob(name_in("release"), images.blob(CONTENT), images.opening(CONTENT))
    path = f"/v2/team/app/blobs/uploads/?mount={secret}&from=release/app"
    answer = await ferry.http("POST", path, headers=login("editor"))
    assert answer.status in (202, 403)
    assert await ferry.store(NORTH).stat_blob(name_in("team"), secret) is None


async def test_an_editor_pushes_an_image_that_the_reader_pulls(ferry: Deployment) -> None:
    editor, reader = login("editor"), login("reader")
    sample = images.image(seed="pushed")
    for digest, content in sample.all_blobs.items():
        started = await push(ferry, editor)
        location = started.headers["Location"].removeprefix(ferry.urls[NORTH])
        joint = "&" if "?" in location else "?"
        done = await ferry.http("PUT", f"{location}{joint}digest={digest}", body=content, headers=editor)
        assert done.status == 201, done.content
    media = {"Content-Type": sample.manifest.media_type}
    answer = await ferry.http("PUT", "/v2/team/app/manifests/v2", body=sample.manifest.raw, headers=editor | media)
    assert answer.status == 201
    pulled = await ferry.http("GET", "/v2/team/app/manifests/v2", headers=reader)
    assert pulled.content == sample.manifest.raw
    listed = await ferry.http("GET", "/v2/team/app/tags/list", headers=reader)
    assert json.loads(listed.content)["tags"] == ["v1", "v2"]


async def test_a_new_password_works_at_once(ferry: Deployment) -> None:
    await ferry.user("changer", team=Permission.READ)
    assert (await pull(ferry, login("changer"))).status == 200
    user = await ferry.app.accounts.users.find("changer")
    await ferry.app.accounts.users.update(user.user_id, password="another password")
    assert (await pull(ferry, login("changer", "another password"))).status == 200
    assert (await pull(ferry, login("changer", "a third password"))).status == 401


def astuple(key: AccessKey) -> tuple[str, str]:
    return key.access_key, key.secret_key
