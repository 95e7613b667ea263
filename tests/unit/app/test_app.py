"""The composition root builds each component once."""

from pathlib import Path

import pytest

from tagferry.app import open_backend
from tagferry.cli import serve
from tagferry.db.engine import Database
from tagferry.settings import Settings


def settings_in(folder: Path, **sync: object) -> Settings:
    regions = {"north": {"listen": "127.0.0.1:0", "registry": "embedded"}}
    return Settings.parse({"data_dir": folder, "regions": regions, "sync": sync})


@pytest.mark.parametrize(("given", "runs"), [(None, 2), (1, 1), (5, 5)])
async def test_as_many_jobs_are_claimed_as_can_be_copied_at_once(tmp_path: Path, given: int | None, runs: int) -> None:
    async with open_backend(settings_in(tmp_path, max_concurrent_tags=2), slots=given) as backend:
        assert backend.sync.worker.free == runs
        assert backend.sync.engine._tag_slots["north", "south"]._value == runs


async def test_a_process_that_serves_migrates_its_database_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate, migrations = Database.migrate, 0

    async def counted(database: Database) -> None:
        nonlocal migrations
        migrations += 1
        await migrate(database)

    async def signalled(_is_waiting: object) -> None:
        return

    config = tmp_path / "tagferry.toml"
    config.write_text('[regions.north]\nlisten = "127.0.0.1:0"\nregistry = "embedded"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Database, "migrate", counted)
    monkeypatch.setattr(serve, "until_signalled", signalled)
    await serve._serve(config, None)
    assert migrations == 1
    assert (tmp_path / "tagferry-data" / "first-admin.txt").exists()
