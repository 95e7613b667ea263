"""`tagferry locate`: find the repositories that hold an image."""

from typing import Annotated, Any

import typer

from tagferry.cli.client import ManagementClient
from tagferry.cli.event_loop import run
from tagferry.cli.exit_codes import FAILED
from tagferry.cli.lines import write_json
from tagferry.cli.options import AccessKey, CaFile, Endpoint, SecretKey, err, out
from tagferry.names import Digest, RepositoryName

app = typer.Typer(add_completion=False)


@app.command()
def locate(
    digest: Annotated[str, typer.Argument(metavar="DIGEST", help="The digest of a manifest, sha256:...")],
    endpoint: Endpoint,
    access_key: AccessKey,
    secret_key: SecretKey,
    repository: Annotated[
        str, typer.Option(metavar="ORG/REPO", help="A repository that probably holds it, to ask for in every region.")
    ] = "",
    ca_file: CaFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Find the regions and repositories that hold an image, as far as you may read them.

    Embedded registries are asked for all repositories, others where the image is expected. What was not asked is
    printed to standard error. Exits with code 1 if the image was not found.
    """
    wanted = Digest(digest, field="DIGEST")
    if repository:
        repository = RepositoryName(repository, field="--repository")

    async def work() -> dict[str, Any]:
        async with ManagementClient(endpoint, access_key, secret_key, ca_file=ca_file) as client:
            return await client.locate(wanted, repository)

    answer = run(work())
    if as_json:
        write_json(answer)
    else:
        for found in answer["found"]:
            out.print(f"{found['region']}/{found['namespace']}/{found['repository']}", soft_wrap=True)
        for region in answer["coverage"]:
            if not region["isComplete"]:
                asked = f"{region['asked']} repositories asked"
                err.print(f"{region['region']}: {asked}; {region['reason']}", markup=False, soft_wrap=True)
    if not answer["found"]:
        raise typer.Exit(FAILED)
