"""Request a synchronization through the API, and follow it."""

import argparse
import gc
import sys
from pathlib import Path
from typing import Any

from tagferry.cli.client import ManagementClient
from tagferry.cli.event_loop import run
from tagferry.cli.follow import Followed, display_on, follow
from tagferry.cli.lines import write_json
from tagferry.cli.references import parse_organization
from tagferry.cli.watch import report_outcome, run_interruptible
from tagferry.errors import Invalid
from tagferry.names import Namespace, Repository, Tag

Wanted = dict[tuple[Namespace, Repository], list[Tag]]
Plans = dict[tuple[Namespace, Repository], dict[str, Any]]


def sync(options: argparse.Namespace) -> int:
    """Synchronize the images that the options of the command name; return the exit code."""
    wanted = _by_repository(options.images)
    region, organization = parse_organization(options.to, field="--to")
    target = {
        "remoteRegionId": region,
        "remoteNamespace": organization,
        "override": options.override,
    }
    if options.timeout is not None:
        target["timeoutSeconds"] = options.timeout

    ca_file = Path(options.ca_file) if options.ca_file else None
    client = ManagementClient(options.endpoint, options.ak, options.sk, ca_file=ca_file)
    gc.freeze()
    gc.enable()
    if options.dry_run:
        return _preview(run(_plan(client, wanted, target)), as_json=options.json)
    followed: list[Followed] = []
    report_outcome(run_interruptible(_sync(client, wanted, target, followed), followed), as_json=options.json)
    return 0


async def _sync(
    client: ManagementClient, wanted: Wanted, target: dict[str, Any], followed: list[Followed]
) -> list[dict[str, Any]]:
    async with client:
        for (namespace, repository), tags in wanted.items():
            started = await client.start_sync(namespace, repository, {"imageTag": tags, **target})
            followed.append(Followed(namespace, repository, started.tags, started.request_id))
        return await follow(client, followed, on=display_on(sys.stderr))


async def _plan(client: ManagementClient, wanted: Wanted, target: dict[str, Any]) -> Plans:
    async with client:
        return {key: await client.plan_sync(*key, {"imageTag": tags, **target}) for key, tags in wanted.items()}


def _preview(plans: Plans, *, as_json: bool) -> int:
    tags = [tag for plan in plans.values() for tag in plan["tags"]]
    if as_json:
        write_json(tags)
    else:
        from rich.console import Console

        from tagferry.cli.plan_table import show_plan

        show_plan(plans, Console(highlight=False))
    return 1 if any(tag["action"] in ("failed", "existed") for tag in tags) else 0


def _by_repository(images: list[str]) -> Wanted:
    found: Wanted = {}
    for image in images:
        name, separator, tag = image.rpartition(":")
        namespace, slash, repository = name.partition("/")
        if not separator or not slash:
            raise Invalid("image", "must have the form ORG/REPO:TAG", image)
        key = (Namespace(namespace, field="ORG"), Repository(repository, field="REPO"))
        found.setdefault(key, []).append(Tag(tag, field="TAG"))
    return found
