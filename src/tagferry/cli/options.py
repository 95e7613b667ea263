"""Options that several commands share, and how a command runs."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
import uvloop
from rich.console import Console

Result = TypeVar("Result")

ConfigFile = Annotated[
    Path, typer.Option("--config", "-c", envvar="TAGFERRY_CONFIG", help="The configuration file.", show_default=True)
]
Endpoint = Annotated[
    str, typer.Option(envvar="TAGFERRY_ENDPOINT", help="The source region's address, as http://127.0.0.1:5004.")
]
AccessKey = Annotated[str, typer.Option("--ak", envvar="CLOUD_SDK_AK", help="The access key.")]
SecretKey = Annotated[
    str, typer.Option("--sk", envvar="CLOUD_SDK_SK", help="The secret key; better given by the environment.")
]
CaFile = Annotated[Path | None, typer.Option(help="Authorities to trust in addition to the system's, as a PEM file.")]
DEFAULT_CONFIG = Path("tagferry.toml")

out = Console(highlight=False)
"""Where commands write what they were asked for."""
err = Console(stderr=True, highlight=False)
"""Where commands write everything else."""


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a command's work on a fast event loop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)
