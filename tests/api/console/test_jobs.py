"""The pages of jobs: list, actions on several at once, one job, its changes while it is open, and synchronize."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import delete, update

from tagferry import bounds
from tagferry.accounts.model import Permission
from tagferry.db.tables import OrganizationPermissionRow, SyncJobRow
from tagferry.errors import Unavailable
from tagferry.names import Namespace, Repository, Tag
from tagferry.sync.jobs.all_jobs import JobPage as NewJobs
from tagferry.web.console.pages import events
from tests.api.console.test_images import signed_in
from tests.support import images
from tests.support.browser import Browser, Page, text_of
from tests.support.changes import streaming, until
from tests.support.deployment import NORTH, RELEASE, SOUTH, TEAM, Deployment, eventually, name_in

JOBS = "/console/jobs"
SYNCHRONIZE = "/console/synchronize"
WEB, APP = Repository("web"), Repository("app/core")
SAMPLE, OTHER = images.image(), images.image(seed="other")


async def pushed(ferry: Deployment, *tags: str, repository: Repository = WEB, namespace: Namespace = TEAM) -> None:
    for tag in tags:
        await images.push(ferry.store(NORTH), name_in(namespace, repository), SAMPLE, Tag(tag))


async def started(
    ferry: Deployment, *tags: str, repository: Repository = WEB, namespace: Namespace = TEAM, to: str = RELEASE
) -> list[int]:
    body = {"imageTag": list(tags), "remoteNamespace": to, "remoteRegionId": SOUTH}
    async with ferry.client() as client:
        return list((await client.start_sync(namespace, repository, body)).tags)


async def ended(ferry: Deployment, jobs: list[int]) -> list[dict[str, Any]]:
    async with ferry.client() as client:

        async def look() -> list[dict[str, Any]]:
            found = [await client.show_job(job) for job in jobs]
            return [] if any(job["status"] in ("waiting", "running") for job in found) else found

        return await eventually(look)


def listed(page: Page) -> list[str]:
    return [row[1] for row in page.rows()]


async def test_jobs_are_listed_with_filters_in_the_address(ferry: Deployment, administrator: Browser):
    await pushed(ferry, "v1")
    await pushed(ferry, "v1", repository=APP)
    await ended(ferry, [*await started(ferry, "v1", "v9"), *await started(ferry, "v1", repository=APP)])

    page = await administrator.get(JOBS)
    assert page.heading == "Jobs"
    assert [name.split(" ")[0] for name in listed(page)] == [
        f"team/app/core:v1{NORTH}",
        f"team/web:v9{NORTH}",
        f"team/web:v1{NORTH}",
    ]
    failed = await administrator.get(f"{JOBS}?state=failed")
    assert listed(failed) == [f"team/web:v9{NORTH}"]
    assert "the tag does not exist in the source repository" in failed.rows()[0][4]
    assert len(listed(await administrator.get(f"{JOBS}?repository=team/app&since=1h&by=admin&to={SOUTH}"))) == 1
    assert len(listed(await administrator.get(f"{JOBS}?region={NORTH}&repository=team/web"))) == 2
    assert len(listed(await administrator.get(f"{JOBS}?state=problems"))) == 1
    nothing = await administrator.get(f"{JOBS}?state=open&by=nobody")
    assert "No job matches the filter" in nothing.text


async def test_a_list_without_jobs_says_what_to_do(administrator: Browser):
    page = await administrator.get(JOBS)

    assert "No jobs yet" in page.text
    assert "Synchronize images" in page.text


@pytest.mark.parametrize("query", ["state=x", "since=x", "repository=-", "to=_", "marker=x", "by=%00", "region=%2F"])
async def test_an_invalid_filter_is_shown_at_its_field(administrator: Browser, query: str):
    page = await administrator.get(f"{JOBS}?{query}")

    assert page.status == 400
    assert page.all("p[@class='field-problem']") or page.all("p[@role='alert']")


async def test_pages_of_jobs_follow_each_other(ferry: Deployment, administrator: Browser):
    tags = [f"v{number}" for number in range(55)]
    await pushed(ferry, *tags)
    await ended(ferry, await started(ferry, *tags))

    first = await administrator.get(JOBS)
    (following,) = [link.get("href", "") for link in first.all("a[@rel='next']")]
    second = await administrator.get(following)

    assert (len(listed(first)), len(listed(second))) == (50, 5)
    assert not set(listed(first)) & set(listed(second))
    assert not second.all("a[@rel='next']")
    assert len(listed(await administrator.get(f"{JOBS}?rows=200"))) == 55


async def test_selected_jobs_of_several_repositories_are_retried_at_once(ferry: Deployment, administrator: Browser):
    await pushed(ferry, "v1")
    await pushed(ferry, "v1", repository=APP)
    jobs = [*await started(ferry, "v9"), *await started(ferry, "v9", repository=APP)]
    await ended(ferry, jobs)
    await pushed(ferry, "v9")
    await pushed(ferry, "v9", repository=APP)

    page = await administrator.post(
        JOBS, [("next", f"{JOBS}?state=failed"), ("action", "retry"), *(("job", str(job)) for job in jobs)], follow=True
    )

    assert page.path == f"{JOBS}?state=failed"
    assert "Jobs retried: 2." in page.text
    newest = await ended(ferry, [jobs[-1] + 1, jobs[-1] + 2])
    assert [job["status"] for job in newest] == ["success", "success"]


async def test_what_could_not_be_cancelled_is_shown_with_its_reason(ferry: Deployment, administrator: Browser):
    await pushed(ferry, "v1", "v2")
    done = await started(ferry, "v1")
    await ended(ferry, done)
    held = ferry.hold(SOUTH)
    (running,) = await started(ferry, "v2")

    page = await administrator.post(
        JOBS, [("next", JOBS), ("action", "cancel"), ("job", str(running)), ("job", str(done[0]))], follow=True
    )

    assert page.status == 200
    assert page.rows() == [[str(done[0]), "not cancelled", "it has ended already"], [str(running), "cancelled", ""]]
    held.released.set()


async def test_bulk_actions_on_200_jobs_are_one_request_and_more_are_refused(ferry: Deployment, administrator: Browser):
    tags = [f"v{number}" for number in range(bounds.JOBS_SELECTED)]
    await pushed(ferry, "other")
    jobs = await started(ferry, *tags)
    await ended(ferry, jobs)
    for tag in tags:
        await images.push(ferry.store(NORTH), name_in(TEAM, WEB), SAMPLE, Tag(tag))
    chosen = [("action", "retry"), ("next", JOBS), *(("job", str(job)) for job in jobs)]

    page = await administrator.post(JOBS, chosen, follow=True)
    refused = await administrator.post(JOBS, [*chosen, ("job", "1000000")])

    assert f"Jobs retried: {bounds.JOBS_SELECTED}." in page.text
    assert refused.status == 400
    assert "at most 200 jobs" in refused.text


async def test_a_job_shows_its_progress_what_it_moved_and_its_timeline(ferry: Deployment, administrator: Browser):
    await pushed(ferry, "v1")
    (job,) = await started(ferry, "v1")
    await ended(ferry, [job])

    page = await administrator.get(f"{JOBS}/{job}")

    assert page.heading == "team/web:v1"
    assert "100 %" in page.text
    size = sum(len(content) for content in SAMPLE.all_blobs.values())
    figures = [text_of(one) for one in page.all("div[@class='figure']")]
    assert f"Copied{size} B2 blobs" in figures
    events_shown = [text_of(one) for one in page.all("ol/li")]
    assert len(events_shown) == 9
    assert "Tag written" in events_shown[-2]
    assert not page.all("*[@data-live]")
    assert not page.all("form[@action='/console/jobs']")


async def test_a_conflict_is_explained_and_resolved_with_override(ferry: Deployment, administrator: Browser):
    await pushed(ferry, "v1")
    await images.push(ferry.store(SOUTH), name_in(RELEASE, WEB), OTHER, Tag("v1"))
    (job,) = await started(ferry, "v1")
    await ended(ferry, [job])

    page = await administrator.get(f"{JOBS}/{job}")
    assert "retry with override" in page.text
    # Otherwise the retry would find the other image again.
    assert f"tagferry job retry {job} --override" in page.text
    assert '"override": true' in page.text
    shown = await administrator.post(JOBS, {**page.form("/console/jobs"), "action": "retry"}, follow=True)

    assert shown.heading == "team/web:v1"
    (replaced,) = await ended(ferry, [job + 1])
    assert (replaced["status"], replaced["override"]) == ("success", True)


async def test_jobs_and_their_actions_are_shown_to_those_who_may(ferry: Deployment):
    await pushed(ferry, "v1")
    (job,) = await started(ferry, "v9")
    await ended(ferry, [job])
    abilities = {}
    for name, source, target in (
        ("reader", Permission.READ, None),
        ("editor", Permission.EDIT, Permission.EDIT),
        ("manager", Permission.MANAGE, Permission.MANAGE),
        ("writer", None, Permission.EDIT),
        ("stranger", None, None),
    ):
        browser = await signed_in(ferry, name)
        if source is not None:
            await ferry.grant(name, NORTH, TEAM, source)
        if target is not None:
            await ferry.grant(name, SOUTH, RELEASE, target)
        shown = await browser.get(f"{JOBS}/{job}")
        acted = await browser.post(JOBS, {"action": "retry", "job": str(job), "next": JOBS}, follow=True)
        abilities[name] = (
            len((await browser.get(JOBS)).rows()) > 0,
            shown.status,
            bool(shown.all("form[@action='/console/jobs']")) if shown.status == 200 else False,
            acted.heading == "team/web:v9",
        )

    assert abilities == {
        "reader": (True, 200, False, False),
        "editor": (True, 200, True, True),
        "manager": (True, 200, True, True),
        "writer": (False, 404, False, False),
        "stranger": (False, 404, False, False),
    }


# Changes while a page is open.


async def test_changes_arrive_as_parts_of_the_page_by_their_ids(ferry: Deployment, administrator: Browser):
    await pushed(ferry, "v1")
    held = ferry.hold(SOUTH)
    (job,) = await started(ferry, "v1")
    page = await administrator.get(JOBS)
    address = page.one("*[@data-live]").get("data-live", "")
    assert f"jobs={job}" in address

    async with streaming(administrator, address) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert answer.headers["Cache-Control"] == "no-store"
        assert f'id="job-{job}-state"' in await until(answer, "running")
        held.released.set()
        event = await until(answer, "success")

    assert event.startswith("event: parts\ndata: <div")
    assert len(page.all(f"*[@id='job-{job}-state']")) == len(page.all(f"*[@id='job-{job}-progress']")) == 1


async def test_the_page_of_a_job_gets_its_timeline_and_its_end(ferry: Deployment, administrator: Browser):
    await pushed(ferry, "v1")
    held = ferry.hold(SOUTH)
    (job,) = await started(ferry, "v1")
    page = await administrator.get(f"{JOBS}/{job}")

    async with streaming(administrator, page.one("*[@data-live]").get("data-live", "")) as answer:
        await until(answer, f'id="job-{job}-timeline"')
        held.released.set()
        await until(answer, "Tag written")


async def test_the_first_page_gets_the_changes_of_jobs_that_run_and_announces_new_ones(
    ferry: Deployment, administrator: Browser
):
    await pushed(ferry, "v1", "v2")
    held = ferry.hold(SOUTH)
    (job,) = await started(ferry, "v1")

    async def shown() -> Page | None:
        page = await administrator.get("/console/")
        return page if page.all(f"*[@id='job-{job}-progress']") else None

    page = await eventually(shown)
    assert page is not None
    assert "running" in text_of(page.one(f"*[@id='job-{job}-state']"))
    live = page.one("*[@data-live]")
    assert [one.get("id") for one in live.iter("div") if one.get("role") == "status"] == ["jobs-new"]
    address = live.get("data-live", "")
    assert parse_qs(urlsplit(address).query) == {"jobs": [str(job)], "after": [str(job)]}

    async with streaming(administrator, address) as answer:
        await until(answer, f'id="job-{job}-progress"')
        await started(ferry, "v2")
        assert f'href="{JOBS}"' in await until(answer, "1 new job")
        held.released.set()
        assert f'id="job-{job}-state"' in await until(answer, "success")


async def test_new_jobs_are_announced_not_inserted(ferry: Deployment, administrator: Browser):
    await pushed(ferry, "v1", "v2")
    held = ferry.hold(SOUTH)
    await started(ferry, "v1")
    page = await administrator.get(f"{JOBS}?repository=team/web")

    async with streaming(administrator, page.one("*[@data-live]").get("data-live", "")) as answer:
        await until(answer, "running")
        await started(ferry, "v2")
        assert "repository=team" in await until(answer, "1 new job")
    held.released.set()


@pytest.mark.parametrize(("done", "shown"), [(0, "0 %"), (999, "99 %"), (1000, "99 %"), (1100, "99 %")])
async def test_a_job_that_runs_is_never_shown_as_done(ferry: Deployment, administrator: Browser, done: int, shown: str):
    await pushed(ferry, "v1")
    (job,) = await started(ferry, "v1")
    await ended(ferry, [job])
    values = {"status": "running", "bytes_total": 1000, "bytes_done": done}
    async with ferry.app.accounts.database.write() as session:
        await session.execute(update(SyncJobRow).values(values))

    figures = [text_of(one) for one in (await administrator.get(f"{JOBS}/{job}")).all("div[@class='figure']")]

    assert f"Done{shown}" in figures


async def test_a_page_of_an_ended_job_does_not_show_when_jobs_of_others_begin(
    ferry: Deployment, administrator: Browser, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(events, "_HEARTBEAT_SECONDS", 0.2)
    monkeypatch.setattr(events, "_DETAILS_SECONDS", 0.0)
    monkeypatch.setattr(events, "_NEWS_SECONDS", 0.0)
    await pushed(ferry, "v1")
    await pushed(ferry, "v2", repository=APP)
    (job,) = await started(ferry, "v1")
    await ended(ferry, [job])
    browser = await signed_in(ferry, "carol", team=Permission.READ)
    async with (
        streaming(browser, f"/console/events?jobs={job}&details=1") as one,
        streaming(browser, f"/console/events?after={job - 1}&repository=team/web") as many,
    ):
        await until(one, "success")
        await until(many, "1 new job")
        for _ in range(3):
            await ended(ferry, await started(ferry, "v2", repository=APP))
        for answer in (one, many):
            heartbeats = 0
            async for line in answer.content:
                assert line != b"event: parts\n"
                heartbeats += line == b": alive\n"
                # Those of the time in which the jobs ran, and some more.
                if heartbeats > 20:
                    break


async def test_the_commands_of_a_list_have_its_filter(ferry: Deployment, administrator: Browser):
    await pushed(ferry, "v1")
    (job,) = await started(ferry, "v1")
    await ended(ferry, [job])

    page = await administrator.get(f"{JOBS}?repository=team/web&state=problems&since=1h")
    shown = [text_of(code) for code in page.all("pre")]
    assert any(line.startswith("tagferry job list team/web ") and "--since 1h" in line for line in shown)
    assert any("repository=web" in line and "since=2" in line for line in shown)

    # It has succeeded, so it cannot be retried.
    page = await administrator.get(f"{JOBS}/{job}")
    assert not any("retry" in text_of(code) for code in page.all("pre"))


async def test_a_stream_ends_with_its_session(
    ferry: Deployment, administrator: Browser, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(events, "_HEARTBEAT_SECONDS", 0.1)
    async with streaming(administrator, "/console/events?after=0") as answer:
        await until(answer, ": alive")
        await administrator.post("/console/sign-out")
        await until(answer, "event: ended")
    refused = await administrator.get("/console/events", headers={"Accept": "text/event-stream"})
    assert refused.status == 401


async def test_a_stream_ends_when_the_caller_may_no_longer_see_a_job(
    ferry: Deployment, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(events, "_HEARTBEAT_SECONDS", 0.1)
    await pushed(ferry, "v1")
    held = ferry.hold(SOUTH)
    (job,) = await started(ferry, "v1")
    browser = await signed_in(ferry, "carol", team=Permission.READ)

    async with streaming(browser, f"/console/events?jobs={job}") as answer:
        await until(answer, ": alive")
        async with ferry.app.accounts.database.write() as session:
            await session.execute(delete(OrganizationPermissionRow).where(OrganizationPermissionRow.permission == 1))
        await until(answer, "event: reload")
    held.released.set()


async def test_a_stream_ends_when_the_caller_is_no_administrator_any_more(
    ferry: Deployment, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(events, "_HEARTBEAT_SECONDS", 0.1)
    await pushed(ferry, "v1")
    held = ferry.hold(SOUTH)
    (job,) = await started(ferry, "v1")
    browser = await signed_in(ferry, "carol")
    users = ferry.app.accounts.users
    carol = await users.find("carol")
    await users.update(carol.user_id, is_admin=True)

    async with streaming(browser, f"/console/events?jobs={job}") as answer:
        await until(answer, ": alive")
        await users.update(carol.user_id, is_admin=False)
        await until(answer, "event: reload")
    held.released.set()


async def test_a_stream_ends_without_an_error_when_the_database_is_lost(
    ferry: Deployment, administrator: Browser, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(events, "_HEARTBEAT_SECONDS", 0.1)
    async with streaming(administrator, "/console/events?after=0") as answer:
        await until(answer, ": alive")

        async def lost(*_: Any, **__: Any) -> None:
            raise Unavailable("the database does not answer")

        monkeypatch.setattr(type(ferry.app.services.console.tokens), "session", lost)
        async with asyncio.timeout(30):
            await answer.content.read()


async def test_open_streams_do_not_count_as_requests_in_progress_and_end_with_the_server(
    ferry: Deployment, administrator: Browser
):
    load, live = ferry.app.services.load, ferry.app.services.console.live
    async with streaming(administrator, "/console/events?after=0") as answer:
        await until(answer, "retry:")
        assert load.busy == 0
        await live.close()
        async with asyncio.timeout(60):
            await answer.content.read()
    closed = await administrator.get("/console/events", headers={"Accept": "text/event-stream"})
    assert closed.status == 503


async def test_streams_are_limited_for_each_user(
    ferry: Deployment, administrator: Browser, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(bounds, "CONSOLE_STREAMS_OF_USER", 1)
    async with streaming(administrator, "/console/events?after=0") as answer:
        await until(answer, "retry:")
        refused = await administrator.get("/console/events")
        assert refused.status == 429
        monkeypatch.setattr(bounds, "CONSOLE_STREAMS_OF_USER", 8)
        monkeypatch.setattr(bounds, "CONSOLE_STREAMS", 1)
        assert (await administrator.get("/console/events")).status == 503


async def test_streams_that_are_opened_at_the_same_time_do_not_exceed_the_limit(
    administrator: Browser, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(bounds, "CONSOLE_STREAMS_OF_USER", 1)
    require_room = events.Streams.require_room
    asked: list[str] = []

    def admits_two(self: events.Streams, user_id: str) -> None:
        asked.append(user_id)
        # The second one is admitted before the first one has begun.
        if len(asked) != 3:
            require_room(self, user_id)

    monkeypatch.setattr(events.Streams, "require_room", admits_two)
    async with streaming(administrator, "/console/events?after=0") as first:
        await until(first, "retry: 2000")
        async with streaming(administrator, "/console/events?after=0") as second, asyncio.timeout(30):
            assert (second.status, await second.content.read()) == (200, b"retry: 30000\n\n")


async def test_a_stream_ends_after_its_time(ferry: Deployment, administrator: Browser, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(events, "_STREAM_SECONDS", 0.2)
    monkeypatch.setattr(events, "_HEARTBEAT_SECONDS", 0.1)
    async with streaming(administrator, "/console/events?after=0") as answer, asyncio.timeout(30):
        assert b"retry:" in await answer.content.read()


@pytest.mark.parametrize("jobs", ["x", "1,,x", "1;2", ",".join(map(str, range(1, 202)))])
async def test_a_stream_of_invalid_ids_is_refused(administrator: Browser, jobs: str):
    assert (await administrator.get(f"/console/events?jobs={jobs}")).status == 400


@pytest.mark.parametrize("terms", ["state=none", "repository=.", "to=%00", "since=1y", "by=%00"])
async def test_so_is_one_with_an_invalid_filter(administrator: Browser, terms: str):
    assert (await administrator.get(f"/console/events?after=0&{terms}")).status == 400


async def test_the_head_of_a_stream_is_no_stream(administrator: Browser):
    async with asyncio.timeout(30):
        answer = await administrator.send("HEAD", "/console/events?after=0")
    assert answer.headers["Content-Type"].startswith("text/event-stream")


# Synchronize.


async def test_a_sync_is_planned_first_and_leads_to_its_jobs(ferry: Deployment, administrator: Browser):
    await pushed(ferry, "v1", "v2")
    await images.push(ferry.store(SOUTH), name_in(RELEASE, WEB), OTHER, Tag("v2"))
    assert (await administrator.get(SYNCHRONIZE)).form(SYNCHRONIZE)["region"] == NORTH
    choose = await administrator.get(f"{SYNCHRONIZE}?region={NORTH}&repository=team/web")
    assert f"{SOUTH}/{RELEASE}" in choose.text
    target = f"region={NORTH}&repository=team/web&to={SOUTH}/{RELEASE}&tag=v1&tag=v2&tag="

    plan = await administrator.get(f"{SYNCHRONIZE}?{target}")

    size = sum(len(content) for content in SAMPLE.all_blobs.values())
    assert [(row[0], row[2]) for row in plan.rows()] == [("v1", f"{size} B"), ("v2", "0 B")]
    assert "will be copied" in plan.rows()[0][1]
    assert "conflict" in plan.rows()[1][1]
    assert "Conflicts: 1." in plan.text
    assert "tagferry sync team/web:v1 team/web:v2" in plan.text
    assert listed(await administrator.get(JOBS)) == []

    (post,) = [one for one in plan.all("form[@method='post']") if one.get("action") == SYNCHRONIZE]
    fields = {one.get("name", ""): one.get("value", "") for one in post.iter("input")}
    jobs = await administrator.post(SYNCHRONIZE, fields, follow=True)

    assert jobs.path.startswith(f"{JOBS}?request=")
    assert "Jobs started: 2." in jobs.text
    assert [name.removesuffix(NORTH) for name in listed(jobs)] == ["team/web:v2", "team/web:v1"]


async def test_all_tags_are_synchronized_with_override_to_one_job_each(ferry: Deployment, administrator: Browser):
    await pushed(ferry, "v1")
    await images.push(ferry.store(SOUTH), name_in(RELEASE, WEB), OTHER, Tag("v1"))
    chosen = {"region": NORTH, "repository": "team/web", "to": f"{SOUTH}/{RELEASE}", "tags": "all", "override": "on"}

    plan = await administrator.get(
        f"{SYNCHRONIZE}?region={NORTH}&repository=team/web&to={SOUTH}/{RELEASE}&tags=all&override=on"
    )
    page = await administrator.post(SYNCHRONIZE, chosen, follow=True)

    assert "Override replaces the images that the target has under: v1." in plan.text
    assert page.heading == "team/web:v1"
    (job,) = await ended(ferry, [1])
    assert (job["status"], job["override"]) == ("success", True)


@pytest.mark.parametrize(
    ("query", "status", "field"),
    [
        ("repository=nothing", 400, "repository"),
        ("repository=team/web&to=nowhere/x&tag=v1", 400, "to"),
        ("repository=team/web&to=cn-north-208&tag=v1", 400, "to"),
        ("repository=team/web&to=cn-north-208/unknown&tag=v1", 404, ""),
        ("repository=team/web&to=cn-north-4/team&tag=v1", 400, "to"),
        ("repository=team/web&to=cn-north-208/release&tag=-v", 400, "tag"),
        ("repository=unknown/web", 404, ""),
    ],
)
async def test_a_choice_that_is_refused_shows_why(
    ferry: Deployment, administrator: Browser, query: str, status: int, field: str
):
    await pushed(ferry, "v1")

    page = await administrator.get(f"{SYNCHRONIZE}?region={NORTH}&{query}")

    assert page.status == status
    assert page.all(f"p[@id='{field}-problem']") if field else page.all("p[@role='alert']")


async def test_a_sync_needs_the_permissions_of_the_api(ferry: Deployment):
    await pushed(ferry, "v1")
    reader, stranger = await signed_in(ferry, "reader", team=Permission.READ), await signed_in(ferry, "stranger")
    chosen = {"region": NORTH, "repository": "team/web", "to": f"{SOUTH}/{RELEASE}", "tag": "v1"}

    offered = await reader.get(f"{SYNCHRONIZE}?region={NORTH}&repository=team/web")
    assert "You may write to no other organization" in offered.text
    assert (await reader.post(SYNCHRONIZE, chosen)).status == 403
    assert (await stranger.get(f"{SYNCHRONIZE}?region={NORTH}&repository=team/web")).status == 403
    refused = await stranger.post(SYNCHRONIZE, chosen)
    assert refused.status == 403
    assert "v1" not in [text_of(one) for one in refused.all("fieldset/label")]


async def test_a_change_is_rendered_once_for_all_streams(
    ferry: Deployment, administrator: Browser, monkeypatch: pytest.MonkeyPatch
):
    await pushed(ferry, "v1")
    held = ferry.hold(SOUTH)
    (job,) = await started(ferry, "v1")
    render, rendered = events._render, Counter[Any]()

    def noted(parts: events.LiveParts, language: str) -> str:
        if parts.job is not None:
            rendered[parts.job.status, parts.job.bytes_done, parts.job.snapshot] += 1
        return render(parts, language)

    async with AsyncExitStack() as streams:
        address = f"/console/events?jobs={job}"
        answers = [await streams.enter_async_context(streaming(administrator, address)) for _ in range(8)]
        for answer in answers:
            await until(answer, "<progress")
        monkeypatch.setattr(events, "_render", noted)
        for answer in answers * 3:
            await until(answer, "<progress")
    held.released.set()

    # How many changes there are before the last stream has sent the third one depends on the machine.
    assert set(rendered.values()) == {1}


async def test_streams_look_for_new_jobs_together():
    streams, may_end = events.Streams(), asyncio.Event()
    begun: list[int] = []

    async def look() -> NewJobs:
        begun.append(1)
        await may_end.wait()
        return NewJobs([], marker=None)

    looking = [asyncio.create_task(streams.new_jobs("the same", look)) for _ in range(50)]
    await asyncio.sleep(0)
    looking += [asyncio.create_task(streams.new_jobs("the same", look)) for _ in range(50)]
    await asyncio.sleep(0)
    may_end.set()
    await asyncio.gather(*looking)

    # Those that come during a look need a later one.
    assert len(begun) == 2
