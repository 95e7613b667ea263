"""A disabled user or key is rejected by all APIs until it is enabled."""

import base64
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from huaweicloudsdkswr.v2 import ListNamespacesRequest

from tagferry import signing
from tagferry.accounts.model import AccessKey, Permission
from tests.support.deployment import NORTH, Deployment, calling

Door = Callable[[], Awaitable[int]]


async def doors(ferry: Deployment, name: str, password: str, key: AccessKey) -> dict[str, Door]:
    """Return the status of a request with each kind of credentials. All of them worked before."""

    async def token_by(identity: dict[str, Any]) -> str:
        made = await ferry.http("POST", "/v3/auth/tokens", body={"auth": {"identity": identity}})
        assert made.status == 201
        return made.headers["X-Subject-Token"]

    by_password = {"methods": ["password"], "password": {"user": {"name": name, "password": password}}}
    by_key = {
        "methods": ["hw_ak_sk"],
        "hw_ak_sk": {"access": {"key": key.access_key}, "secret": {"key": key.secret_key}},
    }
    tokens = {"password": await token_by(by_password), "key": await token_by(by_key)}

    def asking(identity: dict[str, Any]) -> Door:
        async def ask() -> int:
            return (await ferry.http("POST", "/v3/auth/tokens", body={"auth": {"identity": identity}})).status

        return ask

    def showing(**headers: str) -> Door:
        async def show() -> int:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            return (await ferry.http("GET", "/v2/manage/namespaces", headers=sent)).status

        return show

    def signing_with(key: AccessKey, security_token: str | None = None) -> Door:
        async def sign() -> int:
            try:
                sdk = ferry.sdk(key=key, security_token=security_token)
                await calling(sdk.list_namespaces, ListNamespacesRequest())
            except ClientRequestException as refused:
                return int(refused.status_code)
            return 200

        return sign

    def logging_in(auth: str) -> Door:
        async def log_in() -> int:
            headers = {"Authorization": f"Basic {auth}"}
            status = (await ferry.http("GET", "/v2/team/app/tags/list", headers=headers)).status
            return 200 if status == 404 else status

        return log_in

    def pair(username: str, password: str) -> str:
        return base64.b64encode(f"{username}:{password}".encode()).decode()

    found: dict[str, Door] = {
        "password": asking(by_password),
        "access key and secret": asking(by_key),
        "signature": signing_with(key),
        "registry login by password": logging_in(pair(name, password)),
        "registry login by key": logging_in(
            pair(f"{NORTH}@{key.access_key}", signing.login_password(key.access_key, key.secret_key))
        ),
    }
    for root, token in tokens.items():
        found[f"token got by {root}"] = showing(X_Auth_Token=token)
        identity = {"methods": ["token"], "token": {"id": token}}
        made = await ferry.http("POST", "/v3.0/OS-CREDENTIAL/securitytokens", body={"auth": {"identity": identity}})
        temporary = made.document["credential"]
        temporary_key = AccessKey(temporary["access"], temporary["secret"])
        found[f"temporary key got by {root}"] = signing_with(temporary_key, temporary["securitytoken"])
        secret = await ferry.http("POST", "/v2/manage/utils/secret", headers={"X-Auth-Token": token})
        ((_, login),) = secret.document["auths"].items()
        found[f"login secret got by {root}"] = logging_in(login["auth"])
    return found


async def statuses(doors: dict[str, Door]) -> dict[str, int]:
    return {name: await door() for name, door in doors.items()}


@pytest.mark.parametrize("what", ["user", "key"])
async def test_all_doors_close_and_open_together(ferry: Deployment, what: str) -> None:
    password, key = await ferry.user("carol", team=Permission.READ)
    user_id = (await ferry.app.accounts.users.find("carol")).user_id
    ways = await doors(ferry, "carol", password, key)
    open_doors = {name: 201 if name in ("password", "access key and secret") else 200 for name in ways}
    assert await statuses(ways) == open_doors
    admin = {"X-Auth-Token": await ferry.token()}

    async def set_enabled(enabled: bool) -> None:
        if what == "user":
            change = {"user": {"enabled": enabled}}
            answer = await ferry.http("PATCH", f"/v3/users/{user_id}", body=change, headers=admin)
        else:
            path = f"/v3.0/OS-CREDENTIAL/credentials/{key.access_key}"
            body = {"credential": {"status": "active" if enabled else "inactive"}}
            answer = await ferry.http("PUT", path, body=body, headers=admin)
        assert answer.status == 200

    await set_enabled(False)
    stays_open = [name for name in ways if what == "key" and name.endswith("password")]
    closed = dict.fromkeys(ways, 401) | {name: open_doors[name] for name in stays_open}
    assert await statuses(ways) == closed

    await set_enabled(True)
    assert await statuses(ways) == open_doors
