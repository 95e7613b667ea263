"""The rules and triggers of a repository are remembered until another process changes them, on both databases."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import event

from tagferry.accounts.model import Caller
from tagferry.accounts.repositories import Repositories, RepositoryMetadata
from tagferry.automation.rules.store import Rules, RuleSpec
from tagferry.automation.triggers.store import Triggers
from tagferry.db.engine import Database
from tagferry.names import Namespace, RegionId, Repository, RepositoryName, RepositoryRef
from tests.unit.automation.hooked import SPEC

NORTH, SOUTH = RegionId("north"), RegionId("south")
SOURCE = RepositoryRef(NORTH, Namespace("team"), Repository("app"))
CAROL = Caller(user_id="1", name="carol", domain_id="2", domain_name="acme", is_admin=False)


@pytest.fixture
async def other(database_url: str) -> AsyncIterator[Database]:
    """The same database, as another process has it."""
    opened = Database(database_url)
    yield opened
    await opened.close()


def executed(database: Database) -> list[str]:
    statements: list[str] = []
    event.listen(
        database._engine.sync_engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2])
    )
    return statements


async def test_a_rule_made_by_another_process_is_seen_at_once(database: Database, other: Database):
    rules, elsewhere = Rules(database), Rules(other)
    assert await rules.of_repository(SOURCE) == []
    statements = executed(database)
    assert await rules.of_repository(SOURCE) == await rules.of_repository(SOURCE, only_active=True) == []
    assert statements == []

    spec = RuleSpec(CAROL, SOURCE, SOUTH, Namespace("team"), sync_auto=True)
    made = await elsewhere.put(spec, {}, source_organization_id=None, target_organization_id=None)
    assert [rule.id for rule in await rules.of_repository(SOURCE, only_active=True)] == [made.id]

    await elsewhere.delete(made.id)
    assert await rules.of_repository(SOURCE) == []


async def test_a_trigger_switched_by_another_process_is_seen_at_once(database: Database, other: Database):
    triggers, elsewhere = Triggers(database), Triggers(other)
    repository = await Repositories(other).create(
        CAROL, NORTH, RepositoryName("team/app"), RepositoryMetadata(is_public=False)
    )
    assert await triggers.of_repository(SOURCE, only_enabled=True) == []
    statements = executed(database)
    assert await triggers.of_repository(SOURCE, only_enabled=True) == []
    assert statements == []

    await elsewhere.create(CAROL, repository.id, SPEC, enabled=True, baseline={})
    (made,) = await triggers.of_repository(SOURCE, only_enabled=True)
    assert (made.source, made.spec) == (SOURCE, SPEC)

    await elsewhere.switch(made.id, enabled=False, baseline={})
    assert await triggers.of_repository(SOURCE, only_enabled=True) == []
    assert [one.enabled for one in await triggers.of_repository(SOURCE)] == [False]
