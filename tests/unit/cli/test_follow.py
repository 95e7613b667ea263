"""The display of followed jobs."""

import asyncio
import io
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from rich.console import Console

from tagferry.cli import follow as follow_module
from tagferry.cli.bars import BarDisplay
from tagferry.cli.client import ManagementClient
from tagferry.cli.follow import Followed, LineDisplay, Retries, display_on, follow, waiting_for
from tagferry.cli.server_error import ServerError, ServerUnreachable
from tagferry.cli.watch import run_interruptible
from tagferry.errors import Unavailable
from tagferry.names import Namespace, Repository

FOLLOWED = Followed(Namespace("team"), Repository("app"), {7: "v1"})
RUNNING = {"status": "running", "bytesDone": 250_000, "bytesTotal": 1_000_000, "reason": ""}
ENDED = {
    "status": "success",
    "bytesDone": 1_000_000,
    "bytesTotal": 1_000_000,
    "reason": "copied and verified",
    "bytesPerSecond": None,
    "secondsLeft": None,
}


class Server:
    """Return the states of the job one after the other, and then fail."""

    def __init__(self, *states: dict[str, Any]) -> None:
        self._states = list(states)

    async def sync_jobs(self, _n: Namespace, _r: Repository, job_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
        if not self._states:
            raise Unavailable("the server has stopped")
        (job_id,) = job_ids
        return {job_id: {"tag": "v1", **self._states.pop(0)}}


async def shown(*states: dict[str, Any], terminal: bool = True) -> str:
    """Return the final display."""
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=200, color_system=None)
    with suppress(Unavailable):
        display = BarDisplay(console) if terminal else display_on(stream)
        await follow(cast("ManagementClient", Server(*states)), [FOLLOWED], on=display)
    return stream.getvalue()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow_module, "_POLL_SECONDS", 0)
    monkeypatch.setattr(follow_module, "_AGAIN_SECONDS", 0)


class RestartedServer(Server):
    """Fail to answer between the states, in these ways."""

    def __init__(self, *faults: Exception) -> None:
        super().__init__(RUNNING, ENDED)
        self.faults = list(faults)

    async def sync_jobs(self, _n: Namespace, _r: Repository, job_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
        if len(self._states) == 1 and self.faults:
            raise self.faults.pop(0)
        return await super().sync_jobs(_n, _r, job_ids)

    async def followed(self) -> list[dict[str, Any]]:
        return await follow(cast("ManagementClient", self), [FOLLOWED], on=LineDisplay(io.StringIO()))


def refused(status: int) -> ServerError:
    return ServerError(status, "no", code="X", request_id="r")


async def test_a_restart_of_the_server_is_waited_for(capsys: pytest.CaptureFixture[str]):
    server = RestartedServer(ServerUnreachable("cannot reach it"), refused(503), refused(502), refused(504))

    (job,) = await server.followed()

    assert (job["status"], server.faults) == ("success", [])
    assert capsys.readouterr().err == "cannot reach it; asking again for up to 120 seconds\n"


async def test_a_restart_is_told_once_for_all_repositories(capsys: pytest.CaptureFixture[str]):
    retries, faults = Retries(), [ServerUnreachable("cannot reach it")] * 6

    async def ask() -> int:
        if faults:
            raise faults.pop()
        return 7

    assert await asyncio.gather(*(retries.run(ask) for _ in range(3))) == [7] * 3
    line = "cannot reach it; asking again for up to 120 seconds\n"
    assert capsys.readouterr().err == line

    faults.append(ServerUnreachable("cannot reach it"))
    assert await retries.run(ask) == 7
    assert capsys.readouterr().err == line


async def test_a_server_that_stays_away_is_given_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(follow_module, "_PATIENCE_SECONDS", 0.05)
    server = RestartedServer(*[ServerUnreachable("cannot reach it")] * 1_000_000)

    with pytest.raises(ServerUnreachable):
        await server.followed()


@pytest.mark.parametrize("status", [401, 404, 500])
async def test_other_errors_end_the_display_at_once(status: int):
    server = RestartedServer(refused(status), refused(503))

    with pytest.raises(ServerError):
        await server.followed()

    assert len(server.faults) == 1


def test_when_a_server_is_given_up_the_way_to_its_jobs_is_shown(capsys: pytest.CaptureFixture[str]):
    async def work() -> list[dict[str, Any]]:
        raise ServerUnreachable("cannot reach it")

    with pytest.raises(ServerUnreachable):
        run_interruptible(work(), [replace(FOLLOWED, request_id="r1")])

    expected = (
        "the jobs of team/app continue on the server; wait for them with: tagferry job wait team/app --request r1\n"
    )
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize(
    ("rate", "left", "text"),
    [
        (25_000, 30, "25.0 kB/s, 0:00:30 left"),
        (25_000_000, 3_900, "25.0 MB/s, 1:05:00 left"),
        (0, None, "0 bytes/s"),
    ],
)
async def test_a_bar_shows_the_rate_and_the_remaining_time_of_the_server(rate: int, left: int | None, text: str):
    display = await shown(RUNNING | {"bytesPerSecond": rate, "secondsLeft": left})
    assert text in display
    assert ("left" in display) == (left is not None)


async def test_a_bar_shows_no_rate_if_the_server_reports_none():
    display = await shown(RUNNING | {"bytesPerSecond": None, "secondsLeft": None})
    assert "/s" not in display
    assert "running" in display


async def test_without_a_terminal_only_ends_are_printed():
    display = await shown(RUNNING | {"bytesPerSecond": 1, "secondsLeft": 1}, ENDED, terminal=False)
    assert display == "team/app:v1  success  copied and verified\n"


@pytest.mark.parametrize(
    ("due", "shown"),
    [
        ("2030-01-01T12:00:12+00:00", "waiting for attempt 3 in 0:00:12: cannot connect to https://a.example"),
        ("2030-01-01T11:59:00+00:00", "waiting for attempt 3: cannot connect to https://a.example"),
        (None, "waiting for attempt 3: cannot connect to https://a.example"),
    ],
)
def test_a_job_whose_registry_is_unavailable_shows_its_next_attempt_and_the_error(due: str | None, shown: str):
    job = {
        "status": "waiting",
        "attempts": 2,
        "failures": 2,
        "nextAttemptAt": due,
        "lastError": "cannot connect to https://a.example",
    }
    assert waiting_for(job, datetime(2030, 1, 1, 12, tzinfo=UTC)) == shown
    assert waiting_for({**job, "status": "running"}) == ""
    assert waiting_for({**job, "failures": 0}) == ""


async def test_each_failed_attempt_is_shown_once():
    first = {**RUNNING, "status": "waiting", "attempts": 1, "failures": 1, "nextAttemptAt": None, "lastError": "away"}
    first |= {"bytesPerSecond": None, "secondsLeft": None}
    second = {**first, "attempts": 2, "failures": 2, "lastError": "still away"}
    stream = io.StringIO()
    server = cast("ManagementClient", Server(first, first, second, ENDED))

    await follow(server, [FOLLOWED], on=display_on(stream))

    assert stream.getvalue().splitlines() == [
        "team/app:v1  waiting for attempt 2: away",
        "team/app:v1  waiting for attempt 3: still away",
        "team/app:v1  success  copied and verified",
    ]


async def test_without_a_terminal_the_progress_is_one_line_every_ten_seconds():
    stream, now = io.StringIO(), 0.0
    display = LineDisplay(stream, clock=lambda: now)
    running = {**RUNNING, "attempts": 1, "bytesPerSecond": 50_000}
    with display:
        for second in range(25):
            now = float(second)
            display.show("team/app:v1", running)
            display.show("team/app:v2", {**running, "status": "waiting", "bytesDone": 0, "bytesPerSecond": None})
    display.show("team/app:v1", ENDED)

    progress = "progress: 0 of 2 tags ended, 1 running, 250.0 kB of 2.0 MB, 50.0 kB/s"
    assert stream.getvalue().splitlines() == [progress, progress, "team/app:v1  success  copied and verified"]


async def test_jobs_of_several_targets_are_told_apart():
    stream = io.StringIO()
    followed = [replace(FOLLOWED, target=f"{region}/team") for region in ("north", "south")]

    for one in followed:
        await follow(cast("ManagementClient", Server(ENDED)), [one], on=display_on(stream))

    assert stream.getvalue().splitlines() == [
        "team/app:v1 to north/team  success  copied and verified",
        "team/app:v1 to south/team  success  copied and verified",
    ]
