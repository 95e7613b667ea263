"""The commands that are built with typer, each imported only when it runs."""

import gc
import importlib
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

NAMES = (
    "init",
    "serve",
    "worker",
    "reload",
    "job",
    "tags",
    "locate",
    "demo",
    "user",
    "key",
    "secret",
    "org",
    "region",
    "registry",
    "doctor",
    "audit",
)


class _Commands(TyperGroup):
    """A group that loads each command from the module of the same name, where it is `app`."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(NAMES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in NAMES:
            return None
        command = get_command(importlib.import_module(f"tagferry.cli.{cmd_name}").app)
        command.name = cmd_name
        # Imported modules live until exit, so the garbage collector need not scan them.
        gc.freeze()
        return command


app = typer.Typer(name="tagferry", cls=_Commands, pretty_exceptions_enable=False, add_completion=False)


@app.callback()
def tagferry() -> None:
    """Copy container images between registries, complete and bit-identical."""
