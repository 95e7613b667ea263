"""All checks together: one that is slow or fails does not hold the others."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tagferry.diagnosis import doctor
from tagferry.diagnosis.doctor import diagnose
from tagferry.diagnosis.model import Component, Level
from tests.support.processes import free_port
from tests.support.scripted_registry import Reply, scripted_registry


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tagferry.toml"
    path.write_text(f'data_dir = "data"\n[regions.north]\nlisten = "127.0.0.1:{free_port()}"\n')
    return path


async def test_a_slow_registry_does_not_hold_the_others(file: Path):
    async with scripted_registry() as slow, scripted_registry() as quick:
        slow.always("GET", "/v2/", Reply(status=200, delay=60.0))
        quick.always("GET", "/v2/*", Reply(status=200, body=b"{}"))
        with file.open("a") as configuration:
            for number in range(40):
                configuration.write(f'[regions.slow{number}]\nregistry = "{slow.url}"\n')
            configuration.write(f'[regions.quick]\nregistry = "{quick.url}"\n')
        async with asyncio.timeout(60):
            found = {one.subject: one for one in await diagnose(file, seconds=2.0) if one.component == "registry"}

    assert found["quick"].level is Level.OK
    assert {found[f"slow{number}"].level for number in range(40)} == {Level.PROBLEM}


@pytest.mark.parametrize("name", ["_check_machine", "inspect_database", "check_addresses", "check_registry"])
async def test_a_check_that_fails_itself_is_a_finding_among_the_others(
    file: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    with file.open("a") as configuration:
        configuration.write(f'[regions.hub]\nregistry = "http://127.0.0.1:{free_port()}"\n')

    def fail(*_: Any, **__: Any) -> Any:
        raise ValueError("https://u:s3cret@host failed")

    async def fail_later(*_: Any, **__: Any) -> Any:
        fail()

    monkeypatch.setattr(doctor, name, fail if name in ("_check_machine", "inspect_database") else fail_later)
    found = await diagnose(file)

    (failed,) = [one for one in found if one.message.startswith("could not be checked")]
    assert failed.level is Level.PROBLEM
    assert "ValueError" in failed.message
    assert "s3cret" not in failed.message
    assert len({one.component for one in found}) > 2
    assert Component.CLOCK in {one.component for one in found}


async def test_a_configuration_that_is_not_valid_is_the_subject_of_its_problems(file: Path):
    with file.open("a") as configuration:
        configuration.write('[limits]\nbody_bytes = "many"\n')

    (found,) = await diagnose(file)

    assert (found.component, found.level, found.subject) == (Component.CONFIGURATION, Level.PROBLEM, str(file))
    assert found.message == 'limits.body_bytes must be a whole number: got "many"'
