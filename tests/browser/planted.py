"""Markup in everything that users, registries and processes have said: it must stay text on every page."""

import json

from sqlalchemy import func, text, update

from tagferry.db.tables import SyncJobRow as Row
from tagferry.names import RepositoryName, Tag
from tests.browser.shown import Shown
from tests.support.deployment import NORTH, TEAM, Deployment, eventually
from tests.support.images import artifact, configured, layer, push

_COLUMNS = (
    *("access_keys.description", "audit_records.address", "audit_records.organization", "audit_records.path"),
    *("audit_records.repository", "audit_records.subject_key", "audit_records.subject_user"),
    *("audit_records.user_name", "deliveries.detail", "deliveries.pushed_by", "domains.name", "processes.name"),
    *("processes.version", "region_health.reason", "repositories.description", "repository_shares.creator_name"),
    *("repository_shares.description", "sync_job_attempts.worker"),
    *("sync_jobs.last_error", "sync_jobs.operator_name", "sync_jobs.reason", "triggers.application"),
    *("triggers.cluster_name", "triggers.cluster_ns", "triggers.condition", "triggers.container"),
    *("triggers.creator_name", "users.description", "users.name"),
)
"""The columns that pages show. Names of organizations, repositories and tags have no markup: their types refuse it."""
_ALTERNATIVES = frozenset({"audit_records.repository", "sync_jobs.reason"})
"""Those that pages show in the place of another one, if there is something."""
_OF_IMAGES = ("architecture", "created_by", "artifact_type")


def markup(source: str) -> str:
    """Return text that would run a script, and fetch an image, wherever a page does not escape it."""
    script = f"alert('{source}')"
    return f"</title></textarea>'\"><img src=x onerror={script}><script>{script}</script>{{{{ 7*7 }}}}"


async def plant(ferry: Deployment) -> tuple[frozenset[str], list[Shown]]:
    """Append markup to the content of an installation; returns where it comes from, and pages of images with it."""
    database = ferry.app.accounts.database

    async def calls_have_failed() -> bool:
        async with database.read() as session:
            return not await session.scalar(text("SELECT count(*) FROM deliveries WHERE detail = ''"))

    # The next attempt would replace the detail of the first one.
    await eventually(calls_have_failed)
    async with database.write() as session:
        await session.execute(text("UPDATE deliveries SET status = 'failed'"))
        for one in _COLUMNS:
            table, _, column = one.partition(".")
            changed = Row.metadata.tables[table]
            shown = changed.c[column]
            more = update(changed).values({shown: func.coalesce(shown, "").concat(markup(one))})
            await session.execute(more.where(shown != "") if one in _ALTERNATIVES else more)
    name, store = RepositoryName(f"{TEAM}/planted"), ferry.store(NORTH)
    config = {"architecture": markup("architecture"), "os": "linux", "history": [{"created_by": markup("created_by")}]}
    image = configured(json.dumps(config).encode(), layer("planted"))
    await push(store, name, image, Tag("v1"))
    await push(store, name, artifact(subject=image.manifest, artifact_type=markup("artifact_type")))
    path = f"/console/images/{NORTH}/{TEAM}/planted"
    return frozenset((*_COLUMNS, *_OF_IMAGES)), [Shown("planted", path), Shown("planted-tag", f"{path}/tags/v1")]
