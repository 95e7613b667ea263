"""`tagferry job`, and the output of an interrupted `tagferry sync`."""

import asyncio
import json
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tagferry.names import Repository, Tag
from tests.acceptance.served import PROGRAM, clean_environment
from tests.support import images
from tests.support.deployment import NORTH, RELEASE, SOUTH, TEAM, Deployment, deployed, eventually, name_in

TO = f"{SOUTH}/{RELEASE}"


@pytest.fixture
async def ferry(tmp_path: Path) -> AsyncIterator[Deployment]:
    async with deployed(tmp_path / "data") as deployment:
        await images.push(deployment.store(NORTH), name_in("team"), images.image(), Tag("v1"))
        yield deployment


async def begin(ferry: Deployment, *arguments: str) -> asyncio.subprocess.Process:
    key = ferry.admin.key
    environment = {
        "TAGFERRY_ENDPOINT": ferry.urls[NORTH],
        "CLOUD_SDK_AK": key.access_key,
        "CLOUD_SDK_SK": key.secret_key,
    }
    return await asyncio.create_subprocess_exec(
        PROGRAM,
        *arguments,
        env=clean_environment(environment),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def end(process: asyncio.subprocess.Process) -> tuple[int | None, str, str]:
    """Return the exit code and the output."""
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def tagferry(ferry: Deployment, *arguments: str) -> tuple[int | None, str, str]:
    return await end(await begin(ferry, *arguments))


async def test_an_interrupted_sync_prints_a_command_that_cancels_its_jobs(
    ferry: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = ferry.hold(SOUTH)
    is_followed, jobs_of = asyncio.Event(), ferry.app.services.swr.sync.jobs_of

    async def noticed(*arguments: Any, **terms: Any) -> Any:
        is_followed.set()
        return await jobs_of(*arguments, **terms)

    async def is_running() -> bool:
        async with ferry.client() as client:
            return bool(await client.list_jobs(TEAM, Repository("app"), limit=1, status="running"))

    with monkeypatch.context() as watched:
        watched.setattr(ferry.app.services.swr.sync, "jobs_of", noticed)
        process = await begin(ferry, "sync", "team/app:v1", "--to", TO)
        async with asyncio.timeout(60):
            await is_followed.wait()
    process.send_signal(signal.SIGINT)
    code, _, told = await end(process)

    assert code == 130
    (arguments,) = re.findall(
        r"^the jobs of team/app continue on the server; cancel them with: tagferry (job cancel .* --request \S+)$",
        told,
        re.MULTILINE,
    )
    await eventually(is_running)
    code, shown, _ = await tagferry(ferry, *arguments.split())
    assert (code, shown) == (0, "1 cancelled\n")
    assert await tagferry(ferry, *arguments.split()) == (1, "no job of this request is waiting or running\n", "")

    held.released.set()
    code, shown, told = await tagferry(ferry, "job", "retry", "team/app", "1")
    assert (code, shown) == (0, "1 of 1 synchronized\n")
    assert told == "team/app:v1  success  copied and verified\n"
    code, shown, _ = await tagferry(ferry, "job", "list", "team/app")
    rows = [line.split() for line in shown.splitlines()]
    assert rows[0] == ["id", "tag", "target", "status", "age", "progress", "reason"]
    assert [row[:4] for row in rows[1:]] == [["2", "v1", TO, "success"], ["1", "v1", TO, "cancel"]]
    assert shown.splitlines()[2].rstrip().endswith("cancelled by admin")


async def test_a_sync_that_times_out_exits_with_5_and_its_job_is_found_by_status(ferry: Deployment) -> None:
    ferry.hold(SOUTH)

    code, _, told = await tagferry(ferry, "sync", "team/app:v1", "--to", TO, "--timeout", "3")

    assert code == 5
    assert "team/app:v1  timeout  the request's deadline passed" in told
    code, shown, _ = await tagferry(ferry, "job", "list", "team/app", "--status", "timeout,cancel", "--json")
    assert [(job["id"], job["status"]) for job in json.loads(shown)] == [(1, "timeout")]
    assert json.loads((await tagferry(ferry, "job", "list", "team/app", "--status", "waiting", "--json"))[1]) == []
    code, shown, _ = await tagferry(ferry, "job", "cancel", "team/app", "1", "7")
    assert code == 1
    assert shown.splitlines() == [
        "1 not cancelled: it has ended already",
        '7 not cancelled: sync job "7" does not exist',
    ]
    code, shown, _ = await tagferry(ferry, "job", "cancel", "team/other", "1")
    assert (code, shown) == (1, "1 not cancelled: it is a job of team/app\n")
    code, _, told = await tagferry(ferry, "job", "cancel", "team/app")
    assert code == 2
    assert told.startswith("error: ID or --request is required, but not both")


async def test_jobs_of_all_repositories_are_listed_shown_retried_and_cancelled_by_their_ids(ferry: Deployment) -> None:
    ferry.hold(SOUTH)
    await images.push(ferry.store(NORTH), name_in("team", "web"), images.image(), Tag("v1"))
    (failed,) = await ferry.start_sync(name_in("team", "web"), [Tag("v9")], RELEASE)
    (running,) = await ferry.start_sync(name_in("team"), [Tag("v1")], RELEASE)

    code, out, _ = await tagferry(
        ferry, "job", "list", "--org", TEAM, "--to", TO, "--by", "admin", "--since", "1h", "--json"
    )
    assert (code, [job["id"] for job in json.loads(out)]) == (0, [running, failed])
    code, out, _ = await tagferry(ferry, "job", "list", "--state", "failed", "--limit", "1")
    assert code == 0
    assert f" {failed} " in out
    assert "team/web:v9" in out

    code, out, _ = await tagferry(ferry, "job", "cancel", str(running), str(failed))
    assert code == 1
    assert out.splitlines() == [f"{running} cancelled", f"{failed} not cancelled: it has ended already"]
    code, out, _ = await tagferry(ferry, "job", "show", str(running))
    assert code == 0
    assert re.search(r"^status +cancel$", out, re.MULTILINE)
    assert re.search(rf"^image +{NORTH}/team/app:v1$", out, re.MULTILINE)

    code, out, _ = await tagferry(ferry, "job", "retry", str(running))
    assert code == 0
    assert re.fullmatch(rf"{running} retried as job \d+\n", out)
    code, _, err = await tagferry(ferry, "job", "show", "999999")
    assert code == 1
    assert 'sync job "999999" does not exist' in err


async def test_waiting_for_jobs_ends_with_the_codes_of_a_sync(ferry: Deployment) -> None:
    held = ferry.hold(SOUTH)
    (failed,) = await ferry.start_sync(name_in("team"), [Tag("v9")], RELEASE)
    (running,) = await ferry.start_sync(name_in("team"), [Tag("v1")], RELEASE)

    code, shown, told = await tagferry(ferry, "job", "wait", str(running), "--timeout", "0.2")
    assert (code, shown) == (5, "0 of 1 synchronized\n")
    assert re.search(rf"^error: timed out; job {running} is still (waiting|running): .*team/app:v1", told, re.MULTILINE)
    code, _, told = await tagferry(ferry, "job", "wait", str(running), "999")
    assert (code, told) == (1, 'error: sync job "999" does not exist\n')
    code, _, told = await tagferry(ferry, "job", "wait", "--request", "nope")
    assert (code, 'request "nope" does not exist' in told) == (1, True)

    held.released.set()
    code, shown, told = await tagferry(ferry, "job", "wait", str(running), str(failed))
    assert (code, shown) == (3, "1 of 2 synchronized\n")
    assert f"{running}  team/app:v1 to {TO}  success  copied and verified\n" in told
    code, shown, _ = await tagferry(ferry, "job", "wait", "team/app", str(running), "--json")
    assert (code, [job["id"] for job in json.loads(shown)]) == (0, [running])


async def test_a_job_that_is_unknown_cannot_be_retried(ferry: Deployment) -> None:
    for arguments, line in (
        (("999",), '999 not retried: sync job "999" does not exist\n'),
        (("team/app", "999"), '999 not retried: sync job "999" does not exist\n'),
    ):
        code, shown, told = await tagferry(ferry, "job", "retry", *arguments)
        assert code == 1
        assert line in shown + told
    code, _, told = await tagferry(ferry, "job", "cancel", "--request", "nope")
    assert (code, 'request "nope" does not exist' in told) == (1, True)


async def test_a_sync_to_several_targets_follows_all_of_them(ferry: Deployment) -> None:
    code, shown, told = await tagferry(ferry, "sync", "team/app:v1", "--to", TO, "--to", f"{SOUTH}/team", "--to", TO)
    assert (code, shown) == (0, "2 of 2 synchronized\n")
    assert sorted(told.splitlines()) == [
        f"team/app:v1 to {SOUTH}/{target}  success  copied and verified" for target in sorted((RELEASE, "team"))
    ]

    code, shown, told = await tagferry(ferry, "sync", "team/app:v1", "--to", TO, "--to", f"{SOUTH}/nowhere")
    assert (code, shown) == (1, "1 of 2 synchronized\n")
    assert f"error: team/app to {SOUTH}/nowhere: organization" in told


async def test_a_dry_run_tells_up_to_date_from_would_copy_if_it_is_asked_to(ferry: Deployment) -> None:
    dry = ("sync", "team/app:v1", "--to", TO, "--dry-run")
    assert (await tagferry(ferry, *dry))[0] == 0
    code, shown, _ = await tagferry(ferry, *dry, "--exit-code")
    assert (code, "nothing was changed" in shown) == (10, True)
    assert (await tagferry(ferry, "sync", "team/app:v1", "--to", TO))[0] == 0
    assert (await tagferry(ferry, *dry, "--exit-code"))[0] == 0
    code, _, told = await tagferry(ferry, "sync", "team/app:v1", "--to", TO, "--exit-code")
    assert (code, told) == (2, "error: --exit-code: needs --dry-run\n")
    assert (await tagferry(ferry, "sync", "team/app:v9", "--to", TO, "--dry-run", "--exit-code"))[0] == 3


async def test_what_a_server_refuses_is_named_with_the_option(ferry: Deployment) -> None:
    code, _, told = await tagferry(ferry, "sync", "team/app:v1", "--to", f"nowhere/{RELEASE}")
    assert (code, told.startswith("error: --to: must be one of the known regions")) == (2, True)
    code, _, told = await tagferry(ferry, "sync", "team/app:v1", "--to", TO, "--timeout", "1e300")
    assert (code, told.startswith("error: --timeout: ")) == (2, True)
    code, _, told = await tagferry(ferry, "job", "list", "--by", "x" * 100)
    assert (code, told.startswith("error: --by: must be ")) == (2, True)


async def test_a_filter_that_names_nothing_known_is_an_error_that_says_how_to_list_what_is_known(
    ferry: Deployment,
) -> None:
    for arguments, exit_code, beginning, hint in (
        (("job", "list", "--to", "nowhere"), 2, "--to: must be one of the known regions", "tagferry region list"),
        (("job", "list", "--to", f"{SOUTH}/none"), 2, "--to: must be an organization", "tagferry org list REGION"),
        (("job", "list", "--org", "none"), 2, "--org: must be an organization", "tagferry org list REGION"),
        (("job", "list", "--by", "nobody"), 2, "--by: must be the name of a user", "tagferry user list"),
        (("job", "list", "--request", "none"), 1, 'request "none" does not exist', "tagferry job list --json"),
        (("job", "list", "team/none", "--since", "1h"), 1, "repository", ""),
        (("audit", "list", "--user", "nobody"), 2, "--user: must be the name of a user", "tagferry user list"),
        (("key", "list", "nobody"), 1, 'user "nobody" does not exist', "tagferry user list"),
    ):
        code, shown, told = await tagferry(ferry, *arguments)
        assert (code, shown) == (exit_code, "")
        assert told.startswith(f"error: {beginning}")
        assert hint in told
    assert (await tagferry(ferry, "job", "list", "team/app", "--to", SOUTH, "--by", "admin"))[0] == 0


async def test_a_key_without_permission_is_denied(ferry: Deployment) -> None:
    _, key = await ferry.user("mallory")
    keys = ("--ak", key.access_key, "--sk", key.secret_key)
    assert (await tagferry(ferry, "sync", "team/app:v1", "--to", TO, *keys))[0] == 7
    assert (await tagferry(ferry, "audit", "list", *keys))[0] == 7
    assert (await tagferry(ferry, "job", "list", "--ak", "A" * 20, "--sk", "wrong"))[0] == 7
