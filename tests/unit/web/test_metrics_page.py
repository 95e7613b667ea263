"""Metrics are served on an address of their own, by servers and by workers."""

import asyncio
import signal
import subprocess
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tagferry.errors import Invalid
from tagferry.metrics import BOUND_REACHED
from tagferry.settings import Settings
from tagferry.web.metrics_page import metrics_listeners
from tagferry.web.server.serve import listening
from tests.acceptance.served import PROGRAM, clean_environment
from tests.support.postgres import PostgresServer
from tests.support.processes import free_port, stop, wait_until_it_listens


async def asked(url: str, method: str = "GET") -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.request(method, url) as response:
        return response.status, await response.text()


async def test_what_is_counted_is_served_in_the_form_of_prometheus(tmp_path: Path):
    port = free_port()
    BOUND_REACHED.labels(bound="for this test").inc()
    async with listening(metrics_listeners(settings(tmp_path, metrics_listen=f"127.0.0.1:{port}"))):
        status, page = await asked(f"http://127.0.0.1:{port}/metrics")
        assert status == 200
        families = {family.name: family for family in text_string_to_metric_families(page)}
        samples = families["tagferry_bound_reached"].samples
        assert [s.value for s in samples if s.name.endswith("_total") and s.labels == {"bound": "for this test"}] == [1]
        assert (await asked(f"http://127.0.0.1:{port}/"))[0] == 404
        assert (await asked(f"http://127.0.0.1:{port}/metrics", "POST"))[0] == 405


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
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 60) == 0
    finally:
        stop(process)


def settings(folder: Path, **more: str) -> Settings:
    return Settings.parse({"data_dir": folder, "regions": {"a": {"registry": "https://r.example"}}, **more})
