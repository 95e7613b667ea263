"""The command line: one module per command, imported only when that command runs."""

import gc
import importlib
import os
import sys
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from typer.core import TyperGroup
from typer.main import get_command

from tagferry import __version__
from tagferry.errors import DatabaseUnavailable, TagferryError

_COMMANDS = ("init", "serve", "worker", "copy", "sync", "job", "demo", "user", "key", "org", "region", "registry")


class _Commands(TyperGroup):
    """A group that loads each command from the module of the same name, where it is `app`."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in _COMMANDS:
            return None
        command = get_command(importlib.import_module(f"tagferry.cli.{cmd_name}").app)
        command.name = cmd_name
        # Imported modules live until exit, so the garbage collector need not scan them.
        gc.freeze()
        return command


app = typer.Typer(
    name="tagferry",
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tagferry {__version__}")
        raise typer.Exit


@app.callback()
def tagferry(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Copy container images between registries, complete and bit-identical."""


def main() -> None:
    """Run the command line. An error prints one sentence to standard error and exits with code 1."""
    # Files that libraries create, such as the database and the audit log, must be private from the start.
    os.umask(0o077)
    try:
        app()
    except DatabaseUnavailable as error:
        _fail(error.detail)
    except TagferryError as error:
        _fail(error.message)
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))


def _fail(message: str) -> NoReturn:
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"error: {message}", markup=False, style="red")
    sys.exit(1)
