"""Listen addresses: free, used by tagferry, or used by something else."""

import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tagferry.diagnosis.addresses import check_addresses
from tagferry.diagnosis.model import Finding, Level
from tagferry.settings import Settings
from tests.support.processes import free_port
from tests.support.scripted_registry import Reply, ScriptedRegistry, said, scripted_registry


@pytest.fixture
async def script() -> AsyncIterator[ScriptedRegistry]:
    async with scripted_registry() as running:
        yield running


async def check(
    address: str, *, seconds: float = 30.0, served: set[str] | None = None, **settings: Any
) -> list[Finding]:
    parsed = Settings.parse({"data_dir": Path("unused"), "regions": {"north": {"listen": address}}, **settings})
    return await check_addresses(parsed, seconds=seconds, served=served)


async def at(script: ScriptedRegistry, **settings: Any) -> list[Finding]:
    return await check(script.url.partition("://")[2], **settings)


async def test_a_free_address_is_ok():
    address = f"127.0.0.1:{free_port()}"
    (found,) = await check(address)

    assert (found.level, found.subject, found.message) == (
        Level.OK,
        address,
        "free: no server for region north runs here",
    )


async def test_a_server_that_is_ready_is_ok(script: ScriptedRegistry):
    script.always("GET", "/readyz", said({"status": "ok", "components": {"database": "ok"}}))
    (found,) = await at(script)

    assert (found.level, found.message) == (Level.OK, "a tagferry server for region north is ready")


async def test_a_server_that_no_process_of_the_database_is_belongs_to_another_installation(script: ScriptedRegistry):
    script.always("GET", "/readyz", said({"status": "ok", "components": {"database": "ok"}}))
    (own,), (foreign,) = await at(script, served={"north"}), await at(script, served={"south"})

    assert (own.level, foreign.level) == (Level.OK, Level.PROBLEM)
    assert "used by a tagferry server of another installation" in foreign.message


async def test_a_component_that_failed_is_a_problem_and_a_degraded_one_a_warning(script: ScriptedRegistry):
    components = {"requests": "ok", "database": "the database does not answer"}
    script.on("GET", "/readyz", said({"status": "failed", "components": components}, status=503))
    script.on("GET", "/readyz", said({"status": "degraded", "components": {"polling": "failed"}, "paused": ["hub"]}))
    (failed,) = await at(script)
    degraded = await at(script)

    assert (failed.level, failed.message) == (
        Level.PROBLEM,
        "the server reports database: the database does not answer",
    )
    assert [(one.level, one.message) for one in degraded] == [
        (Level.WARNING, "the server reports polling: failed"),
        (Level.WARNING, "the server has paused region hub, whose registry does not answer; its jobs wait"),
    ]


async def test_what_several_addresses_and_components_report_is_one_finding():
    state = {"disk of north": "almost full", "disk of south": "almost full", "disk of east": "the disk failed"}
    async with scripted_registry() as north, scripted_registry() as south:
        listeners = [script.url.partition("://")[2] for script in (north, south)]
        for script in (north, south):
            script.always("GET", "/readyz", said({"status": "degraded", "components": state}))
        regions = {name: {"listen": one} for name, one in zip(("north", "south"), listeners, strict=True)}
        parsed = Settings.parse({"data_dir": Path("unused"), "regions": regions})
        found = await check_addresses(parsed, seconds=30.0, known=["disk of east"])
        ready = await check_addresses(parsed, seconds=30.0, known=list(state))

    assert [(one.level, one.subject, one.message) for one in found] == [
        (Level.WARNING, ", ".join(listeners), "the server reports disk of north, disk of south: almost full")
    ]
    assert {(one.level, one.message) for one in ready} == {
        (Level.OK, f"a tagferry server for region {name} runs here") for name in regions
    }


@pytest.mark.parametrize(
    "reply",
    [
        Reply(status=200, body=b"<html>"),
        Reply(status=404),
        said([]),
        said({"components": "x"}),
        said({"status": "ok"}),
    ],
)
async def test_another_program_is_a_problem(script: ScriptedRegistry, reply: Reply):
    script.always("GET", "/readyz", reply)
    (found,) = await at(script)

    assert found.level is Level.PROBLEM
    assert "used by another program" in found.message


async def test_a_program_that_does_not_speak_http_is_a_problem(script: ScriptedRegistry):
    script.always("GET", "/readyz", Reply(raw=b"SSH-2.0-OpenSSH_9.2\r\n"))
    (found,) = await at(script)

    assert found.level is Level.PROBLEM
    assert "used by another program, which does not answer as tagferry" in found.message


async def test_a_program_that_does_not_answer_is_a_problem(script: ScriptedRegistry):
    script.always("GET", "/readyz", Reply(delay=60.0))
    (found,) = await at(script, seconds=0.3)

    assert found.level is Level.PROBLEM
    assert "did not answer GET /readyz within 0.3 s" in found.message


async def test_an_address_of_another_machine_is_a_problem():
    (found,) = await check("192.0.2.1:5004", seconds=0.3)

    assert found.level is Level.PROBLEM


async def test_an_answer_of_any_size_and_content_is_bounded(script: ScriptedRegistry):
    state = "x\x1b[31m" * 1000
    script.on("GET", "/readyz", said({"components": {"disk": state}}, status=503))
    script.on("GET", "/readyz", Reply(body=b"x" * 2_000_000))
    (long,) = await at(script)
    (large,) = await at(script)

    assert len(long.message) < 500
    assert "\x1b" not in long.message
    assert "another program" in large.message


async def test_the_address_of_metrics_is_checked(script: ScriptedRegistry):
    script.on("GET", "/metrics", Reply(body=b"tagferry_up 1\n"), Reply(status=401), Reply(status=404))
    levels = [
        [one.level for one in await check(f"127.0.0.1:{free_port()}", metrics_listen=script.url.partition("://")[2])]
        for _ in range(3)
    ]

    assert levels == [[Level.OK, Level.OK], [Level.OK, Level.OK], [Level.OK, Level.PROBLEM]]


async def test_a_port_that_is_bound_by_another_program_is_a_problem():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        # Full: neither accepted nor refused.
        bound.listen(0)
        host, port = bound.getsockname()
        (found,) = await check(f"{host}:{port}", seconds=0.3)

    assert found.level is Level.PROBLEM
