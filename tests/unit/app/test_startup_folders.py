"""Disks and a lost database are reported before a start."""

from pathlib import Path

import pytest

from tagferry.app.startup.database import check_database
from tagferry.app.startup.folders import check_reserves
from tagferry.app.startup.site import check_site
from tagferry.settings import Settings
from tests.support.processes import free_port


def settings(folder: Path, *, reserve: int) -> Settings:
    regions = {"north": {"listen": f"127.0.0.1:{free_port()}"}, "hub": {"registry": "https://registry.example.com"}}
    (folder / "registries" / "north").mkdir(parents=True)
    return Settings.parse({"data_dir": folder, "regions": regions, "limits": {"disk_reserve_bytes": reserve}})


async def test_a_disk_with_only_its_reserve_left_is_a_warning_of_a_check(tmp_path: Path):
    (found,) = (
        one for one in await check_site(settings(tmp_path, reserve=2**62), serves=True) if one.subject == "region north"
    )

    assert (found.severity, found.subject) == ("warning", "region north")
    assert str(found).endswith(
        "has only its reserve left, so pushes and syncs to the region wait; free some space, enlarge the disk, "
        "or lower limits.disk_reserve_bytes"
    )


def test_a_disk_with_enough_space_is_no_problem(tmp_path: Path):
    assert check_reserves(settings(tmp_path, reserve=0)) == []


@pytest.mark.parametrize("has_key", [False, True])
async def test_a_database_that_is_missing_beside_data_is_a_warning(tmp_path: Path, has_key: bool):
    parsed = settings(tmp_path, reserve=0)
    if has_key:
        (tmp_path / "secret.key").touch()

    (found,), _ = await check_database(parsed, serves=True)

    assert found.severity == ("warning" if has_key else "note")
    assert ("restore it from a backup" in str(found)) is has_key
