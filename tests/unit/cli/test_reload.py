"""`tagferry reload` does not wait for a process that was killed."""

import asyncio
from pathlib import Path
from typing import cast

import pytest
from typer.testing import CliRunner, Result

from tagferry.cli.accounts import accounts_of
from tagferry.cli.commands import app
from tagferry.errors import Unavailable
from tagferry.sync.jobs.worker import Worker
from tagferry.workers import ProcessRecord
from tests.unit.test_workers import FakeWorker


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a recorded process that holds no lock, as after a kill."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TAGFERRY_CONFIG", raising=False)
    assert invoke("init", "--region", "north=127.0.0.1:5004").exit_code == 0

    async def leads() -> bool:
        return True

    async def record() -> str:
        async with accounts_of(tmp_path / "tagferry.toml") as accounts:
            worker = cast("Worker", FakeWorker())
            killed = ProcessRecord(accounts.database, worker, regions=[], is_leader=leads)
            await killed.update()
            return killed.name

    return asyncio.run(record())


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def test_a_process_that_was_killed_is_named_and_not_waited_for(process: str):
    error = invoke("reload", "--seconds", "3600").exception

    assert isinstance(error, Unavailable)
    assert error.message == (
        f"{process} has ended without stopping properly, and no tagferry process uses this database; start one with: "
        "tagferry serve"
    )


def test_the_regions_of_a_process_that_was_killed_are_those_of_the_file(process: str):
    listed = invoke("region", "list")

    assert "no tagferry process uses this database; these are the regions of the configuration file" in listed.stderr
    assert "north" in listed.stdout
