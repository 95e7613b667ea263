"""A real Prometheus scrapes two `serve` and two `worker` processes under load: its sums are what the database has."""

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from tagferry.app import ensure_admin, open_accounts
from tagferry.cli.client import ManagementClient
from tagferry.names import Namespace, Repository, RepositoryName, Tag
from tagferry.remote import Endpoint, RemoteStore
from tagferry.settings import Settings
from tests.acceptance.served import PROGRAM, clean_environment
from tests.support.deployment import calling, eventually
from tests.support.docker_registry import DockerRegistry, docker_registry
from tests.support.images import image, layer, push
from tests.support.postgres import PostgresServer
from tests.support.processes import free_port, stop, wait_until_it_listens
from tests.support.prometheus import Prometheus, prometheus, promtool
from tools import dashboard

pytestmark = [pytest.mark.operations, pytest.mark.timeout(300)]

NORTH, SOUTH, AWAY = "cn-north-4", "cn-south-1", "cn-away-1"
TEAM, APP = Namespace("team"), Repository("app")
TOKEN = "a-token-for-this-test"
TAGS = [Tag(f"v{number}") for number in range(60)]
UNREACHABLE = [Tag("v1"), Tag("v2"), Tag("v3")]
_SETTLED_SECONDS = 60.0
_ABSENT = "embedded|disk|garbage|damaged|rule|retention|region_(up|latency|certificate)|lockouts|bound|running.* == 0"
"""Queries of the dashboard without data here: this cluster has no embedded registries, no rules and no checks."""
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Process:
    """A running process of the cluster.

    Attributes:
        metrics: the address of its metrics.
        url: where it serves the source region; empty for a worker.
    """

    running: subprocess.Popen[bytes]
    metrics: str
    url: str


@dataclass(frozen=True)
class Cluster:
    """The processes, their database, and what watches them."""

    processes: Sequence[Process]
    clients: Sequence[ManagementClient]
    watching: Prometheus
    target: DockerRegistry
    rows: Callable[[str], dict[tuple[str, ...], float]]

    async def sync(self, client: ManagementClient, tags: Sequence[Tag], region: str = SOUTH) -> list[int]:
        body = {"imageTag": list(tags), "remoteNamespace": TEAM, "remoteRegionId": region, "override": True}
        return list((await client.start_sync(TEAM, APP, body)).tags)

    async def agree(self, expression: str, statement: str) -> dict[tuple[str, ...], float]:
        """Wait until a query of Prometheus has the result of a statement in the database; returns it."""
        found: tuple[object, object] = ({}, {})

        async def is_equal() -> bool:
            nonlocal found
            seen = {labels: value for labels, value in self.watching.query(expression).items() if value}
            found = seen, self.rows(statement)
            return found[0] == found[1]

        try:
            await eventually(is_equal, seconds=_SETTLED_SECONDS)
        except AssertionError:
            seen, expected = found
            pytest.fail(f"{expression} is {seen}, the database has {expected}; {self.watching.errors()}")
        return self.rows(statement)


@pytest.fixture
async def cluster(tmp_path: Path, postgres: PostgresServer) -> AsyncIterator[Cluster]:
    database = postgres.new_database()
    folders = [tmp_path / name for name in ("source", "target")]
    for folder in folders:
        folder.mkdir()
    with docker_registry(folders[0]) as source, docker_registry(folders[1]) as target:
        await fill(source.url)
        environment = {
            "TAGFERRY_DATABASE_URL": postgres.url(database),
            "TAGFERRY_SECRET_KEY": Fernet.generate_key().decode(),
            "TAGFERRY_METRICS_TOKEN": TOKEN,
        }
        configuration = tmp_path / "tagferry.toml"
        configuration.write_text(
            written({NORTH: source.url, SOUTH: target.url, AWAY: f"http://127.0.0.1:{free_port()}"})
        )
        key = await first_key(configuration, environment)
        with ExitStack() as stack:
            commands = ("serve", "serve", "worker", "worker")
            processes = [stack.enter_context(started(tmp_path, command, environment)) for command in commands]
            watching = stack.enter_context(
                prometheus(tmp_path, [process.metrics for process in processes], token=TOKEN, rules=[hurried(tmp_path)])
            )
            async with clients([process.url for process in processes if process.url], *key) as opened:
                yield Cluster(
                    processes, opened, watching, target, lambda statement: rows(postgres, statement, database)
                )


async def test_the_sums_over_all_processes_are_what_the_database_has(cluster: Cluster):
    first, second = cluster.clients
    await eventually(lambda: calling(lambda: cluster.watching.value("sum(up)") == 4), seconds=_SETTLED_SECONDS)

    await asyncio.gather(
        cluster.sync(first, TAGS[:40]),
        cluster.sync(second, TAGS[20:]),
        cluster.sync(first, [Tag("missing")]),
        cluster.sync(second, UNREACHABLE, AWAY),
    )

    async def have_ended() -> bool:
        open_jobs = "SELECT count(*) FROM sync_jobs WHERE ended_at IS NULL AND target_region = 'cn-south-1'"
        return await calling(cluster.rows, open_jobs) == {(): 0}

    await eventually(have_ended, seconds=_SETTLED_SECONDS)
    ended = await cluster.agree(
        "sum by (source_region, status, target_region) (tagferry_jobs_ended_total)",
        "SELECT source_region, status, target_region, count(*) FROM sync_jobs WHERE ended_at IS NOT NULL "
        "GROUP BY 1, 2, 3",
    )
    assert ended[NORTH, "success", SOUTH] >= len(TAGS)
    # What waits for a registry that is away alternates between these states.
    await cluster.agree(
        "sum by (target_region) (tagferry_jobs)",
        "SELECT target_region, count(*) FROM sync_jobs WHERE ended_at IS NULL GROUP BY 1",
    )
    await cluster.agree(
        'sum by (outcome) (label_replace(tagferry_blobs_total, "outcome", "uploaded", "outcome", "copied|resumed"))',
        "SELECT name, sum(blobs) FROM sync_job_attempts, LATERAL (VALUES ('uploaded', blobs_uploaded), "
        "('mounted', blobs_mounted), ('present', blobs_present)) AS kinds (name, blobs) "
        "GROUP BY 1 HAVING sum(blobs) > 0",
    )
    await cluster.agree(
        "sum by (state) (tagferry_workers)", "SELECT 'alive', count(*) FROM processes WHERE slots > 0 GROUP BY 1"
    )
    await cluster.agree("count(count by (instance) (tagferry_workers))", "SELECT 1")
    await cluster.agree("sum(tagferry_leader)", "SELECT count(*) FROM processes WHERE is_leader")

    async def is_each_request_counted() -> bool:
        # Nothing is asked of the target any more, so its log is complete.
        seen = await cluster.target.requests()
        return cluster.watching.value(f'sum(tagferry_registry_requests_total{{region="{SOUTH}"}})') == len(seen)

    await eventually(is_each_request_counted, seconds=_SETTLED_SECONDS)
    moved = cluster.watching.query("sum by (direction, region) (tagferry_bytes_total)")
    assert moved["read", NORTH] == moved["written", SOUTH] > 0
    oldest = cluster.watching.value(f'max(tagferry_oldest_waiting_job_seconds{{target_region="{AWAY}"}})')
    assert oldest is not None
    assert cluster.watching.errors() == []


async def test_another_process_exports_the_database_after_the_leader_was_killed(cluster: Cluster):
    (leader,) = await eventually(lambda: leaders(cluster), seconds=_SETTLED_SECONDS)
    next(process for process in cluster.processes if process.metrics == leader).running.kill()

    async def has_changed() -> bool:
        now = await leaders(cluster)
        exporting = cluster.watching.query("count by (instance) (tagferry_jobs)")
        return len(now) == 1 and now != [leader] and {instance for (instance,) in exporting} == set(now)

    await eventually(has_changed, seconds=_SETTLED_SECONDS)


async def test_promtool_accepts_the_metrics(cluster: Cluster):
    await cluster.sync(cluster.clients[0], TAGS[:3])
    for process in cluster.processes:
        page = await calling(scraped, process.metrics)
        await calling(lambda given: promtool("check", "metrics", given=given), page)


async def test_the_alert_of_a_queue_that_is_behind_fires_and_ends(cluster: Cluster):
    client = cluster.clients[0]
    waiting = await cluster.sync(client, UNREACHABLE, AWAY)

    async def fires() -> bool:
        firing = await calling(cluster.watching.firing, "TagferryQueueBehind")
        return [labels["target_region"] for labels in firing] == [AWAY]

    await eventually(fires, seconds=_SETTLED_SECONDS)
    await client.act_on_jobs("cancel", {"jobs": waiting})

    async def has_ended() -> bool:
        return await calling(cluster.watching.firing, "TagferryQueueBehind") == []

    await eventually(has_ended, seconds=_SETTLED_SECONDS)


async def test_the_queries_of_the_dashboard_find_what_a_cluster_exports(cluster: Cluster):
    await cluster.sync(cluster.clients[0], [*TAGS[:20], Tag("missing")])
    await cluster.sync(cluster.clients[1], UNREACHABLE, AWAY)
    left = set(dashboard.queries())

    async def are_only_absent_ones_left() -> bool:
        for query in sorted(left):
            asked = query.replace("$__rate_interval", "1m").replace("$job", "tagferry").replace("$region", ".*")
            if await calling(cluster.watching.query, asked):
                left.discard(query)
        return all(re.search(_ABSENT, query) for query in left)

    try:
        await eventually(are_only_absent_ones_left, seconds=_SETTLED_SECONDS)
    except AssertionError:
        pytest.fail(f"no data for {sorted(query for query in left if re.search(_ABSENT, query) is None)}")


def hurried(folder: Path) -> Path:
    """Return a copy of the alerts in which a queue is behind after five seconds."""
    written = (ROOT / "monitoring" / "alerts.yml").read_text()
    begin = written.index("alert: TagferryQueueBehind")
    end = written.index("- alert:", begin)
    changed = written[begin:end].replace("> 900", "> 5").replace("for: 5m", "for: 1s")
    assert changed != written[begin:end]
    (folder / "alerts.yml").write_text(written[:begin] + changed + written[end:])
    return folder / "alerts.yml"


async def leaders(cluster: Cluster) -> list[str]:
    return [instance for (instance,) in cluster.watching.query("sum by (instance) (tagferry_leader) == 1")]


async def fill(url: str) -> None:
    store = RemoteStore(Endpoint(name="filler", url=url))
    shared = [layer(f"shared {number}", 5000) for number in range(3)]
    for tag in TAGS:
        await push(store, RepositoryName(f"{TEAM}/{APP}"), image(*shared, layer(f"of {tag}", 2000), seed=tag), tag)
    await store.close()


def written(registries: dict[str, str]) -> str:
    """Return a configuration with these regions. They are not checked, so that only copies send requests."""
    regions = (f'[regions.{name}]\nregistry = "{url}"\norganizations = "open"\n' for name, url in registries.items())
    return "".join(("[health]\ncheck_interval_seconds = 0\n", *regions))


async def first_key(configuration: Path, environment: dict[str, str]) -> tuple[str, str]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        settings = Settings.load(configuration)
    async with open_accounts(settings) as accounts:
        admin = await ensure_admin(accounts)
        assert admin is not None
        return admin.key.access_key, admin.key.secret_key


@contextmanager
def started(folder: Path, command: str, environment: dict[str, str]) -> Iterator[Process]:
    metrics, listen = (f"127.0.0.1:{free_port()}" for _ in range(2))
    own = {"TAGFERRY_METRICS_LISTEN": metrics}
    if command == "serve":
        own[f"TAGFERRY_REGIONS__{NORTH.upper()}__LISTEN"] = listen
    with (folder / f"{command} {metrics}.log").open("wb") as log:
        running = subprocess.Popen(
            [PROGRAM, command],
            cwd=folder,
            env=clean_environment({**environment, **own}),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_until_it_listens(running, metrics)
            yield Process(running, metrics, f"http://{listen}" if command == "serve" else "")
        finally:
            stop(running)


@asynccontextmanager
async def clients(urls: Sequence[str], access_key: str, secret_key: str) -> AsyncIterator[list[ManagementClient]]:
    opened = [ManagementClient(url, access_key, secret_key) for url in urls]
    try:
        yield opened
    finally:
        for client in opened:
            await client.__aexit__(None, None, None)


def rows(postgres: PostgresServer, statement: str, database: str) -> dict[tuple[str, ...], float]:
    """Return the rows of a statement whose last column is a number, by the other columns."""
    lines = [line.split("|") for line in postgres.run(statement, database=database).splitlines()]
    return {tuple(labels): float(number) for *labels, number in lines}


def scraped(address: str) -> str:
    import urllib.request

    request = urllib.request.Request(f"http://{address}/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    with urllib.request.urlopen(request, timeout=10) as response:
        text: Any = response.read()
    return str(text.decode())
