"""Audit records: the same requests as in the audit log, in a list for administrators."""

import asyncio
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from typer.testing import CliRunner

from tagferry.accounts.model import AccessKey, Permission
from tagferry.cli.commands import app
from tagferry.names import Tag
from tagferry.remote import Credentials, Endpoint, RemoteStore
from tests.support import images
from tests.support.deployment import NORTH, SOUTH, Deployment, deployed, eventually, name_in

RECORDS = "/v2/manage/audit-records"
ORGANIZATIONS = "/v2/manage/namespaces"


async def listed(ferry: Deployment, number: int, **terms: str) -> list[dict[str, Any]]:
    """Wait until the list has this number of records; returns them."""
    headers = {"X-Auth-Token": await ferry.token()}

    async def found() -> list[dict[str, Any]]:
        answer = await ferry.http("GET", f"{RECORDS}?{urlencode(terms)}", headers=headers)
        assert answer.status == 200, answer.content
        records: list[dict[str, Any]] = answer.document["records"]
        return records if len(records) >= number else []

    records = await eventually(found)
    assert len(records) == number, records
    return records


async def test_a_change_is_recorded_with_who_what_where_and_when(ferry: Deployment):
    password, key = await ferry.user("carol", team=Permission.EDIT)
    async with ferry.client(key=key) as client:
        body = {"imageTag": ["v1"], "remoteNamespace": "release", "remoteRegionId": SOUTH}
        with pytest.raises(Exception, match="needs the permission"):
            await client.start_sync(name_in("team").namespace, name_in("team").repository, body)
    store = RemoteStore(
        Endpoint(name="x", url=ferry.urls[NORTH], credentials=Credentials(username="carol", password=password))
    )
    await images.push(store, name_in("team"), images.image(), Tag("v1"))
    await store.close()

    pushed, refused = await listed(ferry, 2, user="carol")

    assert (pushed["operation"], pushed["repository"], pushed["status"]) == ("push an image", "team/app", 201)
    assert refused["requestId"]
    assert refused["occurredAt"] < pushed["occurredAt"]
    shown = {name: refused[name] for name in refused if name not in ("id", "occurredAt", "requestId")}
    assert shown == {
        "user": "carol",
        "accessKey": key.access_key,
        "method": "POST",
        "operation": "synchronize images",
        "path": "/v2/manage/namespaces/team/repos/app/sync_images",
        "status": 403,
        "refused": True,
        "region": NORTH,
        "address": "127.0.0.1",
        "organization": "team",
        "repository": "team/app",
        "subjectUser": "",
        "subjectKey": "",
        "times": 1,
    }


async def test_a_created_organization_and_a_changed_user_are_named(ferry: Deployment):
    headers = {"X-Auth-Token": await ferry.token()}
    await ferry.http("POST", ORGANIZATIONS, headers=headers, body={"namespace": "another"})
    body = {"user": {"name": "dave", "password": "a password 1"}}
    await ferry.http("POST", "/v3/users", headers=headers, body=body)

    (organization,) = await listed(ferry, 1, operation="create an organization")
    (user,) = await listed(ferry, 1, operation="create a user")

    assert (organization["organization"], organization["user"], organization["accessKey"]) == ("another", "admin", "")
    assert user["subjectUser"] == "dave"
    assert "a password" not in json.dumps(user)


async def test_strangers_are_counted_and_challenges_are_not_recorded(ferry: Deployment):
    for _ in range(50):
        await ferry.http("GET", ORGANIZATIONS)
        await ferry.http("GET", "/v2/")

    (first,) = await listed(ferry, 1, refused="true")

    assert (first["user"], first["operation"], first["path"], first["times"]) == ("", "read", ORGANIZATIONS, 1)


async def test_pages_are_followed_by_their_marker(ferry: Deployment):
    headers = {"X-Auth-Token": await ferry.token()}
    for number in range(5):
        await ferry.http("DELETE", f"{ORGANIZATIONS}/missing{number}", headers=headers)
    everything = await listed(ferry, 5, method="delete")

    found: list[dict[str, Any]] = []
    marker: str | None = ""
    while marker is not None:
        answer = await ferry.http("GET", f"{RECORDS}?method=DELETE&limit=2&marker={marker}", headers=headers)
        found += answer.document["records"]
        marker = answer.document["next"]

    assert found == everything


async def test_only_administrators_may_list_records(ferry: Deployment):
    password, _ = await ferry.user("carol", team=Permission.MANAGE)
    headers = {"X-Auth-Token": await ferry.token(user="carol", password=password)}

    status, _, message = (await ferry.http("GET", RECORDS, headers=headers)).refused()

    assert (status, "not an administrator" in message) == (403, True)
    assert (await ferry.http("GET", RECORDS)).status == 401


@pytest.mark.parametrize(
    ("query", "beginning"),
    [
        ("since=yesterday", "since"),
        ("until=2024-13-01", "until"),
        ("marker=1", "marker"),
        ("limit=0", "limit must be greater than or equal to 1"),
        ("limit=ten", 'limit must be a whole number: got "ten"'),
        ("limit=99999999999999999999999", "limit must be"),
        ("user=nobody", "user must be the name of a user"),
        ("organization=nowhere", "organization must be an organization that exists"),
        ("repository=nowhere/app", "repository must be in an organization"),
        ("method=FETCH", "method must be one of POST, "),
        ("operation=synchronise+images", 'operation must be an operation in words, such as "synchronize images"'),
    ],
)
async def test_a_wrong_parameter_is_named(ferry: Deployment, query: str, beginning: str):
    headers = {"X-Auth-Token": await ferry.token()}

    status, _, message = (await ferry.http("GET", f"{RECORDS}?{query}", headers=headers)).refused()

    assert status == 400
    assert message.startswith(beginning)


async def test_names_that_exist_are_known_before_there_are_records(ferry: Deployment):
    headers = {"X-Auth-Token": await ferry.token()}
    await ferry.user("carol")

    for query in ("user=carol", "organization=team&method=put", "repository=team/new", "operation=delete+a+tag"):
        answer = await ferry.http("GET", f"{RECORDS}?{query}&until=2020-01-01", headers=headers)
        assert (answer.status, answer.document["records"]) == (200, [])


async def test_no_records_are_written_if_none_may_be_kept(tmp_path: Path):
    async with deployed(tmp_path / "data", audit={"max_records": 0}) as ferry:
        headers = {"X-Auth-Token": await ferry.token()}
        await ferry.http("POST", ORGANIZATIONS, headers=headers, body={"namespace": "another"})

        answer = await ferry.http("GET", RECORDS, headers=headers)

    assert answer.document == {"records": [], "next": None}


async def invoke(ferry: Deployment, key: AccessKey, *arguments: str) -> str:
    environment = {
        "TAGFERRY_ENDPOINT": ferry.urls[NORTH],
        "CLOUD_SDK_AK": key.access_key,
        "CLOUD_SDK_SK": key.secret_key,
        "COLUMNS": "200",
    }
    result = await asyncio.to_thread(CliRunner().invoke, app, ["audit", "list", *arguments], env=environment)
    assert result.exit_code == 0, (result.exception, result.output)
    return result.stdout


async def test_the_command_lists_records_as_a_table_and_as_json(ferry: Deployment):
    headers = {"X-Auth-Token": await ferry.token()}
    await ferry.http("DELETE", f"{ORGANIZATIONS}/missing", headers=headers)
    (record,) = await listed(ferry, 1, method="DELETE")

    table = await invoke(ferry, ferry.admin.key, "--since", "1h", "--method", "DELETE")
    as_json = await invoke(ferry, ferry.admin.key, "--user", "admin", "--method", "DELETE", "--json")
    nothing = await invoke(ferry, ferry.admin.key, "--until", "2020-01-01")

    assert "delete an organization" in table
    assert "missing" in table
    assert json.loads(as_json) == [record]
    assert nothing == "no audit record matches\n"
