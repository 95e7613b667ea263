"""`tagferry sync`: synchronize images through the API."""

import json
from typing import Annotated, Any

import typer

from tagferry.cli.client import ManagementClient
from tagferry.cli.follow import Followed, follow
from tagferry.cli.options import AccessKey, CaFile, Endpoint, SecretKey, err, out, run
from tagferry.cli.plan_table import show_plan
from tagferry.cli.watch import report_outcome, run_interruptible
from tagferry.errors import Invalid
from tagferry.names import Namespace, RegionId, Repository, Tag

app = typer.Typer()

Images = Annotated[list[str], typer.Argument(metavar="ORG/REPO:TAG...", help="The images to synchronize.")]
Target = Annotated[str, typer.Option("--to", metavar="REGION/ORG", help="The target region and organization.")]
Timeout = Annotated[
    float | None,
    typer.Option("--timeout", metavar="SECONDS", help="Give up after this many seconds, including queue time."),
]


@app.command()
def sync(
    images: Images,
    to: Target,
    endpoint: Endpoint,
    access_key: AccessKey,
    secret_key: SecretKey,
    override: Annotated[bool, typer.Option("--override", help="Replace different images with the same tag.")] = False,
    timeout: Timeout = None,
    ca_file: CaFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the final job records, or the plan, as JSON.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be copied, and change nothing.")] = False,
) -> None:
    """Synchronize images to another region and follow the progress. Exits with code 1 if a tag is not copied."""
    wanted = _by_repository(images)
    region, _, organization = to.partition("/")
    target = {
        "remoteRegionId": RegionId(region, field="--to"),
        "remoteNamespace": Namespace(organization, field="--to"),
        "override": override,
    }
    if timeout is not None:
        target["timeoutSeconds"] = timeout

    client = ManagementClient(endpoint, access_key, secret_key, ca_file=ca_file)
    if dry_run:
        _preview(run(_plan(client, wanted, target)), as_json=as_json)
    else:
        followed: list[Followed] = []
        report_outcome(run_interruptible(_sync(client, wanted, target, followed), followed), as_json=as_json)


Wanted = dict[tuple[Namespace, Repository], list[Tag]]
Plans = dict[tuple[Namespace, Repository], dict[str, Any]]


async def _sync(
    client: ManagementClient, wanted: Wanted, target: dict[str, Any], followed: list[Followed]
) -> list[dict[str, Any]]:
    async with client:
        for (namespace, repository), tags in wanted.items():
            started = await client.start_sync(namespace, repository, {"imageTag": tags, **target})
            followed.append(Followed(namespace, repository, started.tags, started.request_id))
        return await follow(client, followed, console=err)


async def _plan(client: ManagementClient, wanted: Wanted, target: dict[str, Any]) -> Plans:
    async with client:
        return {key: await client.plan_sync(*key, {"imageTag": tags, **target}) for key, tags in wanted.items()}


def _preview(plans: Plans, *, as_json: bool) -> None:
    tags = [tag for plan in plans.values() for tag in plan["tags"]]
    if as_json:
        out.print_json(json.dumps(tags))
    else:
        show_plan(plans, out)
    if any(tag["action"] in ("failed", "existed") for tag in tags):
        raise typer.Exit(1)


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
