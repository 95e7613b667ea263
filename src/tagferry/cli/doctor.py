"""`tagferry doctor`: what is wrong with an installation, and how to fix it."""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.text import Text

from tagferry import __version__
from tagferry.cli.event_loop import run
from tagferry.cli.lines import write_json
from tagferry.cli.options import DEFAULT_CONFIG, ConfigFile, out
from tagferry.diagnosis.doctor import diagnose
from tagferry.diagnosis.model import Finding, Level, worst
from tagferry.printable import printable

app = typer.Typer(add_completion=False)

_STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.PROBLEM: "bold red"}


@app.command()
def doctor(
    config: ConfigFile = DEFAULT_CONFIG,
    region: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Check the registry of this region only. Repeatable.")
    ] = None,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", min=0.1, max=600, help="Time for each check.")] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check the installation, and say what is wrong and how to fix it. Exits with code 1 if there is a problem.

    The checks cover the configuration, files, certificates, disks, clock, database, processes, jobs, webhooks, listen
    addresses and registries. They change nothing and write to no registry. Run it as the user who runs the server.
    """
    findings = run(diagnose(config, regions=region or (), seconds=timeout))
    result = worst(findings)
    if as_json:
        write_json({"version": __version__, "status": result, "findings": [found.to_json() for found in findings]})
    else:
        _show(findings)
    if result is Level.PROBLEM:
        raise typer.Exit(1)


def _show(findings: Sequence[Finding]) -> None:
    for found in findings:
        name = f"{found.component} {found.subject}".rstrip()
        line = Text.assemble(
            (f"{found.level:<8}", _STYLES[found.level]),
            "  ",
            (printable(name), "bold"),
            f"  {printable(found.message)}",
        )
        out.print(line, soft_wrap=True)
        if found.fix:
            out.print(Text(f"{'':<8}  fix: {printable(found.fix)}"), soft_wrap=True)
    counts = Counter(found.level for found in findings)
    parts = [f"{counts[level]} {level}{'s' if counts[level] != 1 else ''}" for level in (Level.PROBLEM, Level.WARNING)]
    out.print(f"{', '.join(parts)}, {counts[Level.OK]} ok", soft_wrap=True)
