"""The unmodified IAM SDK makes, rotates, disables and deletes access keys."""

import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from huaweicloudsdkiam import v3 as iam
from huaweicloudsdkswr.v2 import ListNamespacesRequest

from tagferry.accounts.model import AccessKey
from tests.support.deployment import Deployment, calling, deployed
from tests.support.sdk_calls import ask_iam, refused_by_iam

pytestmark = pytest.mark.asyncio(loop_scope="module")

FORBIDDEN, MISSING, CONFLICT = (403, "SVCSTG.SWR.4039002"), (404, "IAM.0004"), (409, "IAM.0005")
BAD, ABSENT = (400, "SVCSTG.SWR.4000014"), (400, "SVCSTG.SWR.4001014")
_numbers = itertools.count()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ferry(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    async with deployed(tmp_path_factory.mktemp("keys")) as deployment:
        yield deployment


@pytest_asyncio.fixture(loop_scope="module")
async def somebody(ferry: Deployment) -> tuple[str, AccessKey]:
    """An ordinary user's id and key."""
    name = f"somebody-{next(_numbers)}"
    _, key = await ferry.user(name)
    return (await ferry.app.accounts.users.find(name)).user_id, key


def create(**fields: Any) -> tuple[str, Any]:
    body = iam.CreatePermanentAccessKeyRequestBody(credential=iam.CreateCredentialOption(**fields))
    return "create_permanent_access_key", iam.CreatePermanentAccessKeyRequest(body=body)


def listing(user_id: str | None = None) -> tuple[str, Any]:
    return "list_permanent_access_keys", iam.ListPermanentAccessKeysRequest(user_id=user_id)


def show(access_key: str) -> tuple[str, Any]:
    return "show_permanent_access_key", iam.ShowPermanentAccessKeyRequest(access_key=access_key)


def update(access_key: str, **fields: Any) -> tuple[str, Any]:
    body = iam.UpdatePermanentAccessKeyRequestBody(credential=iam.UpdateCredentialOption(**fields))
    return "update_permanent_access_key", iam.UpdatePermanentAccessKeyRequest(access_key=access_key, body=body)


def delete(access_key: str) -> tuple[str, Any]:
    return "delete_permanent_access_key", iam.DeletePermanentAccessKeyRequest(access_key=access_key)


async def test_a_user_rotates_its_key_by_itself(ferry: Deployment, somebody: tuple[str, AccessKey]) -> None:
    user_id, old = somebody
    made = (await ask_iam(ferry, *create(user_id=user_id, description="nightly"), key=old)).credential
    assert (made.user_id, made.description, made.status) == (user_id, "nightly", "active")
    new = AccessKey(made.access, made.secret)
    await calling(ferry.sdk(key=new).list_namespaces, ListNamespacesRequest())

    changed = (await ask_iam(ferry, *update(old.access_key, status="inactive"), key=new)).credential
    assert (changed.access, changed.status, changed.description) == (old.access_key, "inactive", "")
    code, message = await refused_by_iam(ferry, *listing(), key=old)
    assert code == (401, "SVCSTG.SWR.4000031")
    assert message == f"the access key {old.access_key} is unknown or disabled"
    await ask_iam(ferry, *update(old.access_key, status="active", description="the old one"), key=new)
    listed = (await ask_iam(ferry, *listing(user_id), key=old)).credentials
    assert [(one.access, one.status, one.description) for one in listed] == [
        (old.access_key, "active", "the old one"),
        (new.access_key, "active", "nightly"),
    ]
    assert not any("secret" in str(one.to_dict()) for one in listed)

    await ask_iam(ferry, *delete(old.access_key), key=new)
    assert (await refused_by_iam(ferry, *delete(old.access_key), key=new))[0] == MISSING
    assert (await refused_by_iam(ferry, *listing(), key=old))[0][0] == 401


async def test_the_last_use_is_told(ferry: Deployment, somebody: tuple[str, AccessKey]) -> None:
    _, key = somebody
    assert (await ask_iam(ferry, *show(key.access_key))).credential.last_use_time is None
    await ask_iam(ferry, *listing(), key=key)
    await ferry.app.accounts.keys.close()
    shown = (await ask_iam(ferry, *show(key.access_key), key=key)).credential
    assert shown.last_use_time > shown.create_time


async def test_an_administrator_manages_anybodys_keys(ferry: Deployment) -> None:
    user = await ferry.app.accounts.users.create("partner", None, domain="partners")
    made = (await ask_iam(ferry, *create(user_id=user.user_id))).credential
    key = AccessKey(made.access, made.secret)
    assert [one.access for one in (await ask_iam(ferry, *listing(), key=key)).credentials] == [made.access]
    assert [one.access for one in (await ask_iam(ferry, *listing(user.user_id))).credentials] == [made.access]
    assert (await ask_iam(ferry, *show(made.access))).credential.user_id == user.user_id
    await ask_iam(ferry, *update(made.access, status="inactive"))
    assert (await refused_by_iam(ferry, *listing(), key=key))[0][0] == 401
    await ask_iam(ferry, *delete(made.access))
    assert (await ask_iam(ferry, *listing(user.user_id))).credentials == []
    for request in (create(user_id="0" * 32), listing("0" * 32), listing("\0")):
        assert (await refused_by_iam(ferry, *request))[0] == MISSING


async def test_nobody_else_knows_of_a_key(ferry: Deployment, somebody: tuple[str, AccessKey]) -> None:
    _, key = somebody
    admin = await ferry.app.accounts.users.find(ferry.admin.name)
    for request in (create(user_id=admin.user_id), create(user_id="0" * 32), listing(admin.user_id)):
        assert (await refused_by_iam(ferry, *request, key=key))[0] == FORBIDDEN
    other = ferry.admin.key.access_key
    for request in (show(other), update(other, status="inactive"), delete(other)):
        code, message = await refused_by_iam(ferry, *request, key=key)
        assert (code, message) == (MISSING, f'access key "{other}" does not exist')
    for unknown in ("A" * 20, "no-key"):
        for request in (show(unknown), update(unknown, status="inactive"), delete(unknown)):
            assert (await refused_by_iam(ferry, *request))[0] == MISSING
    assert (await ask_iam(ferry, *show(other))).credential.status == "active"


async def test_a_user_has_two_keys_at_most(ferry: Deployment, somebody: tuple[str, AccessKey]) -> None:
    user_id, key = somebody
    await ask_iam(ferry, *create(user_id=user_id), key=key)
    for asked in (key, None):
        code, message = await refused_by_iam(ferry, *create(user_id=user_id), key=asked)
        assert code == CONFLICT
        assert message.endswith("already has 2 access keys; delete one first")


async def test_a_wrong_field_is_named(ferry: Deployment, somebody: tuple[str, AccessKey]) -> None:
    user_id, key = somebody
    for request, code, names in (
        (create(), ABSENT, "credential.user_id is mandatory"),
        (create(user_id=user_id, description="x" * 256), BAD, "description must be at most 255"),
        (update(key.access_key, status="off"), BAD, "credential.status must be 'active' or 'inactive'"),
        (update(key.access_key, status="inactive", description="\0"), BAD, "description must be at most 255"),
    ):
        told, message = await refused_by_iam(ferry, *request, key=key)
        assert told == code
        assert message.startswith(names)
    assert (await ask_iam(ferry, *show(key.access_key), key=key)).credential.status == "active"
