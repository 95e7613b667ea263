"""Detected capabilities of registries are kept in the database."""

from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import update

from tagferry.cache.capabilities import DatabaseCapabilities
from tagferry.db.engine import Database
from tagferry.db.tables import RegistryCapabilitiesRow
from tagferry.remote import Capabilities

TARGET, ELSEWHERE = "https://target.example", "https://elsewhere.example"
KNOWN = Capabilities(
    learned_at=datetime(2030, 1, 1, tzinfo=UTC),
    lists_referrers=False,
    whole_limit=10,
    unavailable={"tag list": "it answered 403"},
)


async def test_the_last_saved_capabilities_are_loaded_for_the_same_address_only(database: Database):
    await DatabaseCapabilities(database, TARGET).save(Capabilities(learned_at=KNOWN.learned_at))
    await DatabaseCapabilities(database, TARGET).save(KNOWN)

    assert await DatabaseCapabilities(database, TARGET).load() == KNOWN
    assert await DatabaseCapabilities(database, ELSEWHERE).load() == Capabilities()


async def test_an_unreadable_record_counts_as_none(database: Database):
    await DatabaseCapabilities(database, TARGET).save(KNOWN)
    for document in ("{", "[]", '{"learned_at": 1}', '{"accepted_classes": 1}', '{"refused_classes": {"x": "soon"}}'):
        async with database.write() as session:
            await session.execute(update(RegistryCapabilitiesRow).values(document=document))

        assert await DatabaseCapabilities(database, TARGET).load() == Capabilities()


async def test_an_unavailable_database_raises_no_error(tmp_path: Path):
    empty = Database(f"sqlite:///{tmp_path / 'empty.db'}")
    kept = DatabaseCapabilities(empty, TARGET)

    await kept.save(KNOWN)

    assert await kept.load() == Capabilities()
    await empty.close()
