"""All checks of an installation, each within a time, and the registries at once."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from tagferry.app.startup.configuration import load_settings
from tagferry.app.startup.problem import StartRefused
from tagferry.diagnosis.addresses import check_addresses
from tagferry.diagnosis.clock import check_clock
from tagferry.diagnosis.database import DatabaseFacts, inspect_database
from tagferry.diagnosis.files import check_certificates, check_configuration, check_disks, check_files, disk_faults
from tagferry.diagnosis.model import Component, Finding, Findings
from tagferry.diagnosis.registry import KnownOfRegistry, RegistryFacts, check_registry
from tagferry.diagnosis.start import check_start, finding_of
from tagferry.errors import NotFound
from tagferry.http.explanation import one_line, without_secrets
from tagferry.names import RegionId
from tagferry.remote.capabilities import Capabilities
from tagferry.settings import Settings

Result = TypeVar("Result")

_CONCURRENT_REGISTRIES = 32


async def diagnose(file: Path, *, regions: Collection[str] = (), seconds: float = 10.0) -> list[Finding]:
    """Check an installation.

    Args:
        file: the configuration.
        regions: the regions whose registries are checked; all if empty.
        seconds: the time that each check may take; the database is checked before the registries.

    Raises:
        NotFound: there is no such region.
    """
    try:
        settings = load_settings(file)
    except StartRefused as error:
        found = [finding_of(Component.CONFIGURATION, problem) for problem in error.problems]
        return [replace(one, subject=str(file), message=one.message.removeprefix(f"{file}: ")) for one in found]
    return await examine(settings, file, regions=regions, seconds=seconds)


async def examine(
    settings: Settings, file: Path, *, regions: Collection[str] = (), seconds: float = 10.0
) -> list[Finding]:
    """Check an installation whose configuration is valid; see `diagnose`."""
    for name in regions:
        if name not in settings.regions:
            raise NotFound("region", name, f"the configuration has {', '.join(settings.regions)}")
    (local, disks), facts = await asyncio.gather(
        _safely(Component.FILES, "", asyncio.to_thread(_check_machine, settings, file), lambda failed: (failed, ())),
        _safely(Component.DATABASE, "", _database(settings, seconds), lambda failed: DatabaseFacts(findings=failed)),
    )
    known = [f"disk of {name}" for name in disks]
    looking = check_addresses(settings, seconds=seconds, served=facts.served, known=known)
    addresses, registries = await asyncio.gather(
        _safely(Component.ADDRESS, "", looking, lambda failed: failed), _registries(settings, facts, regions, seconds)
    )
    return [
        *local,
        *check_clock(_differences(facts, registries), _written_files(settings), recorded_at=facts.recorded_at),
        *facts.findings,
        *addresses,
        *(finding for registry in registries.values() for finding in registry.findings),
    ]


async def _safely(
    component: Component, subject: str, work: Awaitable[Result], failed: Callable[[list[Finding]], Result]
) -> Result:
    """Return the result of a check. If the check itself fails, that is a finding, and the others are still made."""
    try:
        return await work
    except Exception as error:
        findings = Findings(component, subject)
        findings.problem(
            f"could not be checked: {type(error).__name__}: {one_line(without_secrets(str(error)))}",
            "report this as an error of tagferry, with the output of this command",
        )
        return failed(findings.all)


def _check_machine(settings: Settings, file: Path) -> tuple[list[Finding], Collection[RegionId]]:
    """Return the findings about this machine, and the regions about whose disks there is a warning or a problem."""
    faulty = disk_faults(settings).keys()
    findings = [
        *check_configuration(settings, file),
        *check_start(settings, known=faulty),
        *check_files(settings, file),
        *check_certificates(settings),
        *check_disks(settings),
    ]
    return findings, faulty


async def _database(settings: Settings, seconds: float) -> DatabaseFacts:
    # Half of the time for the content of SQLite's file, so that the rest is checked as well.
    work = asyncio.ensure_future(asyncio.to_thread(inspect_database, settings, seconds / 2))
    done, _ = await asyncio.wait([work], timeout=seconds)
    if done:
        return work.result()
    findings = Findings(Component.DATABASE)
    findings.problem(
        f"did not answer within {seconds:g} s", "check that its server runs, or give it more time with --timeout"
    )
    return DatabaseFacts(findings=findings.all)


async def _registries(
    settings: Settings, facts: DatabaseFacts, regions: Collection[str], seconds: float
) -> dict[str, RegistryFacts]:
    names = [
        RegionId(name)
        for name, region in settings.regions.items()
        if not region.is_embedded and (not regions or name in regions)
    ]
    slots = asyncio.Semaphore(_CONCURRENT_REGISTRIES)

    async def check(name: RegionId) -> RegistryFacts:
        region = settings.regions[name]
        known = KnownOfRegistry(
            samples=facts.samples.get(name, ()),
            capabilities=facts.capabilities.get(region.url, Capabilities()),
            health=facts.health.get(name),
        )
        async with slots:
            checking = check_registry(name, region, known, seconds=seconds)
            return await _safely(Component.REGISTRY, name, checking, RegistryFacts)

    return dict(zip(names, await asyncio.gather(*map(check, names)), strict=True))


def _differences(facts: DatabaseFacts, registries: dict[str, RegistryFacts]) -> dict[str, timedelta]:
    found = {f"registry {name}": registry.clock_difference for name, registry in registries.items()}
    found["the database"] = facts.clock_difference
    return {name: difference for name, difference in found.items() if difference is not None}


def _written_files(settings: Settings) -> Sequence[Path]:
    return [settings.data_dir / "tagferry.db", settings.data_dir / "tagferry.db-wal"]
