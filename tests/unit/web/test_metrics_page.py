"""Metrics are served on an address of their own, by servers and by workers."""

import asyncio
import gzip
import json
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from tagferry.errors import Invalid
from tagferry.metrics import BOUND_REACHED
from tagferry.settings import Settings
from tagferry.supervision import Failure
from tagferry.web.metrics_page import metrics_listeners
from tagferry.web.probes import Readiness
from tagferry.web.server.serve import listening
from tests.acceptance.served import PROGRAM, clean_environment
from tests.support.postgres import PostgresServer
from tests.support.processes import free_port, stop, wait_until_it_listens

TOKEN = "a-token-for-tests"


async def asked(url: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.request(method, url, headers=headers) as response:
        return response.status, await response.text()


@asynccontextmanager
async def page(folder: Path, **more: Any) -> AsyncIterator[str]:
    """Serve metrics with these settings, and yield the page's URL."""
    address = f"127.0.0.1:{free_port()}"
    async with listening(metrics_listeners(settings(folder, metrics_listen=address, **more))):
        yield f"http://{address}/metrics"


async def test_what_is_counted_is_served_in_the_form_of_prometheus(tmp_path: Path):
    BOUND_REACHED.labels(bound="for this test").inc()
    async with page(tmp_path) as url:
        status, text = await asked(url)
        assert status == 200
        families = {family.name: family for family in text_string_to_metric_families(text)}
        samples = families["tagferry_bound_reached"].samples
        assert [s.value for s in samples if s.name.endswith("_total") and s.labels == {"bound": "for this test"}] == [1]
        assert (await asked(url.removesuffix("metrics")))[0] == 404
        assert (await asked(url.replace("metrics", "healthz")))[0] == 404
        assert (await asked(url, "POST"))[0] == 405


PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "text/plain"),
        ("*/*", "text/plain"),
        ("text/plain", "text/plain"),
        ("text/html, nonsense;q=x", "text/plain"),
        ("application/openmetrics-text", "application/openmetrics-text"),
        (PROMETHEUS, "application/openmetrics-text"),
        ("application/openmetrics-text;q=0.5, text/plain;q=0.9", "text/plain"),
        ("application/openmetrics-text;q=0", "text/plain"),
    ],
)
async def test_the_format_is_the_one_that_the_scraper_prefers(tmp_path: Path, accept: str, kind: str):
    async with (
        page(tmp_path) as url,
        aiohttp.ClientSession() as session,
        session.get(url, headers={"Accept": accept}) as response,
    ):
        assert response.content_type == kind
        assert (await response.text()).endswith("# EOF\n") == (kind != "text/plain")


async def test_a_page_is_compressed_for_scrapers_that_accept_it(tmp_path: Path):
    async with page(tmp_path) as url, aiohttp.ClientSession(auto_decompress=False) as session:
        async with session.get(url, headers={"Accept-Encoding": "gzip"}) as response:
            assert response.headers["Content-Encoding"] == "gzip"
            assert b"tagferry_bound_reached" in gzip.decompress(await response.read())
        async with session.get(url, headers={"Accept-Encoding": "identity"}) as response:
            assert "Content-Encoding" not in response.headers


async def test_with_a_token_other_scrapes_are_refused(tmp_path: Path):
    async with page(tmp_path, metrics_token=TOKEN) as url:
        assert (await asked(url, Authorization=f"Bearer {TOKEN}"))[0] == 200
        assert (await asked(url, Authorization=f"bearer  {TOKEN}"))[0] == 200
        for wrong in (
            f"Bearer {TOKEN}x",
            f"Basic {TOKEN}",
            TOKEN,
            "Bearer",
            "Bearer ",
            f"Bearer {TOKEN[:-1]}",
            "Bearer ä",
        ):
            status, text = await asked(url, Authorization=wrong)
            assert status == 401, wrong
            assert "tagferry_" not in text
        assert (await asked(url))[0] == 401


async def test_a_token_in_a_file_can_change_while_metrics_are_served(tmp_path: Path):
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    async with page(tmp_path, metrics_token_file=file) as url:
        assert (await asked(url, Authorization=f"Bearer {TOKEN}"))[0] == 200

        other = tmp_path / "other"
        other.write_text("another token of the same file")
        other.replace(file)
        assert (await asked(url, Authorization=f"Bearer {TOKEN}"))[0] == 401
        assert (await asked(url, Authorization="Bearer another token of the same file"))[0] == 200

        file.unlink()
        assert (await asked(url, Authorization="Bearer another token of the same file"))[0] == 200


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"metrics_token": "short"}, "metrics_token .*at least 16"),
        ({"metrics_token_file": "missing"}, "metrics_token_file must be a file that can be read"),
        ({"metrics_token_file": "short"}, "metrics_token_file must have a token of 16 to 4096 bytes"),
        ({"metrics_token_file": "."}, "metrics_token_file must be a file that can be read"),
        ({"metrics_token_file": "good", "metrics_token": TOKEN}, "must not be set together"),
    ],
    ids=["short", "no file", "short in file", "folder", "both"],
)
def test_a_token_that_cannot_be_used_is_refused_at_the_start(tmp_path: Path, more: dict[str, str], message: str):
    (tmp_path / "short").write_text("short")
    (tmp_path / "good").write_text(TOKEN)
    if file := more.get("metrics_token_file"):
        more = {**more, "metrics_token_file": str(tmp_path / file)}

    with pytest.raises(Invalid, match=message) as refusal:
        metrics_listeners(settings(tmp_path, metrics_listen="127.0.0.1:9464", **more))

    assert TOKEN not in str(refusal.value)


@pytest.mark.parametrize(
    ("address", "token", "is_warned"),
    [
        ("127.0.0.1:9464", None, False),
        ("[::1]:9464", None, False),
        ("localhost:9464", None, False),
        ("0.0.0.0:9464", None, True),
        ("10.0.0.1:9464", None, True),
        ("metrics.example.com:9464", None, True),
        ("0.0.0.0:9464", TOKEN, False),
    ],
)
def test_metrics_that_anyone_can_read_are_warned_of(
    tmp_path: Path, address: str, token: str | None, *, is_warned: bool
):
    with capture_logs() as events:
        metrics_listeners(settings(tmp_path, metrics_listen=address, metrics_token=token))

    assert bool(events) == is_warned


def test_metrics_are_served_nowhere_by_default(tmp_path: Path):
    assert metrics_listeners(settings(tmp_path)) == ()


def test_an_address_for_metrics_needs_a_port(tmp_path: Path):
    with pytest.raises(Invalid, match="metrics_listen must have the form HOST:PORT"):
        settings(tmp_path, metrics_listen="127.0.0.1")


@pytest.mark.parametrize("command", ["serve", "worker"])
async def test_the_command_serves_metrics(tmp_path: Path, postgres: PostgresServer, command: str):
    metrics, region = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    configuration = tmp_path / "tagferry.toml"
    configuration.write_text(f'metrics_listen = "{metrics}"\n[regions.cn-north-4]\nlisten = "{region}"\n')
    environment = clean_environment({"TAGFERRY_DATABASE_URL": postgres.url(postgres.new_database())})
    process = subprocess.Popen(  # noqa: ASYNC220 - it is short, and the test waits for it anyway
        [PROGRAM, command], cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL
    )
    try:
        await asyncio.to_thread(wait_until_it_listens, process, metrics)
        assert "tagferry_bound_reached" in (await asked(f"http://{metrics}/metrics"))[1]
        for probe, component in (("healthz", "event loop"), ("readyz", "worker")):
            status, body = await asked(f"http://{metrics}/{probe}")
            assert (status, json.loads(body)["components"][component]) == (200, "ok")
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 60) == 0
    finally:
        stop(process)


def settings(folder: Path, **more: Any) -> Settings:
    return Settings.parse({"data_dir": folder, "regions": {"a": {"registry": "https://r.example"}}, **more})


class Ready:
    """A process that runs jobs and serves nothing."""

    slots, running, is_stopping = 2, 1, False
    tasks: tuple[str, ...] = ()
    failures: dict[str, Failure] = {}  # noqa: RUF012
    paused_regions: dict[str, object] = {}  # noqa: RUF012

    def __init__(self, *, is_registered: bool) -> None:
        self.is_registered = is_registered

    async def ping(self) -> None:
        """Answer."""

    async def is_schema_current(self) -> bool:
        return True


@pytest.mark.parametrize(("is_registered", "status"), [(True, 200), (False, 503)])
async def test_a_worker_is_ready_once_it_is_registered(tmp_path: Path, is_registered: bool, status: int):
    port, one = free_port(), Ready(is_registered=is_registered)
    parts: Any = {"database": one, "supervisor": one, "regions": (), "worker": one}
    readiness = Readiness(load=None, **parts)
    async with listening(metrics_listeners(settings(tmp_path, metrics_listen=f"127.0.0.1:{port}"), readiness)):
        found, body = await asked(f"http://127.0.0.1:{port}/readyz")
        assert (found, json.loads(body)["jobs"]) == (status, {"running": 1, "slots": 2})
        assert (await asked(f"http://127.0.0.1:{port}/healthz"))[0] == 200
        assert (await asked(f"http://127.0.0.1:{port}/readyz", "POST"))[0] == 405
