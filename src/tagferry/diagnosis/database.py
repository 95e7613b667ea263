"""The database: whether it can be used, and what it records about the regions. It is only read."""

import json
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from sqlalchemy import Connection, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from tagferry.accounts.keys import read_stored_secrets
from tagferry.accounts.vault import Vault
from tagferry.app.startup.secrets import key_file
from tagferry.db.faults import OLDEST_POSTGRES, denied_access, fault_of, standby, too_old
from tagferry.db.postgres import DENIED
from tagferry.db.read_only import read_only
from tagferry.db.schema import is_newest_schema, require_tables
from tagferry.db.tables import ClockRow, RegistryCapabilitiesRow
from tagferry.db.url import parse_url
from tagferry.diagnosis.activity import check_activity, served_regions
from tagferry.diagnosis.model import Component, Finding, Findings
from tagferry.errors import DatabaseUnavailable, Invalid, InvalidName, NotFound, Unavailable
from tagferry.file_faults import file_fault
from tagferry.health.model import RegionHealth
from tagferry.health.records import read_health
from tagferry.names import RegionId
from tagferry.remote.capabilities import Capabilities
from tagferry.remote.check import Sample
from tagferry.settings import Settings
from tagferry.sync.jobs.used_repositories import read_used_repositories

_IS_READ_ONLY = """
SELECT pg_is_in_recovery() OR reset_val = 'on' FROM pg_settings WHERE name = 'default_transaction_read_only'
"""
# The connection of these checks is read-only itself, whatever the server's default is.
_STEPS = 100_000
"""Steps of SQLite's machine between two looks at the time."""


@dataclass(slots=True)
class DatabaseFacts:
    """Facts from the database.

    Attributes:
        findings: about it, and about the processes, jobs and webhooks that it records.
        clock_difference: how far the clock of its server is ahead of this machine's; None if it has none of its own.
        samples: repositories that syncs have used, by region.
        capabilities: what is known about registries, by address.
        health: the regions' health as the server last recorded it.
        recorded_at: the last time that a server has recorded by its clock.
        served: the regions that recorded processes serve; None if that is unknown.
    """

    findings: list[Finding] = field(default_factory=list)
    clock_difference: timedelta | None = None
    samples: Mapping[str, Sequence[Sample]] = field(default_factory=dict)
    capabilities: Mapping[str, Capabilities] = field(default_factory=dict)
    health: Mapping[RegionId, RegionHealth] = field(default_factory=dict)
    recorded_at: datetime | None = None
    served: set[str] | None = None


def inspect_database(settings: Settings, seconds: float) -> DatabaseFacts:
    """Read the database. It blocks, so call it in a thread.

    Args:
        settings: name the database, and the key of its secrets.
        seconds: the time that the check of SQLite's file may take.
    """
    facts = DatabaseFacts()
    try:
        url = parse_url(settings.effective_database_url)
    except Invalid as error:
        findings = Findings(Component.DATABASE)
        findings.problem(error.message, "correct database_url in the configuration")
        facts.findings = findings.all
        return facts
    findings = Findings(Component.DATABASE, f"{url.database}" if url.host is None else f"{url.host}/{url.database}")
    try:
        with read_only(url) as connection:
            if _check_schema(findings, connection):
                _read(facts, findings, connection, settings, seconds)
    except NotFound:
        _missing(findings, settings)
    except Invalid as error:
        findings.problem(error.message, "correct database_url in the configuration")
    except SQLAlchemyError as error:
        fault = fault_of(error, url)
        _cannot_use(findings, fault.detail if fault is not None else str(error))
    facts.findings = [*findings.all, *facts.findings]
    return facts


def _check_schema(findings: Findings, connection: Connection) -> bool:
    """Return whether the tables can be read."""
    if connection.dialect.name == "postgresql":
        version = int(connection.scalar(text("SHOW server_version_num")) or 0)
        if version < OLDEST_POSTGRES:
            _cannot_use(findings, too_old(version).detail)
            return False
    try:
        is_newest = is_newest_schema(connection)
        if is_newest:
            require_tables(connection)
            _require_writable(connection)
    except Unavailable as error:
        _cannot_use(findings, error.detail if isinstance(error, DatabaseUnavailable) else error.message)
        return False
    if not is_newest:
        findings.warning(
            "the schema is that of an older version, or empty, so what it records was not checked",
            "start tagferry, which upgrades it; back it up before",
        )
    return is_newest


def _require_writable(connection: Connection) -> None:
    """Raise DatabaseFault for a server of PostgreSQL that accepts no writes, or not those of its user."""
    if connection.dialect.name != "postgresql":
        return
    if connection.scalar(text(_IS_READ_ONLY)):
        raise standby()
    if (denied := connection.execute(DENIED).first()) is not None:
        raise denied_access(denied.kind, denied.name)


def _read(facts: DatabaseFacts, findings: Findings, connection: Connection, settings: Settings, seconds: float) -> None:
    started, now = time.monotonic(), datetime.now(UTC)
    if connection.dialect.name == "postgresql":
        theirs = connection.scalar(text("SELECT clock_timestamp()"))
        taken = time.monotonic() - started
        if isinstance(theirs, datetime):
            facts.clock_difference = theirs.astimezone(UTC) - now - timedelta(seconds=taken / 2)
        answered = f"answers within {taken * 1000:.0f} ms"
    else:
        answered = _quick_check(findings, connection, seconds)
    with Session(bind=connection) as session:
        _check_secrets(findings, session, settings)
        regions = [RegionId(name) for name in settings.regions]
        facts.samples = {region: _samples(session, region) for region in regions}
        facts.capabilities = _capabilities(session)
        facts.health = read_health(session, now)
        facts.recorded_at = session.scalar(select(ClockRow.seen_at))
        facts.served = served_regions(session)
        facts.findings = check_activity(session, now=now + (facts.clock_difference or timedelta(0)))
    if findings.is_clean:
        findings.ok(f"can be read, and has the newest schema; {answered}")


def _quick_check(findings: Findings, connection: Connection, seconds: float) -> str:
    """Check the pages of SQLite's file as long as the time allows; return what was done."""
    driver = cast("sqlite3.Connection", connection.connection.driver_connection)
    deadline = time.monotonic() + seconds
    driver.set_progress_handler(lambda: int(time.monotonic() > deadline), _STEPS)
    try:
        result = connection.scalar(text("PRAGMA quick_check(1)"))
    except SQLAlchemyError as error:
        if getattr(getattr(error, "orig", None), "sqlite_errorcode", None) != sqlite3.SQLITE_INTERRUPT:
            raise
        return f"its content was not checked completely within {seconds:g} s"
    finally:
        driver.set_progress_handler(None, 0)
    if result != "ok":
        findings.problem(f"is damaged ({result})", "stop tagferry and restore the database from a backup")
    return "its content is intact"


def _check_secrets(findings: Findings, session: Session, settings: Settings) -> None:
    """Check that the key decrypts the secrets of the database."""
    encrypted = read_stored_secrets(session)
    if not encrypted:
        return
    path = key_file(settings)
    configured = settings.secret_key.get_secret_value() if settings.secret_key else None
    restore = "restore the key with which the secrets were encrypted: as secret_key, or as secret.key in data_dir"
    if configured is None and not path.exists():
        findings.problem(f"has encrypted secrets, but there is no key in {path}", restore)
        return
    try:
        vault = Vault.open(configured, path)
    except Invalid as error:
        findings.problem(error.message.partition(";")[0], restore)
        return
    except OSError as error:
        findings.warning(
            f"its secrets could not be checked: {path} {file_fault(error)}", "run doctor as the user who runs tagferry"
        )
        return
    if failed := sum(not vault.can_decrypt(secret) for secret in encrypted):
        add = findings.problem if failed == len(encrypted) else findings.warning
        add(f"{failed} of {len(encrypted)} secrets cannot be decrypted with the key", restore)


def _samples(session: Session, region: RegionId) -> Sequence[Sample]:
    try:
        return read_used_repositories(session, region)
    except InvalidName:
        # A damaged row, or one of a version with other rules for names.
        return ()


def _capabilities(session: Session) -> dict[str, Capabilities]:
    found: dict[str, Capabilities] = {}
    for address, document in session.execute(select(RegistryCapabilitiesRow.address, RegistryCapabilitiesRow.document)):
        try:
            known: Any = json.loads(document)
            found[address] = Capabilities.from_json(known)
        except (ValueError, TypeError, AttributeError):
            continue
    return found


def _missing(findings: Findings, settings: Settings) -> None:
    if key_file(settings).exists():
        findings.problem(
            "does not exist, although there is a key file of an installation",
            "restore the database from a backup, or correct database_url and data_dir",
        )
    else:
        findings.warning(
            "does not exist yet; the first start of tagferry creates it",
            "check data_dir if this is not a new installation",
        )


def _cannot_use(findings: Findings, detail: str) -> None:
    """Report why the database cannot be used, in a sentence that may end with advice."""
    what, _, fix = detail.partition("; ")
    findings.problem(what, fix or "check that the database server runs, and that database_url has its address")
