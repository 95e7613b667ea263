"""`tagferry user`, `key` and `org` on a server, from a machine without its configuration."""

import json
import re

import pytest

from tests.acceptance.test_cli_jobs import ferry, tagferry  # noqa: F401 - the fixture
from tests.support.deployment import NORTH, SOUTH, Deployment

pytestmark = pytest.mark.long


async def succeed(ferry: Deployment, *arguments: str) -> str:  # noqa: F811
    code, shown, told = await tagferry(ferry, *arguments)
    assert (code, told) == (0, ""), arguments
    return shown


async def test_users_are_managed_through_the_api(ferry: Deployment) -> None:  # noqa: F811
    shown = await succeed(ferry, "user", "create", "ci", "--description", "the build")
    password = re.search(r"^password +(\S+)$", shown, re.MULTILINE)
    assert password is not None
    assert await ferry.token(user="ci", password=password[1])
    await succeed(ferry, "user", "create", "boss", "--admin")

    users = {user["name"]: user for user in json.loads(await succeed(ferry, "user", "list", "--json"))}
    assert {name: user["isAdministrator"] for name, user in users.items()} == {
        "admin": True,
        "boss": True,
        "ci": False,
    }
    assert (users["ci"]["description"], users["ci"]["domain"], users["ci"]["enabled"]) == (
        "the build",
        "tagferry",
        True,
    )

    for command in ("disable", "promote"):
        await succeed(ferry, "user", command, "ci")
    changed = re.search(r"^ *ci +tagferry +yes +yes +the build *$", await succeed(ferry, "user", "list"), re.MULTILINE)
    assert changed is not None
    for command in ("enable", "demote", "password", "delete"):
        await succeed(ferry, "user", command, "ci")
    code, _, told = await tagferry(ferry, "user", "delete", "ci")
    assert (code, told) == (1, 'error: user "ci" does not exist; list the users with: tagferry user list\n')
    code, _, told = await tagferry(ferry, "user", "create", "boss")
    assert (code, "already exists" in told) == (4, True)
    code, _, told = await tagferry(ferry, "user", "create", "no name")
    assert (code, told.startswith("error: NAME must be")) == (2, True)
    code, _, told = await tagferry(ferry, "user", "create", "new", "--domain", "sales")
    assert (code, 'domain "sales" does not exist' in told) == (1, True)


async def test_keys_are_managed_through_the_api(ferry: Deployment) -> None:  # noqa: F811
    await succeed(ferry, "user", "create", "ci")
    made = (await succeed(ferry, "key", "create", "ci", "--for", "the build")).split()[2]
    rotated = (await succeed(ferry, "key", "rotate", made)).split()[2]
    await succeed(ferry, "key", "disable", made)

    keys = {key["accessKey"]: key for key in json.loads(await succeed(ferry, "key", "list", "ci", "--json"))}
    assert {key: (one["enabled"], one["description"]) for key, one in keys.items()} == {
        made: (False, "the build"),
        rotated: (True, "the build"),
    }
    code, _, told = await tagferry(ferry, "key", "create", "ci")
    assert (code, "already has 2 access keys" in told) == (4, True)
    await succeed(ferry, "key", "enable", made)
    await succeed(ferry, "key", "delete", made)
    assert made not in await succeed(ferry, "key", "list", "ci")


async def test_users_manage_their_own_keys_and_nothing_else(ferry: Deployment) -> None:  # noqa: F811
    _, key = await ferry.user("ci")
    own = ("--ak", key.access_key, "--sk", key.secret_key)

    assert key.access_key in await succeed(ferry, "key", "list", "ci", *own)
    assert (await tagferry(ferry, "key", "list", "admin", *own))[0] == 7
    assert (await tagferry(ferry, "user", "list", *own))[0] == 7


async def test_organizations_and_their_permissions_are_managed_through_the_api(
    ferry: Deployment,  # noqa: F811
) -> None:
    await succeed(ferry, "user", "create", "ci")
    await succeed(ferry, "org", "create", f"{NORTH}/new")
    assert re.search(r"^ *new +admin", await succeed(ferry, "org", "list", NORTH), re.MULTILINE)

    for permission in ("read", "edit"):
        await succeed(ferry, "org", "grant", f"{NORTH}/new", "ci", permission)
        listed = json.loads(await succeed(ferry, "org", "grants", f"{NORTH}/new", "--json"))
        assert {one["user"]: one["permission"] for one in listed} == {"admin": "manage", "ci": permission}
    await succeed(ferry, "org", "revoke", f"{NORTH}/new", "ci")
    assert "ci" not in await succeed(ferry, "org", "grants", f"{NORTH}/new")
    code, _, told = await tagferry(ferry, "org", "revoke", f"{NORTH}/new", "ci")
    assert (code, told) == (1, f'error: permission of the user "ci" in {NORTH}/new does not exist\n')

    assert re.search(r"^uploads +\d+$", await succeed(ferry, "org", "quota", f"{NORTH}/new"), re.MULTILINE)
    code, _, told = await tagferry(ferry, "org", "quota", f"{NORTH}/new", "--bytes", "1GiB")
    assert (code, "the API cannot set quotas" in told) == (1, True)
    code, _, told = await tagferry(ferry, "org", "create", f"{SOUTH}/new")
    assert (code, told.startswith("error: --endpoint: must be the address of the region")) == (2, True)
    code, _, told = await tagferry(ferry, "org", "create", f"{NORTH}/other", "--owner", "ci")
    assert (code, told.startswith("error: --owner: ")) == (2, True)
    await succeed(ferry, "org", "delete", f"{NORTH}/new")
    code, _, told = await tagferry(ferry, "org", "grants", f"{NORTH}/new")
    assert (code, 'organization "new"' in told) == (1, True)
