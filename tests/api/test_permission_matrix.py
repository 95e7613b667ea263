"""The permission matrix: all APIs make the same decisions, shown as one table."""

import base64
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import pytest_asyncio

from tagferry.accounts.model import Permission
from tagferry.app import DEFAULT_DOMAIN
from tagferry.names import RegionId, Tag
from tests.support import images
from tests.support.deployment import NORTH, RELEASE, SOUTH, TEAM, Deployment, deployed, name_in

pytestmark = pytest.mark.asyncio(loop_scope="module")

SAMPLE = images.image()
NOBODY = "nobody"
REPOS = f"/v2/manage/namespaces/{TEAM}/repos"
MISSING_TAG = "missing"
MISSING_POLICY = 10**9
POLICY = {"algorithm": "or", "rules": [{"template": "tag_rule", "params": {"num": "9"}, "tag_selectors": []}]}
UNKNOWN = {"user_id": "0" * 32, "user_name": "unknown", "auth": 1}
"""A user who does not exist, so that callers who may change permissions get 404."""

# What each may do: L look at it by the management API and find it in the list, F find it among what is shared, P pull,
# S synchronize from it, I into it, U push, T tag and make triggers, D delete, R let a policy delete, A change who may
# do what in it, O change who may do what in its organization. In lower case: only in the public repository.
TABLE = {
    "admin": "LFPSIUTDRAO",
    "manager": "LFPSIUTDRAO",
    "editor": "LFPSIUT",
    "reader": "LFPS",
    "repository-manager": "LFPSIUTDRA",
    "repository-editor": "LFPSIUT",
    "repository-reader": "LFPS",
    "shared-with": "LFPS",
    "stranger": "lps",
    NOBODY: "p",
}
PERMISSIONS = {"reader": Permission.READ, "editor": Permission.EDIT, "manager": Permission.MANAGE}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ferry(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    """Two repositories of the team, in both regions, where everybody holds the same.

    Besides, everybody may read one organization and write another one, to synchronize from and to.
    """
    async with deployed(tmp_path_factory.mktemp("matrix")) as deployment:
        headers = await token(deployment, "admin")
        users = deployment.app.accounts.users
        for name in TABLE.keys() - {"admin", NOBODY}:
            domain = {"shared-with": "partners", "stranger": "strangers"}.get(name, DEFAULT_DOMAIN)
            await deployment.user(name, domain=domain)
            await deployment.grant(name, NORTH, RELEASE, Permission.READ)
            await deployment.grant(name, SOUTH, RELEASE, Permission.EDIT)
        for region in (NORTH, SOUTH):

            async def make(path: str, body: Any, region: RegionId = region) -> None:
                made = await deployment.http("POST", path, region=region, body=body, headers=headers)
                assert made.status == 201, made.content

            for name, permission in PERMISSIONS.items():
                await deployment.grant(name, region, TEAM, permission)
            for repository in ("private", "public"):
                said = {"category": "other", "description": ""}
                await make(REPOS, {"repository": repository, "is_public": repository == "public", **said})
                for owner in (TEAM, RELEASE):
                    await images.push(deployment.store(region), name_in(owner, repository), SAMPLE, Tag("v1"))
                for name, permission in PERMISSIONS.items():
                    user = await users.find(f"repository-{name}")
                    grant = {"user_id": user.user_id, "user_name": user.name, "auth": int(permission)}
                    await make(f"{REPOS}/{repository}/access", [grant])
                share = {"access_domain": "partners", "permit": "read", "deadline": "forever", "description": ""}
                await make(f"/v2/manage/namespaces/{TEAM}/repositories/{repository}/access-domains", share)
        yield deployment


def password(ferry: Deployment, who: str) -> str:
    return ferry.admin.password if who == ferry.admin.name else f"password of {who}"


async def token(ferry: Deployment, who: str) -> dict[str, str]:
    content = {"Content-Type": "application/json"}
    if who == NOBODY:
        return content
    return {**content, "X-Auth-Token": await ferry.token(user=who, password=password(ferry, who))}


def login(ferry: Deployment, who: str) -> dict[str, str]:
    if who == NOBODY:
        return {}
    pair = f"{who}:{password(ferry, who)}"
    return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


async def may(ferry: Deployment, who: str, repository: str) -> str:
    """Return what a user may do in a repository, in the letters of the table. Each letter is one response or more."""
    api, registry = await token(ferry, who), login(ferry, who)

    async def allows(method: str, path: str, *, body: Any = None, headers: Mapping[str, str] = api) -> bool:
        answer = await ferry.http(method, path, body=body, headers=headers)
        assert answer.status < 500, answer.content
        return answer.status not in (401, 403)

    def planned(source: str, target: str) -> dict[str, Any]:
        path = f"/v2/manage/namespaces/{source}/repos/{repository}/sync_plan"
        body = {"imageTag": ["v1"], "remoteNamespace": target, "remoteRegionId": SOUTH}
        return {"method": "POST", "path": path, "body": body}

    listed = await ferry.http("GET", f"/v2/manage/repos?namespace={TEAM}&name={repository}", headers=api)
    is_listed = listed.status == 200 and [one["name"] for one in listed.document] == [repository]
    seen = [f"{REPOS}/{repository}{below}" for below in ("", "/tags", "/triggers", "/retentions")]
    looks = {is_listed, *[await allows("GET", path) for path in seen]}
    assert len(looks) == 1, f"{who} sees {repository} at one door and not at another"
    shared = [
        await ferry.http("GET", f"/v2/manage/shared-repositories?center={side}&name={repository}", headers=api)
        for side in ("self", "thirdparty")
    ]
    base = f"/v2/{TEAM}/{repository}"
    retag = {"source_tag": MISSING_TAG, "destination_tag": "copy"}
    # No webhook matches this cluster, so users who may create triggers get that error instead.
    trigger = {
        **dict.fromkeys(("name", "application", "cluster_id", "cluster_ns"), "none"),
        "action": "update",
        "app_type": "deployments",
        "trigger_type": "all",
        "condition": ".*",
        "enable": "true",
    }
    doors = {
        "L": looks == {True},
        "F": any(answer.status == 200 and answer.document for answer in shared),
        "P": await allows("GET", f"{base}/manifests/v1", headers=registry)
        and await allows("HEAD", f"{base}/blobs/{next(iter(SAMPLE.all_blobs))}", headers=registry),
        "S": await allows(**planned(TEAM, RELEASE)),
        "I": await allows(**planned(RELEASE, TEAM)),
        "U": await allows("POST", f"{base}/blobs/uploads/", headers=registry),
        "T": await allows("POST", f"{REPOS}/{repository}/tags", body=retag),
        "D": await allows("DELETE", f"{REPOS}/{repository}/tags/{MISSING_TAG}"),
        "R": await allows("PATCH", f"{REPOS}/{repository}/retentions/{MISSING_POLICY}", body=POLICY),
        "A": await allows("PATCH", f"{REPOS}/{repository}/access", body=[UNKNOWN]),
        "O": await allows("PATCH", f"/v2/manage/namespaces/{TEAM}/access", body=[UNKNOWN]),
    }
    deletes = await allows("DELETE", f"{base}/manifests/{MISSING_TAG}", headers=registry)
    assert deletes == doors["D"], f"{who} may delete in {repository} at one door and not at the other"
    triggers = await allows("POST", f"{REPOS}/{repository}/triggers", body=trigger)
    ends = await allows("DELETE", f"{REPOS}/{repository}/triggers/{MISSING_TAG}")
    assert triggers == ends == doors["T"], f"{who} may make triggers in {repository} and not tag, or the other way"
    given = await ferry.http("GET", f"/v2/_token?scope=repository:{TEAM}/{repository}:*", headers=registry)
    by_token = {"Authorization": f"Bearer {given.document['token']}"}
    held = {
        "P": await allows("GET", f"{base}/manifests/v1", headers=by_token),
        "U": await allows("POST", f"{base}/blobs/uploads/", headers=by_token),
        "D": await allows("DELETE", f"{base}/manifests/{MISSING_TAG}", headers=by_token),
    }
    assert held == {letter: doors[letter] for letter in held}, f"{who} may do something else by a token"
    actions = {"P": "pull", "U": "push", "D": "delete"}
    granted = set(filter(None, given.document["scope"].rpartition(":")[2].split(",")))
    assert granted == {actions[letter] for letter, is_open in held.items() if is_open}
    return "".join(letter for letter, is_open in doors.items() if is_open)


@pytest.mark.parametrize("who", TABLE)
async def test_what_one_may_do_is_the_same_at_every_door(ferry: Deployment, who: str):
    expected = TABLE[who]
    private = "".join(letter for letter in expected if letter.isupper())
    public = expected.upper()
    assert (await may(ferry, who, "private"), await may(ferry, who, "public")) == (private, public)
