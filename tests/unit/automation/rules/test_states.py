"""The states of rules come from the newest jobs of their repositories, however many rules a page shows."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from sqlalchemy import event, insert
from sqlalchemy.engine import Engine

from tagferry.accounts.model import Caller
from tagferry.accounts.users import Users
from tagferry.automation.rules import state
from tagferry.automation.rules.service import RuleService
from tagferry.automation.rules.state import RuleStates, RuleStatus
from tagferry.automation.rules.store import Rule
from tagferry.db.engine import Database
from tagferry.db.tables import SyncJobRow
from tagferry.names import Namespace, RegionId, Repository, RepositoryRef
from tests.support.deployment import NORTH, RELEASE, SOUTH, TEAM
from tests.support.job_rows import job_row

CAROL = Caller(user_id="c" * 32, name="carol", domain_id="d" * 32, domain_name="acme", is_admin=False)
BEGUN = datetime(2026, 1, 1, tzinfo=UTC)


class Unblocked:
    """Rules and their only creator."""

    async def blocked(self, rules: Sequence[Rule], _: Mapping[str, Caller | None]) -> list[str]:
        return [""] * len(rules)

    async def by_id(self, _: str) -> Caller:
        return CAROL


@pytest.fixture
def states(database: Database) -> RuleStates:
    known = Unblocked()
    return RuleStates(rules=cast("RuleService", known), database=database, users=cast("Users", known))


def rule(number: int, repository: str) -> Rule:
    return Rule(
        id=number,
        created_at=BEGUN,
        updated_at=BEGUN,
        domain_id=CAROL.domain_id,
        domain_name=CAROL.domain_name,
        creator_id=CAROL.user_id,
        source=RepositoryRef(RegionId(NORTH), Namespace(TEAM), Repository(repository)),
        target_region=RegionId(SOUTH),
        target_namespace=Namespace(RELEASE),
        override=False,
        sync_auto=True,
        latest_job_id=0,
    )


async def record(database: Database, *jobs: dict[str, Any]) -> None:
    async with database.write() as session:
        for job in jobs:
            await session.execute(insert(SyncJobRow).values(**job_row(**{"status": "success", **job})))


async def test_each_rule_has_the_newest_jobs_of_its_own_repository(database: Database, states: RuleStates):
    await record(
        database,
        {"repository": "web", "rule_id": 1, "tag": "v1", "status": "failed"},
        {"repository": "app", "rule_id": 2, "tag": "v1", "status": "failed", "reason": "it is full"},
        {"repository": "app", "rule_id": 3, "tag": "v1"},
        {"repository": "web", "rule_id": 1, "tag": "v2"},
        {"repository": "web", "rule_id": 1, "tag": "v1"},
    )

    web, app, other, idle = await states.of_all([rule(1, "web"), rule(2, "app"), rule(3, "app"), rule(4, "tools")])

    assert (web.status, [job.id for job in web.jobs]) == (RuleStatus.IN_SYNC, [5, 4, 1])
    assert (app.status, app.reason, [job.id for job in app.jobs]) == (RuleStatus.BEHIND, "it is full", [2])
    assert (other.status, [job.id for job in other.jobs]) == (RuleStatus.IN_SYNC, [3])
    assert (idle.status, idle.jobs) == (RuleStatus.IDLE, ())


async def test_no_more_jobs_of_a_repository_are_read_than_wanted(database: Database, states: RuleStates):
    await record(database, *({"repository": name, "rule_id": 1} for name in ("web", "app") for _ in range(3)))

    web, app = await states.of_all([rule(1, "web"), rule(1, "app")], newest=2)

    assert [job.id for job in web.jobs + app.jobs] == [3, 2, 6, 5]
    assert web.is_partial


async def test_the_jobs_of_many_repositories_take_few_statements(
    database: Database, states: RuleStates, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(state, "_AT_ONCE", 4)
    await record(database, *({"repository": f"app-{number}", "rule_id": number} for number in range(10)))
    statements = []

    def note(_: object, __: object, statement: str, *___: object) -> None:
        if "sync_jobs" in statement:
            statements.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        found = await states.of_all([rule(number, f"app-{number}") for number in range(10)])
    finally:
        event.remove(Engine, "before_cursor_execute", note)

    assert [job.id for one in found for job in one.jobs] == list(range(1, 11))
    assert len(statements) == 3
