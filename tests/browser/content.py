"""An installation with something on every page, and the list of pages."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import insert

from tagferry.accounts.grants import Grant
from tagferry.accounts.model import Caller, Permission
from tagferry.app import DEFAULT_DOMAIN
from tagferry.automation.triggers.store import TriggerSpec
from tagferry.copy.timeline import Amount, Event, Step
from tagferry.db.tables import SyncJobRow
from tagferry.health.model import CheckKind, HealthState, RegionHealth
from tagferry.names import Namespace, RegionId, RepositoryName, RepositoryRef, Tag
from tagferry.oci.images import BlobOutcome
from tagferry.sync.jobs.attempts import write_attempts
from tagferry.sync.jobs.model import AttemptRecord
from tests.browser.images_content import LONG, fill_images
from tests.browser.shown import Shown
from tests.support import images
from tests.support.deployment import NORTH, RELEASE, SOUTH, TEAM, Deployment, eventually, name_in

PASSWORD = "a long enough password"


async def fill(ferry: Deployment) -> list[Shown]:
    """Fill an installation, and return all pages; a page that is added to the console is added here, too."""
    await _jobs(ferry)
    return [
        *await _accounts(ferry),
        *await fill_images(ferry),
        *await _records(ferry),
        *await _members(ferry),
        *await _job_pages(ferry),
        Shown("overview", "/console/"),
        Shown("missing", "/console/nothing", 404),
    ]


async def _jobs(ferry: Deployment) -> None:
    """Record jobs of every state; those that are open wait for a time that does not come."""
    now, rows = datetime.now(UTC), []
    for at in range(160):
        status = "success" if at % 9 else ("failed", "existed", "timeout", "cancel")[at // 9 % 4]
        rows.append(job(at, status, ended_at=now - timedelta(minutes=at * 9 + at % 7 * 40)))
    later = {"next_attempt_at": now + timedelta(days=1), "last_error": "registry cn-north-208 does not answer"}
    rules = [job(300 + at, "success" if at else "failed", ended_at=now, rule_id=1) for at in range(4)]
    rows += [{**one, "repository": "platform/web", "tag": f"v2.49.{11 - at}"} for at, one in enumerate(rules)]
    rows += [job(200 + at, "waiting", **later) for at in range(3)]
    async with ferry.app.accounts.database.write() as session:
        await session.execute(insert(SyncJobRow), [{**dict.fromkeys(COLUMNS), **row} for row in rows])


COLUMNS = ("ended_at", "rule_id", "started_at", "next_attempt_at", "last_error")
_REPOSITORIES = ("crm", "search/indexer", "platform/base", "web", LONG)
_REASONS = {
    "failed": 'registry cn-north-208 refused the blob "sha256:4b1c": insufficient scope; grant push to its account',
    "existed": 'the target has another image under the tag "v2"; synchronize it with override to replace it',
    "timeout": "timed out while queued",
}


def job(at: int, status: str, **more: Any) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "request_id": f"request-{at}",
        "created_at": now - timedelta(hours=2),
        "updated_at": now,
        "domain_id": "d" * 32,
        "domain_name": DEFAULT_DOMAIN,
        "operator_id": "u" * 32,
        "operator_name": ("wang.fang", "release-bot", "ci")[at % 3],
        "source_region": NORTH,
        "namespace": TEAM,
        "repository": _REPOSITORIES[at % len(_REPOSITORIES)],
        "tag": f"v2.49.{at}",
        "target_region": SOUTH,
        "target_namespace": RELEASE,
        "override": False,
        "status": status,
        "reason": _REASONS.get(status, ""),
        "bytes_total": 1_900_000_000,
        "bytes_done": 1_900_000_000 if status == "success" else 513_800_000,
        **more,
    }


async def _accounts(ferry: Deployment) -> list[Shown]:
    users = ferry.app.services.iam.users
    long_name = "a-name-as-long-as-names-can-be-" + "x" * 33
    for at, name in enumerate(("wang.fang", "release-bot", "ci", long_name)):
        description = "release pipeline of the platform team" if at % 2 else ""
        await users.create(name, PASSWORD, domain=DEFAULT_DOMAIN, description=description, enabled=at != 2)
    user = await users.find("wang.fang")
    key = await ferry.app.services.iam.keys.create(user.user_id, description="release pipeline")
    path, own = f"/console/users/{user.user_id}", ferry.admin.key.access_key
    return [
        Shown("account", "/console/account"),
        Shown("key-delete", f"/console/account/keys/{own}/delete"),
        Shown("users", "/console/users"),
        Shown("users-empty", "/console/users?name=nobody"),
        Shown("user-new", "/console/users/new"),
        Shown("user", path),
        Shown("user-delete", f"{path}/delete"),
        Shown("user-key-delete", f"{path}/keys/{key.access_key}/delete"),
    ]


async def _records(ferry: Deployment) -> list[Shown]:
    headers = {"X-Auth-Token": await ferry.token()}
    long = "organization-as-long-as-names-can-be-" + "x" * 27
    for name in ("another", long):
        await ferry.http("POST", "/v2/manage/namespaces", headers=headers, body={"namespace": name})
    await ferry.http("DELETE", "/v2/manage/namespaces/missing/repos/shop$web/tags/v1", headers=headers)
    await ferry.http("GET", "/v2/manage/namespaces")
    trail, region = ferry.app.services.trail, RegionId("cn-north-4")
    assert trail is not None

    async def is_recorded() -> bool:
        return not trail._unwritten

    await eventually(is_recorded)
    health = ferry.app.services.console.health
    admin = await ferry.app.services.iam.users.find(ferry.admin.name)
    caller = Caller(admin.user_id, admin.name, admin.domain_id, admin.domain_name, is_admin=True)
    await health.check_now(caller, region)
    now = datetime.now(UTC)
    await health._records.save(
        RegionHealth(
            region=RegionId("cn-north-208"),
            kind=CheckKind.REGISTRY,
            state=HealthState.UNREACHABLE,
            reason="registry cn-north-208 could not be reached to authenticate its user: connection refused",
            since=now - timedelta(hours=3),
            checked_at=now,
            latency=0.0234,
            smoothed_latency=0.0312,
            certificate_expires_at=now + timedelta(days=9),
            throttled_until=now + timedelta(minutes=3),
        )
    )
    return [
        Shown("regions", "/console/regions"),
        Shown("region", "/console/regions/cn-north-4"),
        Shown("region-unreachable", "/console/regions/cn-north-208"),
        Shown("audit", "/console/audit"),
        Shown("audit-refused", "/console/audit?refused=true"),
        Shown("audit-empty", "/console/audit?user=nobody"),
        Shown("workers", "/console/workers"),
    ]


async def _members(ferry: Deployment) -> list[Shown]:
    north, name = RegionId("cn-north-4"), RepositoryName("team/permitted")
    await images.push(ferry.store(north), name, images.image(seed="permitted"), Tag("v1"))
    accounts = ferry.app.accounts
    caller = await accounts.users.find(ferry.admin.name)
    for user, permission in (("wang.fang", Permission.MANAGE), ("release-bot", Permission.EDIT)):
        await accounts.organizations.grant(north, Namespace("team"), user, permission)
    services, region = ferry.app.services.console, ferry.app.services.console.regions[north]
    member = await accounts.users.find("ci")
    await services.members.add_to_repository(caller, region, name, [Grant(member.user_id, "", Permission.READ)])
    await accounts.users.create("partner", PASSWORD, domain="partners")
    await services.sharing.create(
        caller, region, name, "partners", deadline=datetime.now(UTC) + timedelta(days=90), description="for the audit"
    )
    triggers = services.triggers._triggers
    record = await services.repository_inventory.record_to_change(caller, region, name, Permission.EDIT)
    spec = TriggerSpec(
        name="deploy",
        trigger_type="regular",
        condition="^v[0-9]+$",
        application="shop",
        app_type="deployments",
        cluster_ns="default",
        cluster_name="production",
    )
    await triggers._triggers.create(caller, record, spec, enabled=True, baseline={})
    await images.push(ferry.store(north), name, images.image(seed="changed"), Tag("v2"))
    await ferry.app.services.watch.try_scan(RepositoryRef.of(north, name))
    path = "/console/images/cn-north-4/team/permitted"
    organization = "/console/images/cn-north-4/team:members"
    return [
        Shown("members", organization),
        Shown("members-remove", f"{organization}/{caller.user_id}/remove"),
        Shown("permissions", f"{path}/members"),
        Shown("permissions-remove", f"{path}/members/{member.user_id}/remove"),
        Shown("sharing", f"{path}/sharing"),
        Shown("sharing-edit", f"{path}/sharing?domain=partners"),
        Shown("sharing-end", f"{path}/sharing/end?domain=partners"),
        Shown("triggers", f"{path}/triggers"),
        Shown("trigger", f"{path}/triggers/deploy"),
        Shown("trigger-new", f"{path}/triggers:new"),
        Shown("trigger-delete", f"{path}/triggers/deploy/delete"),
    ]


async def _job_pages(ferry: Deployment) -> list[Shown]:
    """Jobs in every state; none of them is run, since each has ended, runs elsewhere, or waits for long."""
    now, long_name = datetime.now(UTC), "repository/as-long/as-names-can-be-" + "x" * 93
    states: list[tuple[str, str, str, int, int, str, dict[str, Any]]] = [
        ("running", "team", "shop/web", 1_900_000_000, 513_800_000, "", {}),
        ("running", "team", "search/indexer", 0, 0, "", {}),
        ("waiting", "team", "crm", 0, 0, "", {"failures": 2, "last_error": "registry eu-west-1 answered 503"}),
        ("success", "team", "shop/cart", 872_000_000, 872_000_000, "copied and verified", {}),
        ("success", "release", "platform/base", 0, 0, "up to date", {"rule_id": 7}),
        ("existed", "team", "shop/web", 0, 0, "the target holds another image under this tag; send override=true", {}),
        ("failed", "team", long_name, 1_100_000_000, 579_600_000, "blob sha256:5b0d2f is damaged at the source", {}),
        ("timeout", "team", "shop/web", 1_100_000_000, 79_600_000, "the request's deadline passed", {}),
        ("cancel", "team", "shop/web", 0, 0, "cancelled by wang.fang", {}),
    ]
    rows = []
    for at, (status, namespace, repository, total, done, reason, more) in enumerate(states):
        has_ended = status not in ("running", "waiting")
        rows.append(
            {
                "request_id": f"request-{at}",
                "created_at": now - timedelta(minutes=7 * (at + 1)),
                "updated_at": now,
                "domain_id": "",
                "domain_name": DEFAULT_DOMAIN,
                "operator_id": "",
                "operator_name": ("wang.fang", "release-bot", "admin")[at % 3],
                "source_region": "cn-north-4",
                "namespace": namespace,
                "repository": repository,
                "tag": f"v2.49.{399 - at}",
                "target_region": "cn-north-208",
                "target_namespace": "release",
                "override": False,
                "status": status,
                "reason": reason,
                "digest": f"sha256:{at:064x}" if status == "success" else None,
                "bytes_total": total,
                "bytes_done": done,
                "attempts": 1,
                "ended_at": now - timedelta(minutes=7 * at + 2) if has_ended else None,
                "next_attempt_at": now + timedelta(hours=2) if status == "waiting" else None,
                **more,
            }
        )
    async with ferry.app.accounts.database.write() as session:
        ids = [
            (await session.execute(insert(SyncJobRow).values(**row).returning(SyncJobRow.id))).scalar_one()
            for row in rows
        ]
        begin = now - timedelta(minutes=9)
        blobs = [
            Event(begin.timestamp() + 1 + at, Step.BLOB, f"sha256:{at:064x}", 40_000_000 * at, 0, outcome, source)
            for at, (outcome, source) in enumerate(
                [
                    (BlobOutcome.PRESENT, ""),
                    (BlobOutcome.MOUNTED, "release/platform/base"),
                    (BlobOutcome.UPLOADED, ""),
                    (BlobOutcome.UPLOADED, ""),
                ]
            )
        ]
        steps = (
            Event(begin.timestamp() + 0.2, Step.COMPARED),
            Event(begin.timestamp() + 0.4, Step.PLANNED, "", 10**9, 7),
        )
        moved = Amount(2, 200_000_000)
        await (await session.connection()).run_sync(
            write_attempts,
            [
                AttemptRecord(ids[0], 1, "copier-1:4711", begin, events=(*steps, *blobs), uploaded=moved),
                AttemptRecord(ids[5], 1, "copier-1:4711", begin, now, events=steps[:1]),
                AttemptRecord(ids[6], 1, "copier-2:17", begin, now, events=(*steps, *blobs), uploaded=moved, omitted=3),
            ],
        )
    image = images.image(seed="web")
    for tag in ("v1", "v2", "latest"):
        await images.push(ferry.store(RegionId("cn-north-4")), name_in("team", "shop/web"), image, Tag(tag))
    await images.push(ferry.store(RegionId("cn-north-208")), name_in("release", "shop/web"), images.image(), Tag("v2"))
    plan = (
        "/console/synchronize?region=cn-north-4&repository=team/shop/web&to=cn-north-208/release&tag=v1&tag=v2&tag=v9"
    )
    return [
        Shown("jobs", "/console/jobs"),
        Shown("jobs-empty", "/console/jobs?by=nobody"),
        Shown("jobs-filtered", "/console/jobs?state=problems&region=cn-north-4&repository=team/shop/web"),
        Shown("job-running", f"/console/jobs/{ids[0]}"),
        Shown("job-waiting", f"/console/jobs/{ids[2]}"),
        Shown("job-conflict", f"/console/jobs/{ids[5]}"),
        Shown("job-failed", f"/console/jobs/{ids[6]}"),
        Shown("synchronize", "/console/synchronize"),
        Shown("synchronize-plan", plan),
    ]
