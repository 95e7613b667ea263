"""Each fault of the table in docs/operations.md is induced, and shows where the table says."""

import asyncio
import os
import re
import shutil
import signal
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text, update
from structlog.testing import capture_logs

from tagferry import events
from tagferry.db.engine import Database
from tagferry.db.tables import DeliveryRow, ProcessRow
from tagferry.diagnosis.doctor import examine
from tagferry.diagnosis.model import Finding, Level
from tagferry.names import Tag
from tagferry.remote import Credentials, Endpoint, RemoteStore
from tagferry.web.metrics_page import metrics_listeners
from tagferry.web.server.serve import listening
from tests.acceptance.served import PROGRAM, clean_environment
from tests.support import images
from tests.support.certificates import Authority
from tests.support.deployment import NORTH, Deployment, deployed, eventually, name_in
from tests.support.disks import IS_ROOT, small_disk
from tests.support.postgres import PostgresServer
from tests.support.processes import free_port, tied
from tests.support.scripted_registry import Reply, scripted_registry
from tests.support.token_registry import TokenRegistry
from tests.support.webhook_receiver import receiving

pytestmark = pytest.mark.operations

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
_HEADING = "## When something is wrong: where it shows\n"
NOWHERE = "-"
OFTEN = {"check_interval_seconds": 0.2}
TRIGGER = {
    "name": "deploy",
    "action": "update",
    "trigger_type": "all",
    "condition": ".*",
    "cluster_id": "production",
    "cluster_ns": "default",
    "app_type": "deployments",
    "application": "web",
    "enable": "true",
}

LogLines = list[MutableMapping[str, Any]]


@dataclass(frozen=True)
class Row:
    """A row of the table: where a fault shows."""

    metric: str
    ready: str
    event: str
    doctor: str


def rows() -> dict[str, Row]:
    """Return the rows of the table by fault."""
    section = PAGE.read_text("utf-8").partition(_HEADING)[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {fault: Row(*others) for fault, *others in cells}


@dataclass
class Watched:
    """A deployment with a fault, and what it has logged."""

    ferry: Deployment
    logs: LogLines
    labels: dict[str, str] = field(default_factory=dict)

    async def shows(self, fault: str) -> None:
        """Assert that the fault shows where its row says, within a while."""
        row = rows()[fault]
        if row.ready != NOWHERE:
            await eventually(lambda: self._is_unready(row.ready.strip("`")))
        if row.event != NOWHERE:
            event = row.event.strip("`")
            await eventually(self._holds(lambda: any(line["event"] == event for line in self.logs)))
        if row.metric != NOWHERE:
            await eventually(lambda: self._has(row.metric))
        component, _, words = row.doctor.partition(": ")
        found = await examine(self.ferry.settings, self.ferry.settings.data_dir / "tagferry.toml", seconds=20.0)
        assert any(_is(finding, component.strip("`"), words) for finding in found), found

    async def _has(self, cell: str) -> bool:
        matched = re.fullmatch(r'`(\w+)(?:\{(\w+)="(\w+)"\})?` (.+)', cell)
        assert matched is not None, cell
        name, label, of_label, value = matched.groups()
        labels = self.labels | ({label: of_label} if label else {})
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://{self.ferry.settings.metrics_listen}/metrics") as answer,
        ):
            found = _samples(await answer.text(), name, labels)
        return any(_is_as(sample, value) for sample in found)

    async def _is_unready(self, component: str) -> bool:
        answer = await self.ferry.http("GET", "/readyz")
        return bool(answer.document["components"].get(component, "ok") != "ok")

    @staticmethod
    def _holds(check: Callable[[], bool]) -> Any:
        async def checked() -> bool:
            return check()

        return checked


def _is(finding: Finding, component: str, words: str) -> bool:
    return finding.level is not Level.OK and finding.component == component and words in finding.message


def _is_as(value: float, expected: str) -> bool:
    """Return whether a sample has a value, or one above zero if the expected one is `> 0`."""
    return value > 0 if expected == "> 0" else value == float(expected)


def _samples(page: str, name: str, labels: dict[str, str]) -> list[float]:
    """Return the samples of a metric, whose region is the given one if they have regions."""
    return [
        sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == name and all(sample.labels.get(label, wanted) == wanted for label, wanted in labels.items())
    ]


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Log every event once more, and use no proxies of the environment."""
    monkeypatch.setattr(events, "_logged", {})
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@asynccontextmanager
async def watched(folder: Path, *, region: dict[str, Any] | None = None, **settings: Any) -> AsyncIterator[Watched]:
    """Run a server with an embedded region and, if it is given, a remote one, whose checks are frequent."""
    hub = f"hub-{os.urandom(4).hex()}"
    regions = {NORTH: {"listen": ""}, **({hub: region} if region is not None else {})}
    with capture_logs() as logs:
        metrics_listen = f"127.0.0.1:{free_port()}"
        async with (
            deployed(folder, regions=regions, health=OFTEN, metrics_listen=metrics_listen, **settings) as ferry,
            listening(metrics_listeners(ferry.settings)),
        ):
            yield Watched(ferry, logs, {"region": hub if region is not None else NORTH})


def test_the_table_has_all_faults():
    tested = re.findall(r'\.shows\("([^"]+)"\)', Path(__file__).read_text("utf-8"))

    assert sorted(tested) == sorted(rows())


async def test_an_expired_certificate(tmp_path: Path):
    authority = Authority()
    pair = authority.issue(tmp_path / "pair.pem", "127.0.0.1", expired=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair)
    async with scripted_registry(tls=context) as hub:
        region = {"registry": hub.url, "ca_file": authority.write(tmp_path / "ca.pem")}
        async with watched(tmp_path / "data", region=region) as seen:
            await seen.shows("expired certificate of a registry")


async def test_a_wrong_password(tmp_path: Path):
    async with scripted_registry() as hub:
        TokenRegistry(hub)
        region = {"registry": hub.url, "username": "u", "password": "forgotten"}
        async with watched(tmp_path / "data", region=region) as seen:
            await seen.shows("wrong password for a registry")


async def test_a_throttling_registry(tmp_path: Path):
    async with scripted_registry() as hub:
        hub.always("GET", "/v2/", Reply(status=429, headers={"Retry-After": "50"}))
        async with watched(tmp_path / "data", region={"registry": hub.url}) as seen:
            await seen.shows("a registry answers 429")


@pytest.mark.skipif(not IS_ROOT, reason="only root can mount")
async def test_a_full_disk(tmp_path: Path):
    root = tmp_path / "data" / "registries" / NORTH
    await asyncio.to_thread(root.mkdir, parents=True)
    with small_disk(root, 8 << 20):
        async with watched(tmp_path / "data") as seen:
            await asyncio.to_thread((root / "content").write_bytes, bytes((8 << 20) - 4096))
            await seen.shows("full disk of an embedded registry")


async def test_a_lost_database(tmp_path: Path, postgres: PostgresServer, postgres_template: str):
    forwarded, port = await forwarding(postgres.port)
    url = postgres.url(postgres.new_database(like=postgres_template), port=port)
    async with watched(tmp_path / "data", database_url=url) as seen:
        await forwarded.stop()
        await seen.shows("the database does not answer")
        await forwarded.start()
    await forwarded.stop()


class Forwarder:
    """Forwards a port until it is stopped, as a network does."""

    def __init__(self, port: int, target: int) -> None:
        self._port = port
        self._target = target
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", self._port)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._open:
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        self._open |= {writer, far_writer}
        try:
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        finally:
            self._open -= {writer, far_writer}
            for end in (writer, far_writer):
                end.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        return


async def forwarding(target: int) -> tuple[Forwarder, int]:
    port = free_port()
    forwarder = Forwarder(port, target)
    await forwarder.start()
    return forwarder, port


@contextmanager
def worker_of(folder: Path, url: str, *, key: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run `tagferry worker` on a database, with the key of its secrets if there are any, until it is killed."""
    (folder / "data").mkdir(parents=True)
    if key is not None:
        shutil.copy(key, folder / "data")
    (folder / "tagferry.toml").write_text(
        f'data_dir = "data"\ndatabase_url = "{url}"\n[regions.{NORTH}]\nregistry = "http://127.0.0.1:1"\n'
    )
    with (folder / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            tied([str(PROGRAM), "worker"]),
            cwd=folder,
            env=clean_environment({}),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def recorded(database: Database, process: subprocess.Popen[bytes], *, is_leader: bool) -> bool:
    wanted = text("SELECT count(*) FROM processes WHERE name LIKE :name AND is_leader = :is_leader")
    parameters = {"name": f"%:{process.pid}", "is_leader": is_leader}
    async with database.read() as session:
        return bool(await session.scalar(wanted, parameters))


async def kill(database: Database, process: subprocess.Popen[bytes]) -> None:
    """Kill a process, and let a minute pass for its record."""
    process.send_signal(signal.SIGKILL)
    await asyncio.to_thread(process.wait)
    aged = update(ProcessRow).where(ProcessRow.name.like(f"%:{process.pid}"))
    async with database.write() as session:
        await session.execute(aged.values(seen_at=datetime.now(UTC) - timedelta(minutes=1)))


async def test_a_killed_worker(tmp_path: Path, postgres: PostgresServer, postgres_template: str):
    url = postgres.url(postgres.new_database(like=postgres_template))
    async with watched(tmp_path / "data", database_url=url) as seen:
        database = seen.ferry.app.accounts.database
        with worker_of(tmp_path / "worker", url, key=tmp_path / "data" / "secret.key") as process:
            await eventually(lambda: recorded(database, process, is_leader=False), seconds=60)
            await kill(database, process)
            await seen.shows("a worker was killed")


async def test_a_killed_leader(tmp_path: Path, postgres: PostgresServer, postgres_template: str):
    url = postgres.url(postgres.new_database(like=postgres_template))
    database = Database(url)
    try:
        with worker_of(tmp_path / "worker", url) as process:
            await eventually(lambda: recorded(database, process, is_leader=True), seconds=60)
            async with watched(tmp_path / "data", database_url=url) as seen:
                await kill(database, process)
                await seen.shows("the leader was killed")
    finally:
        await database.close()


async def test_a_stuck_webhook(tmp_path: Path):
    async with receiving() as receiver:
        receiver.statuses = [503] * 1000
        webhooks = [{"cluster_id": "production", "url": receiver.url}]
        async with watched(tmp_path / "data", webhooks=webhooks) as seen:
            ferry = seen.ferry
            login = {"X-Auth-Token": await ferry.token(), "Content-Type": "application/json"}
            repositories = "/v2/manage/namespaces/team/repos"
            made = {"repository": "app", "category": "other", "is_public": False}
            for path, body in ((repositories, made), (f"{repositories}/app/triggers", TRIGGER)):
                answer = await ferry.http("POST", path, body=body, headers=login)
                assert answer.status == 201, answer.content
            await push(ferry)
            await eventually(lambda: is_waiting(ferry))
            async with ferry.app.accounts.database.write() as session:
                await session.execute(update(DeliveryRow).values(occurred_at=datetime.now(UTC) - timedelta(minutes=20)))
            await seen.shows("a webhook is stuck")


async def push(ferry: Deployment) -> None:
    """Push an image as docker does, so that triggers notice it."""
    login = Credentials(username=ferry.admin.name, password=ferry.admin.password)
    store = RemoteStore(Endpoint(name="push", url=ferry.urls[NORTH], credentials=login))
    await images.push(store, name_in("team"), images.image(), Tag("v1"))
    await store.close()


async def is_waiting(ferry: Deployment) -> bool:
    async with ferry.app.accounts.database.read() as session:
        return bool(await session.scalar(text("SELECT count(*) FROM deliveries WHERE status = 'waiting'")))


async def test_a_clock_that_is_wrong(tmp_path: Path):
    async with scripted_registry() as hub:
        ahead = format_datetime(datetime.now(UTC) + timedelta(minutes=20), usegmt=True)
        hub.always("GET", "*", Reply(status=200, headers={"Date": ahead}, body=b"{}"))
        hub.always("HEAD", "*", Reply(status=404, headers={"Date": ahead}))
        async with watched(tmp_path / "data", region={"registry": hub.url}) as seen:
            await seen.shows("a clock is wrong by 20 minutes")


async def test_a_wrong_proxy(tmp_path: Path):
    async with scripted_registry() as hub:
        region = {"registry": hub.url, "proxy": f"http://127.0.0.1:{free_port()}"}
        async with watched(tmp_path / "data", region=region) as seen:
            await seen.shows("wrong proxy for a registry")
