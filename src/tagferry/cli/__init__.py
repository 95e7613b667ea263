"""The command line: one file a command."""

import sys

import typer
from rich.console import Console

from tagferry.cli import demo, init, key, org, region, serve, sync, user
from tagferry.errors import TagferryError

app = typer.Typer(
    name="tagferry",
    help="Moves container images between registries, complete and bit-identical.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("init")(init.init)
app.command("serve")(serve.serve)
app.command("sync")(sync.sync)
app.command("demo")(demo.demo)
app.add_typer(user.app, name="user")
app.add_typer(key.app, name="key")
app.add_typer(org.app, name="org")
app.add_typer(region.app, name="region")


def main() -> None:
    """Run the command line; an error is one sentence on standard error, and exit code 1."""
    try:
        app()
    except TagferryError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"[red]error:[/red] {error.message}")
        sys.exit(1)


__all__ = ["app", "main"]
