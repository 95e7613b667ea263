"""An acknowledged push reaches its webhook, whatever dies in between and whichever other webhooks fail."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography.fernet import Fernet

from tagferry.app import open_app
from tagferry.names import Tag
from tagferry.remote import Credentials, Endpoint, RemoteStore
from tagferry.settings import Settings
from tests.acceptance.served import Secrets, serving, tagferry
from tests.support import images
from tests.support.deployment import NORTH, deployed, eventually, name_in
from tests.support.postgres import PostgresServer
from tests.support.processes import free_port
from tests.support.webhook_receiver import receiving

BODY = {
    "name": "deploy",
    "action": "update",
    "trigger_type": "all",
    "condition": ".*",
    "cluster_ns": "default",
    "app_type": "deployments",
    "application": "web",
    "enable": "true",
}


@asynccontextmanager
async def signed_in(url: str, password: str) -> AsyncIterator[aiohttp.ClientSession]:
    """Return a client with the administrator's token."""
    user = {"name": "admin", "password": password}
    identity = {"methods": ["password"], "password": {"user": user}}
    async with aiohttp.ClientSession() as http:
        async with http.post(f"{url}/v3/auth/tokens", json={"auth": {"identity": identity}}) as answer:
            http.headers["X-Auth-Token"] = answer.headers["X-Subject-Token"]
        yield http


@pytest.mark.long
async def test_a_server_that_is_killed_after_a_push_calls_when_it_is_started_again(tmp_path: Path):
    address = f"127.0.0.1:{free_port()}"
    url = f"http://{address}"
    async with receiving() as receiver:
        receiver.statuses = [503] * 1000
        initialized = tagferry(tmp_path, "init", "--region", f"{NORTH}={address}")
        secrets = Secrets.read(initialized.stdout)
        with (tmp_path / "tagferry.toml").open("a") as config:
            config.write(f'\n[[webhooks]]\ncluster_id = "production"\nurl = "{receiver.url}"\n')
        assert tagferry(tmp_path, "org", "create", f"{NORTH}/team").returncode == 0
        with serving(tmp_path, url) as server:
            repositories = f"{url}/v2/manage/namespaces/team/repos"
            said = {"repository": "app", "category": "other", "description": "", "is_public": False}
            async with signed_in(url, secrets.password) as http:
                for path, body in (("", said), ("/app/triggers", {**BODY, "cluster_id": "production"})):
                    async with http.post(f"{repositories}{path}", json=body) as made:
                        assert made.status == 201, await made.text()
            store = RemoteStore(
                Endpoint(name="push", url=url, credentials=Credentials(username="admin", password=secrets.password))
            )
            await images.push(store, name_in("team"), images.image(), Tag("v1"))
            server.kill()
            await store.close()
        # An acknowledged push is recorded, whether the webhook has been called by then or not.
        with sqlite3.connect(tmp_path / "tagferry-data" / "tagferry.db") as database:
            ((event_id, status),) = database.execute("SELECT event_id, status FROM deliveries").fetchall()
        assert status == "waiting"
        receiver.statuses.clear()
        receiver.calls.clear()

        with serving(tmp_path, url):
            await eventually(lambda: receiver.has(1))

        (call,) = receiver.calls
        assert (call.document["id"], call.document["tag"], call.document["pushedBy"]) == (event_id, "v1", "admin")


async def test_a_webhook_that_never_answers_delays_no_push_and_no_other_webhook(tmp_path: Path):
    async with receiving() as dead, receiving() as alive:
        dead.answering.clear()
        webhooks = [
            {"cluster_id": "dead", "url": dead.url, "timeout_seconds": 60},
            {"cluster_id": "alive", "url": alive.url},
        ]
        async with deployed(tmp_path / "data", webhooks=webhooks) as ferry:
            headers = {"X-Auth-Token": await ferry.token(), "Content-Type": "application/json"}
            await images.push(ferry.store(NORTH), name_in("team"), images.image(), Tag("first"))
            path = "/v2/manage/namespaces/team/repos/app/triggers"
            for cluster in ("dead", "alive"):
                body = {**BODY, "name": cluster, "cluster_id": cluster}
                assert (await ferry.http("POST", path, body=body, headers=headers)).status == 201
            credentials = Credentials(username=ferry.admin.name, password=ferry.admin.password)
            store = RemoteStore(Endpoint(name="push", url=ferry.urls[NORTH], credentials=credentials))
            tags = [f"v{number}" for number in range(12)]
            for tag in tags:
                await images.push(store, name_in("team"), images.image(), Tag(tag))
            await store.close()
            await eventually(lambda: alive.has(len(tags)))

            assert sorted(alive.tags()) == sorted(tags)
            # It gets no more calls at once than its limit.
            assert len(dead.calls) <= 4
            dead.answering.set()


async def test_the_leader_reports_a_push_that_another_process_received(
    tmp_path: Path, postgres: PostgresServer, postgres_template: str
):
    database_url, address = postgres.url(postgres.new_database(like=postgres_template)), f"127.0.0.1:{free_port()}"
    shared = {"database_url": database_url, "secret_key": Fernet.generate_key().decode()}
    async with receiving() as receiver:
        webhooks = [{"cluster_id": "one", "url": receiver.url}]
        elsewhere = {NORTH: {"registry": f"http://{address}"}}
        leading = {"data_dir": tmp_path / "leader", "regions": elsewhere, "webhooks": webhooks, **shared}
        regions: dict[str, dict[str, Any]] = {NORTH: {"listen": address}}
        async with (
            open_app(Settings.parse(leading)),
            deployed(tmp_path / "data", regions=regions, webhooks=webhooks, **shared) as ferry,
        ):
            headers = {"X-Auth-Token": await ferry.token(), "Content-Type": "application/json"}
            await images.push(ferry.store(NORTH), name_in("team"), images.image(), Tag("first"))
            body = {**BODY, "cluster_id": "one"}
            path = "/v2/manage/namespaces/team/repos/app/triggers"
            assert (await ferry.http("POST", path, body=body, headers=headers)).status == 201
            credentials = Credentials(username=ferry.admin.name, password=ferry.admin.password)
            store = RemoteStore(Endpoint(name="push", url=ferry.urls[NORTH], credentials=credentials))
            for seed in ("one", "two", "three"):
                await images.push(store, name_in("team"), images.image(seed=seed), Tag("v1"))
            await store.close()
            await eventually(lambda: receiver.has(3))

        digests = [images.image(seed=seed).digest for seed in ("one", "two", "three")]
        assert [call.document["digest"] for call in receiver.calls] == digests
        assert {call.document["image"] for call in receiver.calls} == {f"{address}/team/app:v1"}
