"""Fill the database and the registries of an installation with much of everything, past its server."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bench.console.scale import MANY, RULES_OF_MANY, TRIGGERS_OF_MANY, Scale
from bench.lists.content import Shelf
from bench.rows import Rows, stored
from bench.served import ORGANIZATION, SOURCE_REGION, TARGET_REGION
from tagferry.names import Digest

_DAYS = 10
_OTHERS = 100
"""Repositories of one organization for each one in an organization of its own."""
_COPIED = 10
"""The other region lacks every tenth tag."""
_MEMBERS = 8
"""Users with a session, in addition to the administrator."""
_POSTPONED = 2_000
"""The newest jobs, at most, which wait for their next attempt."""
_EVENTS = 200
"""Steps in the timelines of the jobs that are shown."""
_PROBLEMS = {0: "failed", 1: "failed", 2: "existed", 3: "timeout", 4: "cancel"}
"""The states of some of each hundred jobs; the others have succeeded."""
_READ, _EDIT, _MANAGE = 1, 3, 7
_Row = dict[str, object]


@dataclass(frozen=True, slots=True)
class Filled:
    """The sessions and names that a visitor needs to open pages.

    Attributes:
        administrator: the session of the administrator.
        members: the sessions of users with a permission in the organization.
        member: the name of the first of them.
        member_id: that user's id.
        rule: the id of a rule.
        trigger: the name of a trigger.
        jobs: the ids of a job in each state.
        middle: the id of a job in the middle.
    """

    administrator: str
    members: tuple[str, ...]
    member: str
    member_id: str
    rule: int
    trigger: str
    jobs: Mapping[str, int]
    middle: int


def repository(number: int) -> tuple[str, str]:
    """Return the organization and the name of a repository."""
    if number % _OTHERS == _OTHERS - 1:
        return f"org{number // _OTHERS:03}", f"r{number:05}"
    return ORGANIZATION, f"r{number:05}"


def fill_registries(data: Path, scale: Scale) -> list[Digest]:
    """Add the images of both regions; returns the digests of the images in the repositories with one."""
    source, target = Shelf(data), Shelf(data, region=TARGET_REGION)
    digests = []
    for number in range(scale.repositories):
        organization, name = repository(number)
        digests.append(source.add(name, 1, organization=organization))
    source.add(MANY, scale.tags)
    target.add(MANY, scale.tags, leaving_out=_COPIED)
    return digests


def fill_database(database: str | Path, scale: Scale, digests: Sequence[Digest]) -> Filled:
    """Add the records.

    Args:
        database: the URL of a database of PostgreSQL, or the file of SQLite, whose server does not run.
        scale: how much of everything.
        digests: those of `fill_registries`.
    """
    return _Filling(Rows(database), scale, digests).run()


class _Filling:
    def __init__(self, rows: Rows, scale: Scale, digests: Sequence[Digest]) -> None:
        self._rows = rows
        self._scale = scale
        self._digests = digests
        self._now = datetime.now(UTC)
        self._begun = self._now - timedelta(days=_DAYS)
        self._admin, self._domain = rows.select("SELECT id, domain_id FROM users ORDER BY created_at LIMIT 1")[0]
        self._organizations: dict[str, int] = {}
        self._repositories: dict[tuple[str, str], int] = {}

    def run(self) -> Filled:
        self._fill_accounts()
        self._fill_repositories()
        self._fill_automation()
        self._rows.insert("sync_jobs", self._jobs())
        jobs = {
            status: self._rows.select(f"SELECT max(id) FROM sync_jobs WHERE status = '{status}'")[0][0]  # noqa: S608
            for status in ("success", "failed", "existed", "waiting")
        }
        self._rows.insert("sync_job_attempts", (self._attempt(jobs[status]) for status in ("success", "failed")))
        self._rows.insert("audit_records", self._audit_records())
        self._rows.insert("processes", self._processes())
        (rule,) = self._rows.select("SELECT min(id) FROM sync_rules")[0]
        return Filled(
            administrator=_session(self._admin),
            members=tuple(_session(_user(number)) for number in range(_MEMBERS)),
            member=_name(0),
            member_id=_user(0),
            rule=rule,
            trigger="t000",
            jobs=jobs,
            middle=jobs["success"] // 2,
        )

    def _at(self, number: int, of: int) -> str:
        """Return the time of one of several events, which are spread over the days."""
        return stored(self._begun + (self._now - self._begun) * number / of)

    def _fill_accounts(self) -> None:
        now = stored(self._now)
        self._rows.insert("domains", ({"id": _id(f"domain {n}"), "name": f"domain{n:03}"} for n in range(50)))
        user = {"domain_id": self._domain, "password_hash": "none", "is_admin": False, "enabled": True}
        self._rows.insert(
            "users",
            ({"id": _user(n), "name": _name(n), **user, "created_at": now} for n in range(self._scale.users)),
        )
        key = {"secret_encrypted": "none", "description": "", "enabled": True, "created_at": now}
        self._rows.insert(
            "access_keys",
            ({"access_key": f"AK{n:018}", "user_id": _user(n), **key} for n in range(self._scale.users)),
        )
        expiry = {"issued_at": now, "expires_at": stored(self._now + timedelta(hours=20))}
        self._rows.insert(
            "tokens",
            (
                {
                    "token_hash": hashlib.sha256(_session(owner).encode()).hexdigest(),
                    "user_id": owner,
                    "method": "console",
                    "is_scoped": False,
                    **expiry,
                }
                for owner in (self._admin, *map(_user, range(_MEMBERS)))
            ),
        )
        ((last,),) = self._rows.select("SELECT max(id) FROM organizations")
        created = {"domain_id": self._domain, "creator_id": self._admin, "creator_name": "admin", "created_at": now}
        names = [name for n in range(self._scale.repositories) if (name := repository(n)[0]) != ORGANIZATION]
        places = [(SOURCE_REGION, name) for name in names] + [(TARGET_REGION, ORGANIZATION)]
        self._rows.insert(
            "organizations",
            (
                {"id": last + place, "region": region, "name": name, **created}
                for place, (region, name) in enumerate(places, start=1)
            ),
        )
        found = self._rows.select(f"SELECT name, id FROM organizations WHERE region = '{SOURCE_REGION}'")  # noqa: S608
        self._organizations = dict(found)
        self._rows.insert("organization_permissions", self._permissions(last + len(places)))

    def _permissions(self, target: int) -> Iterator[_Row]:
        source = self._organizations[ORGANIZATION]
        for n in range(self._scale.users):
            level = _MANAGE if n % 100 == 1 else _EDIT if n % 10 == 0 else _READ
            yield {"organization_id": source, "user_id": _user(n), "permission": level, "position": n + 1}
        for n in range(_MEMBERS):
            yield {"organization_id": target, "user_id": _user(n), "permission": _EDIT, "position": n + 1}

    def _fill_repositories(self) -> None:
        now = stored(self._now)
        names = [*(repository(number) for number in range(self._scale.repositories)), (ORGANIZATION, MANY)]
        record = {
            "category": "other",
            "description": "The image of a service.",
            "is_public": False,
            "creator_id": self._admin,
            "creator_name": "admin",
            "created_at": now,
            "updated_at": now,
        }
        self._rows.insert(
            "repositories",
            (
                {
                    "region": SOURCE_REGION,
                    "namespace": namespace,
                    "name": name,
                    "organization_id": self._organizations[namespace],
                    **record,
                }
                for namespace, name in names
            ),
        )
        self._rows.insert(
            "repository_downloads",
            ({"region": SOURCE_REGION, "namespace": space, "name": name, "downloads": 7} for space, name in names),
        )
        found = self._rows.select("SELECT namespace, name, id FROM repositories")
        self._repositories = {(namespace, name): row for namespace, name, row in found}
        many = self._repositories[ORGANIZATION, MANY]
        self._rows.insert(
            "repository_permissions",
            (
                {"repository_id": many, "user_id": _user(n), "permission": _EDIT, "position": n}
                for n in range(self._scale.users)
            ),
        )
        share = {"description": "", "creator_id": self._admin, "creator_name": "admin"}
        self._rows.insert(
            "repository_shares",
            (
                {
                    "repository_id": many,
                    "domain_name": f"domain{n:03}",
                    **share,
                    "created_at": now,
                    "updated_at": now,
                }
                for n in range(50)
            ),
        )

    def _fill_automation(self) -> None:
        now = stored(self._now)
        self._rows.insert("sync_rules", self._rules())
        # They have handled what exists, so that the measured server starts no synchronization.
        handled = {"tag": "v0", "latest_job_id": 0, "hops": "[]"}
        rules = self._rows.select("SELECT id FROM sync_rules ORDER BY id")[: self._scale.rules]
        self._rows.insert(
            "sync_rule_tags",
            ({"rule_id": rule, **handled, "digest": self._digests[n]} for n, (rule,) in enumerate(rules)),
        )
        many = self._repositories[ORGANIZATION, MANY]
        settings = {
            "enabled": False,
            "action": "update",
            "trigger_type": "all",
            "condition": ".*",
            "trigger_mode": "cce",
            "cluster_id": "",
            "cluster_name": "production",
            "cluster_ns": "default",
            "app_type": "deployments",
            "application": "web",
            "container": "",
            "creator_id": self._admin,
            "creator_name": "admin",
            "created_at": now,
        }
        self._rows.insert(
            "triggers", ({"repository_id": many, "name": f"t{n:03}", **settings} for n in range(TRIGGERS_OF_MANY))
        )
        triggers = [row for (row,) in self._rows.select("SELECT id FROM triggers ORDER BY id")]
        self._rows.insert("deliveries", self._deliveries(triggers))
        rules = [{"template": "tag_rule", "params": {"num": "1000"}, "tag_selectors": []}]
        policy = {"repository_id": many, "rules": json.dumps(rules), "created_at": now, "updated_at": now}
        # It has just run, so that the measured server deletes nothing.
        self._rows.insert("retention_policies", [{**policy, "ran_at": now}])
        ((policy_id,),) = self._rows.select("SELECT id FROM retention_policies")
        self._rows.insert(
            "retention_deletions",
            (
                {
                    "repository_id": many,
                    "policy_id": policy_id,
                    "template": "tag_rule",
                    "tag": f"old{n}",
                    "digest": _digest(n),
                    "created_at": self._at(n, self._scale.tags),
                }
                for n in range(self._scale.tags)
            ),
        )

    def _rules(self) -> Iterator[_Row]:
        now = stored(self._now)
        rules = [(*repository(n), ORGANIZATION) for n in range(self._scale.rules)]
        rules += [(ORGANIZATION, MANY, f"copy{n:02}") for n in range(RULES_OF_MANY)]
        for n, (namespace, name, target) in enumerate(rules):
            yield {
                "created_at": now,
                "updated_at": now,
                "domain_id": self._domain,
                "domain_name": "bench",
                "creator_id": self._admin,
                "source_region": SOURCE_REGION,
                "namespace": namespace,
                "repository": name,
                "target_region": TARGET_REGION,
                "target_namespace": target,
                "override": True,
                "sync_auto": n < self._scale.rules and n % 10 > 0,
                "latest_job_id": 0,
            }

    def _deliveries(self, triggers: list[int]) -> Iterator[_Row]:
        for n in range(self._scale.deliveries):
            at = self._at(n, self._scale.deliveries)
            yield {
                "trigger_id": triggers[n % len(triggers)],
                "event_id": _id(f"event {n}"),
                "occurred_at": at,
                "tag": f"v{n % 1000}",
                "digest": _digest(n % 1000),
                "status": "failed" if n % 10 == 0 else "success",
                "attempts": 1,
                "due_at": at,
                "ended_at": at,
                "detail": "the webhook answered 500" if n % 10 == 0 else "the webhook answered 200",
            }

    def _jobs(self) -> Iterator[_Row]:
        total = self._scale.jobs
        waiting = total - min(_POSTPONED, total // 10)
        later = stored(self._now + timedelta(days=365))
        for n in range(total):
            namespace, name = (ORGANIZATION, MANY) if n % 2 else repository(n // 2 % self._scale.repositories)
            at, status = self._at(n, total), "waiting" if n >= waiting else _status(n)
            user = n % self._scale.users
            yield {
                "request_id": _id(f"request {n // 100}"),
                "rule_id": n % self._scale.rules + 1 if n % 5 == 0 else None,
                "created_at": at,
                "updated_at": at,
                "started_at": at,
                "ended_at": None if status == "waiting" else at,
                "next_attempt_at": later if status == "waiting" else None,
                "domain_id": self._domain,
                "domain_name": "bench",
                "operator_id": _user(user),
                "operator_name": _name(user),
                "source_region": SOURCE_REGION,
                "namespace": namespace,
                "repository": name,
                "tag": f"v{n % self._scale.tags}",
                "target_region": TARGET_REGION,
                "target_namespace": ORGANIZATION,
                "source_organization_id": self._organizations[namespace],
                "override": True,
                "status": status,
                "reason": "" if status in ("success", "waiting") else "the target registry refused the manifest",
                "last_error": "the registry answered 503" if status == "waiting" else None,
                "digest": _digest(n % self._scale.tags),
                "bytes_total": 112_300_000,
                "bytes_done": 0 if status == "waiting" else 112_300_000,
                "attempts": 1,
                "failures": 1 if status == "waiting" else 0,
            }

    def _attempt(self, job: int) -> _Row:
        events: list[list[Any]] = [[0, "compared", _digest(job), 112_300_000, _EVENTS]]
        events += [[place * 10, "blob", _digest(place), 1_000_000, 0, "uploaded"] for place in range(_EVENTS)]
        return {
            "job_id": job,
            "attempt": 1,
            "worker": "bench",
            "started_at": stored(self._now),
            "ended_at": stored(self._now),
            "blobs_uploaded": _EVENTS,
            "bytes_uploaded": 112_300_000,
            "blobs_mounted": 0,
            "bytes_mounted": 0,
            "blobs_present": 0,
            "bytes_present": 0,
            "blobs_omitted": 0,
            "events": json.dumps(events),
        }

    def _audit_records(self) -> Iterator[_Row]:
        for n in range(self._scale.audit_records):
            namespace, name = repository(n % self._scale.repositories)
            yield {
                "occurred_at": self._at(n, self._scale.audit_records),
                "user_name": _name(n % self._scale.users),
                "method": "POST",
                "operation": "synchronize images" if n % 3 else "create a retention policy",
                "path": f"/v2/manage/namespaces/{namespace}/repos/{name}/sync_images",
                "status": 403 if n % 100 == 0 else 200,
                "is_refused": n % 100 == 0,
                "region": SOURCE_REGION,
                "address": "192.0.2.1",
                "request_id": _id(f"audited {n}"),
                "organization": namespace,
                "repository": f"{namespace}/{name}",
                "times": 1,
            }

    def _processes(self) -> Iterator[_Row]:
        now = stored(self._now)
        for n in range(self._scale.processes):
            yield {
                "id": _id(f"process {n}"),
                "name": f"worker{n}:1",
                "version": "1.0",
                "regions": json.dumps([SOURCE_REGION, TARGET_REGION]),
                "slots": 32,
                "running": 0,
                "is_leader": False,
                "started_at": now,
                "seen_at": now,
            }


def _status(number: int) -> str:
    return _PROBLEMS.get(number % 100, "success")


def _id(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _user(number: int) -> str:
    return _id(f"user {number}")


def _name(number: int) -> str:
    return f"user{number:04}"


def _session(owner: str) -> str:
    """Return the value of a user's session."""
    return hashlib.sha256(f"session of {owner}".encode()).hexdigest()


def _digest(number: int) -> str:
    return f"sha256:{hashlib.sha256(str(number).encode()).hexdigest()}"
