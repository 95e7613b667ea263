"""Probes report whether the process can serve requests, without internal details."""

import asyncio
import os
import re
from collections.abc import Awaitable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from tagferry.db.engine import Database
from tagferry.errors import DatabaseUnavailable, Unavailable
from tagferry.supervision import Failure, Supervisor
from tagferry.sync.jobs.worker import Worker
from tests.support.deployment import NORTH, Deployment, deployed, eventually

SECRET = 'connection to server at "10.1.2.3", port 5432 failed: password authentication failed for user "ferry"'


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ping(_database: Database) -> None:
        raise Unavailable(SECRET)

    monkeypatch.setattr(Database, "ping", ping)


async def readiness(ferry: Deployment) -> tuple[int, dict[str, str]]:
    """The status of the answer, and the components that are not ready."""
    answer = await ferry.http("GET", "/readyz")
    document = answer.document
    assert document["status"] == ("ok" if answer.status == 200 else "failed")
    return answer.status, {name: state for name, state in document["components"].items() if state != "ok"}


async def _fails(supervisor: Supervisor) -> bool:
    return "made to fail" in supervisor.failures


@pytest.mark.usefixtures("failing")
async def test_a_database_that_fails_is_told_without_its_address(ferry: Deployment):
    with capture_logs() as logs:
        assert await readiness(ferry) == (503, {"database": "the database does not answer"})
    assert [entry["reason"] for entry in logs if entry["event"] == "the database does not answer"] in ([SECRET], [])
    assert (await ferry.http("GET", "/healthz")).status == 200


async def test_a_database_whose_file_was_replaced_is_told(ferry: Deployment, monkeypatch: pytest.MonkeyPatch):
    async def ping(_database: Database) -> None:
        raise DatabaseUnavailable("the file of the database was replaced", detail=SECRET)

    monkeypatch.setattr(Database, "ping", ping)
    assert await readiness(ferry) == (503, {"database": "the file of the database was replaced"})


@pytest.mark.parametrize("error", [RuntimeError(SECRET), TimeoutError(), OSError(SECRET)], ids=repr)
async def test_whatever_the_database_fails_with_is_not_told(
    ferry: Deployment, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    async def ping(_database: Database) -> None:
        raise error

    monkeypatch.setattr(Database, "ping", ping)
    assert await readiness(ferry) == (503, {"database": "the database does not answer"})


async def test_a_silent_database_is_not_waited_for(ferry: Deployment, monkeypatch: pytest.MonkeyPatch):
    async def ping(_database: Database) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Database, "ping", ping)
    monkeypatch.setattr("tagferry.bounds.READINESS_SECONDS", 0.1)
    assert await readiness(ferry) == (503, {"database": "the database does not answer"})


async def test_the_database_is_asked_once_however_many_probes_there_are(
    ferry: Deployment, monkeypatch: pytest.MonkeyPatch
):
    asked = 0

    async def ping(_database: Database) -> None:
        nonlocal asked
        asked += 1

    monkeypatch.setattr(Database, "ping", ping)
    monkeypatch.setattr("tagferry.web.probes._FRESH_SECONDS", 1000)
    answers = await asyncio.gather(*(readiness(ferry) for _ in range(50)))
    assert answers == [(200, {})] * 50
    assert asked == 1


async def test_overload_is_told_until_it_is_over(ferry: Deployment, monkeypatch: pytest.MonkeyPatch):
    load: Any = ferry.app.services.load
    load.busy += 1000
    answer = await ferry.http("GET", "/v2/manage/regions")
    status, code, message = answer.status, answer.document["error_code"], answer.document["error_msg"]
    assert (status, code) == (503, "SVCSTG.SWR.5030000")
    assert "overloaded" in message
    assert int(answer.headers["Retry-After"]) > 0
    assert await readiness(ferry) == (503, {"requests": "overloaded: requests are refused"})
    registry = await ferry.http("GET", "/v2/team/app/tags/list")
    assert (registry.status, registry.document["errors"][0]["code"]) == (503, "UNAVAILABLE")
    load.busy -= 1000
    monkeypatch.setattr("tagferry.web.server.admission._SHEDDING_SECONDS", 0.1)

    async def ready() -> bool:
        return await readiness(ferry) == (200, {})

    await eventually(ready)


async def test_bodies_of_strangers_that_are_too_many_are_refused_for_a_while(ferry: Deployment):
    held: Any = ferry.app.services.body_budget
    held._limit = 10
    answer = await ferry.http("POST", "/v3/auth/tokens", body={"auth": {"identity": {}}})
    assert answer.refused()[:2] == (503, "SVCSTG.SWR.5030000")
    assert int(answer.headers["Retry-After"]) > 0
    assert (await ferry.http("GET", "/readyz")).status == 200


async def test_every_answer_forbids_to_guess_its_type(ferry: Deployment):
    for path in ("/healthz", "/v2/", "/v2/team/app/tags/list", "/v2/manage/regions", "/nothing", "/openapi.json"):
        answer = await ferry.http("GET", path)
        assert answer.headers["X-Content-Type-Options"] == "nosniff", path
    assert NORTH in ferry.urls


async def test_readiness_names_every_component(ferry: Deployment):
    document = (await ferry.http("GET", "/readyz")).document
    assert document["status"] == "ok"
    assert document["jobs"] == {"running": 0, "slots": 32}
    assert set(document["components"]) >= {
        "database",
        "migrations",
        "process",
        "requests",
        "worker",
        f"disk of {NORTH}",
        f"verifying the content of {NORTH}",
        "calling webhooks",
        "housekeeping",
        "recording used signatures",
        "retention",
        "running jobs",
        "watching tags",
    }


async def test_a_background_task_that_runs_but_fails_again_and_again_is_reported_with_its_failures(
    ferry: Deployment, monkeypatch: pytest.MonkeyPatch
):
    since = datetime(2026, 11, 28, 12, 30, tzinfo=UTC)
    failure = Failure("RuntimeError", 37, since, is_running=True, seconds=0, is_essential=True)
    monkeypatch.setattr(Supervisor, "failures", {"running jobs": failure})

    answer = await ferry.http("GET", "/readyz")
    assert (answer.status, answer.document["status"]) == (200, "degraded")
    assert answer.document["components"]["running jobs"] == (
        "failed 37 times since 2026-11-28T12:30:00Z (RuntimeError), and runs again"
    )
    assert (await ferry.http("GET", "/healthz")).status == 200


@pytest.mark.parametrize(("is_essential", "status"), [(True, 503), (False, 200)])
async def test_a_background_task_that_fails_is_reported(ferry: Deployment, is_essential: bool, status: int):
    async def fail() -> None:
        raise RuntimeError(SECRET)

    supervisor = ferry.app.accounts.supervisor
    task = supervisor.start("made to fail", fail, is_essential=is_essential)
    await eventually(lambda: _fails(supervisor))
    answer = await ferry.http("GET", "/readyz")
    assert answer.status == status
    assert answer.document["status"] == ("failed" if is_essential else "degraded")
    assert re.fullmatch(
        r"failed( \d+ times)? since 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ \(RuntimeError\), and is being restarted",
        answer.document["components"]["made to fail"],
    )
    assert (await ferry.http("GET", "/healthz")).status == 200
    task.cancel()
    await asyncio.wait([task])
    assert await readiness(ferry) == (200, {})


@pytest.mark.parametrize(("is_essential", "status"), [(True, 503), (False, 200)])
async def test_a_process_is_unhealthy_once_an_essential_task_failed_for_minutes(
    ferry: Deployment, monkeypatch: pytest.MonkeyPatch, is_essential: bool, status: int
):
    async def fail() -> None:
        raise RuntimeError(SECRET)

    monkeypatch.setattr("tagferry.web.probes._RESTART_SECONDS", -1)
    supervisor = ferry.app.accounts.supervisor
    task = supervisor.start("made to fail", fail, is_essential=is_essential)
    await eventually(lambda: _fails(supervisor))
    answer = await ferry.http("GET", "/healthz")
    assert (answer.status, SECRET in str(answer.document)) == (status, False)
    task.cancel()
    await asyncio.wait([task])


async def test_a_schema_of_another_version_is_not_ready(ferry: Deployment):
    database = ferry.app.accounts.database
    async with database.write() as session:
        await session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with capture_logs() as logs:
        changed = {"migrations": "another version has changed the schema; upgrade this process"}
        await eventually(lambda: _is(readiness(ferry), (503, changed)))
    (line,) = [entry for entry in logs if entry["event"] == "another version changed the schema"]
    assert (line["revision"], line["expected"]) == ("9999", database._migrated_to)


async def test_a_process_that_stops_is_not_ready_but_healthy(ferry: Deployment):
    await ferry.app.worker.drain(0)
    assert await readiness(ferry) == (503, {"process": "stopping"})
    assert (await ferry.http("GET", "/healthz")).status == 200


async def test_a_server_whose_worker_lost_its_lease_serves_degraded(ferry: Deployment, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Worker, "is_registered", False)
    answer = await ferry.http("GET", "/readyz")
    assert (answer.status, answer.document["status"]) == (200, "degraded")
    assert answer.document["components"]["worker"] == "not registered: it lost its lease, and joins again"


async def test_a_process_without_slots_has_no_worker(tmp_path: Path):
    async with deployed(tmp_path / "data", sync={"max_concurrent_tags": 1}) as ferry:
        ferry.app.worker._slot_count = 0
        document = (await ferry.http("GET", "/readyz")).document
        assert "worker" not in document["components"]
        assert "jobs" not in document


async def test_a_disk_that_is_almost_full_is_reported_before_pushes_are_refused(
    ferry: Deployment, monkeypatch: pytest.MonkeyPatch
):
    def statvfs(_path: object) -> os.statvfs_result:
        # Blocks of a mebibyte: 100 GiB in all, 4 GiB free, of which 1 GiB are the reserve.
        return os.statvfs_result((2**20, 2**20, 102_400, 4096, 4096, 0, 0, 0, 0, 255))

    monkeypatch.setattr("tagferry.registry.storage.free_space.os.statvfs", statvfs)
    answer = await ferry.http("GET", "/readyz")
    assert (answer.status, answer.document["status"]) == (200, "degraded")
    shown = answer.document["components"][f"disk of {NORTH}"]
    assert shown == "almost full: 4.0 GiB left; pushes are refused below 1.0 GiB"
    excluded = (await ferry.http("GET", "/readyz?exclude=disk")).document
    assert f"disk of {NORTH}" not in excluded["components"]


async def test_the_liveness_probe_reports_a_late_event_loop(ferry: Deployment, monkeypatch: pytest.MonkeyPatch):
    assert (await ferry.http("GET", "/healthz")).document["components"]["event loop"] == "ok"
    monkeypatch.setattr("tagferry.bounds.PROBED_LAG_SECONDS", -1)
    answer = await ferry.http("GET", "/healthz")
    # A restart would not help.
    assert (answer.status, answer.document["status"]) == (200, "ok")
    assert re.fullmatch(r"late by \d+\.\d s", answer.document["components"]["event loop"])


async def _is(work: Awaitable[Any], expected: Any) -> bool:
    return bool(await work == expected)
