"""Request synchronizations through the API, and follow them."""

import argparse
import gc
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tagferry.cli import exit_codes
from tagferry.cli.client import ManagementClient
from tagferry.cli.event_loop import run
from tagferry.cli.follow import Followed, display_on, follow
from tagferry.cli.lines import write_json, write_line
from tagferry.cli.references import parse_organization
from tagferry.cli.usage import describe, naming
from tagferry.cli.watch import Jobs, report_outcome, run_interruptible
from tagferry.errors import Invalid, TagferryError
from tagferry.names import Namespace, Repository, Tag

_FIELDS = {
    "imageTag": "TAG",
    "remoteRegionId": "--to",
    "remoteNamespace": "--to",
    "timeoutSeconds": "--timeout",
    "namespace": "ORG",
    "repository": "REPO",
}
"""The arguments and options that a server calls by other names."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Tags of one repository for one target.

    Attributes:
        target: `REGION/ORG`.
        body: the body of the request.
    """

    namespace: Namespace
    repository: Repository
    target: str
    body: dict[str, Any]

    @property
    def name(self) -> str:
        """The repository with its organization."""
        return f"{self.namespace}/{self.repository}"


@dataclass(slots=True)
class Progress:
    """The requests so far: the jobs to follow, and the error of each request that was refused."""

    followed: list[Followed] = field(default_factory=list)
    refused: list[tuple[Wanted, TagferryError]] = field(default_factory=list)


def sync(options: argparse.Namespace) -> int:
    """Synchronize the images that the options of the command name; return the exit code."""
    wanted = _wanted(options)
    if options.exit_code and not options.dry_run:
        raise Invalid("--exit-code", "needs --dry-run")
    ca_file = Path(options.ca_file) if options.ca_file else None
    client = ManagementClient(options.endpoint, options.ak, options.sk, ca_file=ca_file)
    gc.freeze()
    gc.enable()
    if options.dry_run:
        with naming(_FIELDS):
            plans = run(_plan(client, wanted))
        return _preview(plans, as_json=options.json, tells_changes=options.exit_code)
    progress = Progress()
    jobs = run_interruptible(_sync(client, wanted, progress), progress.followed)
    unknown = sum(len(one.body["imageTag"]) for one, _ in progress.refused)
    code = report_outcome(jobs, as_json=options.json, failed=unknown)
    for one, error in progress.refused:
        write_line(sys.stderr, f"error: {one.name} to {one.target}: {describe(error)}")
    return exit_codes.combined([code, *(exit_codes.of_error(error) for _, error in progress.refused)])


async def _sync(client: ManagementClient, wanted: list[Wanted], progress: Progress) -> Jobs:
    """Start all synchronizations, and follow them together. One that is refused does not stop the others.

    Raises:
        TagferryError: the only one was refused.
    """
    async with client:
        for one in wanted:
            try:
                with naming(_FIELDS):
                    started = await client.start_sync(one.namespace, one.repository, one.body)
            except TagferryError as error:
                if len(wanted) == 1:
                    raise
                progress.refused.append((one, error))
                continue
            target = one.target if any(other.target != one.target for other in wanted) else ""
            progress.followed.append(
                Followed(one.namespace, one.repository, started.tags, started.request_id, target=target)
            )
        return await follow(client, progress.followed, on=display_on(sys.stderr))


async def _plan(client: ManagementClient, wanted: list[Wanted]) -> list[tuple[Wanted, dict[str, Any]]]:
    async with client:
        return [(one, await client.plan_sync(one.namespace, one.repository, one.body)) for one in wanted]


def _preview(plans: list[tuple[Wanted, dict[str, Any]]], *, as_json: bool, tells_changes: bool) -> int:
    tags = [tag | _target(one) for one, plan in plans for tag in plan["tags"]]
    if as_json:
        write_json(tags)
    else:
        from tagferry.cli.plan_table import show_plan

        show_plan([(one.name, one.target, plan) for one, plan in plans])
    codes = {"failed": exit_codes.TAG_FAILED, "existed": exit_codes.CONFLICT}
    code = exit_codes.combined([codes.get(tag["action"], exit_codes.OK) for tag in tags])
    would_copy = tells_changes and any(tag["action"] == "copy" for tag in tags)
    return exit_codes.WOULD_COPY if code == exit_codes.OK and would_copy else code


def _target(wanted: Wanted) -> dict[str, Any]:
    return {
        "namespace": wanted.namespace,
        "repoName": wanted.repository,
        "remoteRegionId": wanted.body["remoteRegionId"],
        "remoteNamespace": wanted.body["remoteNamespace"],
    }


def _wanted(options: argparse.Namespace) -> list[Wanted]:
    """Return the synchronizations: one for each repository and target."""
    images = _by_repository(options.images)
    targets = dict.fromkeys(parse_organization(to, field="--to") for to in options.to)
    more: dict[str, Any] = {"override": options.override}
    if options.timeout is not None:
        more["timeoutSeconds"] = options.timeout
    return [
        Wanted(
            *repository,
            target=f"{region}/{organization}",
            body={"imageTag": tags, "remoteRegionId": region, "remoteNamespace": organization, **more},
        )
        for region, organization in targets
        for repository, tags in images.items()
    ]


def _by_repository(images: list[str]) -> dict[tuple[Namespace, Repository], list[Tag]]:
    found: dict[tuple[Namespace, Repository], list[Tag]] = {}
    for image in images:
        name, separator, tag = image.rpartition(":")
        namespace, slash, repository = name.partition("/")
        if not separator or not slash:
            raise Invalid("ORG/REPO:TAG", "must name an image by its organization, repository and tag", image)
        if ":" in namespace:
            raise Invalid("ORG/REPO:TAG", "must begin with the organization, without a registry's address", image)
        if "@" in image:
            raise Invalid("ORG/REPO:TAG", "must name a tag; a digest cannot be synchronized without one", image)
        key = (Namespace(namespace, field="ORG"), Repository(repository, field="REPO"))
        found.setdefault(key, []).append(Tag(tag, field="TAG"))
    return found
